//! What can be asked over HTTP, and by whom.

use std::net::SocketAddr;

use jetbridge_testkit::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Rig, WITHIN};

/// Status and body of a GET.
pub(crate) async fn get(address: SocketAddr, path: &str, token: &str) -> (u16, String) {
    let answer = answer(address, path, token).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// All that a GET is answered with.
pub(crate) async fn answer(address: SocketAddr, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_open_and_the_rest_wants_the_token() {
    let rig = Rig::start(
        "http: {listen: '127.0.0.1:0', token: s3cr3t}\nbuckets: {config: {}}\n\
         handlers: [{subject: 'j.>', stream: J, durable: d, run: [sh, -c, 'echo x >> done']}]",
    )
    .await;
    let address = rig.agent.http_address().unwrap();
    assert_eq!(get(address, "/healthz", "").await, (200, "ok\n".to_owned()));
    eventually("everything runs", WITHIN, async || {
        (get(address, "/readyz", "").await.0 == 200).then_some(())
    })
    .await;
    for path in ["/metrics", "/v1/status"] {
        for wrong in ["", "s3cr3", "s3cr3tt"] {
            assert_eq!(get(address, path, wrong).await.0, 401, "{path} {wrong}");
        }
    }
    rig.append("j.a", "").await;
    rig.wait_lines("done", 1).await;
    let done = "jetbridge_handler_attempts_total{handler=\"d\",outcome=\"done\"} 1";
    eventually("the attempt is counted", WITHIN, async || {
        get(address, "/metrics", "s3cr3t").await.1.contains(done).then_some(())
    })
    .await;
    let (status, body) = get(address, "/v1/status", "s3cr3t").await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["ready"], true);
    assert_eq!(body["store"]["backend"], "memory");
    let sections = body["sections"].as_array().unwrap();
    assert_eq!(sections.len(), 2);
    assert_eq!(sections[1]["handler"]["done"], 1);
    assert!(rig.stop().await.0.is_clean());
}
