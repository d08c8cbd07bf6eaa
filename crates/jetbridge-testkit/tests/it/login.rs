//! Certificates and tokens that a real server takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jetbridge_testkit::jwt::{Grant, Operator, UserKey, UserLogin};
use jetbridge_testkit::{Certificates, NatsServer, Release, ServerOptions, eventually};
use nkeys::KeyPair;

/// What the server says to a login and a ping: `PONG`, or an error.
fn log_in(server: &NatsServer, login: &UserLogin) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut greeting = String::new();
    lines.read_line(&mut greeting).unwrap();
    let nonce = greeting.split("\"nonce\":\"").nth(1).unwrap().split('"').next().unwrap();
    let keys = KeyPair::from_seed(&login.seed).unwrap();
    let signature = URL_SAFE_NO_PAD.encode(keys.sign(nonce.as_bytes()).unwrap());
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"nkey\":\"{}\",\"jwt\":\"{}\",\"sig\":\"{signature}\"}}\r\n\
         PING\r\n",
        keys.public_key(),
        login.jwt
    );
    stream.write_all(hello.as_bytes()).unwrap();
    let mut answer = String::new();
    lines.read_line(&mut answer).unwrap();
    answer.trim().to_owned()
}

#[tokio::test]
async fn a_signed_user_logs_in_and_a_stranger_does_not() {
    for release in [Release::Oldest, Release::Newest] {
        let (operator, stranger) = (Operator::new(), Operator::new());
        let account = operator.account("APP");
        let options = ServerOptions::new().config(&operator.server_config(&[&account]));
        let server = NatsServer::start(release, options).await;
        let user = account.user("ann", &Grant::all().publish(&["a.>"]));
        assert_eq!(log_in(&server, &user), "PONG");
        let other = stranger.account("APP").user("eve", &Grant::all());
        assert!(log_in(&server, &other).contains("Authorization Violation"));
        let brief = account.user("bob", &Grant::all().expires_in(Duration::from_secs(1)));
        eventually("the token expires", Duration::from_secs(10), async || {
            log_in(&server, &brief).contains("-ERR").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_bare_key_logs_in() {
    let key = UserKey::new();
    let config = format!("authorization {{ users: [{{nkey: {}}}] }}", key.public);
    let server = NatsServer::start(Release::Newest, ServerOptions::new().config(&config)).await;
    let login = UserLogin { jwt: String::new(), seed: key.seed };
    assert_eq!(log_in(&server, &login), "PONG");
}

#[test]
fn a_creds_file_holds_the_token_and_the_seed() {
    let user = Operator::new().account("APP").user("ann", &Grant::all());
    let creds = user.creds();
    assert!(creds.contains(&user.jwt) && creds.contains(&user.seed), "{creds}");
}

#[tokio::test]
async fn a_server_takes_the_certificates() {
    let certificates = Certificates::new();
    for extra in ["", "verify: true", "handshake_first: true"] {
        let options = ServerOptions::new().config(&certificates.server_config(extra));
        let server = NatsServer::start(Release::Newest, options).await;
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0; 4096];
        let greeting = stream.read(&mut buffer).map(|count| count > 0).unwrap_or(false);
        assert_eq!(greeting, extra != "handshake_first: true", "who speaks first");
        assert!(server.tls_url().starts_with("tls://localhost:"));
    }
    assert!(certificates.ca_pem().contains("BEGIN CERTIFICATE"));
    for file in [certificates.client_certificate_file(), certificates.client_key_file()] {
        assert!(file.is_file(), "{}", file.display());
    }
}
