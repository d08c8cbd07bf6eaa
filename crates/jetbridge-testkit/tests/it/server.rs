//! Real servers: they come, stay, and go.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::FutureExt as _;
use jetbridge_testkit::{NatsCluster, NatsServer, Release, ServerOptions, eventually};

const SOON: Duration = Duration::from_secs(10);
const WAIT_TO_BE_KILLED: &str = "JETBRIDGE_TESTKIT_WAIT_TO_BE_KILLED";

/// The first line a server says to whoever connects.
fn greeting(server: &NatsServer) -> String {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(server.address()).unwrap()).read_line(&mut line).unwrap();
    line
}

/// True if the server answers a ping in time.
fn answers(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return false;
        }
        if String::from_utf8_lossy(&buffer[..count]).contains("PONG") {
            return true;
        }
    }
    false
}

fn is_running(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn both_releases_start_with_jetstream() {
    for release in [Release::Oldest, Release::Newest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let greeting = greeting(&server);
        assert!(greeting.contains(&format!("\"version\":\"{}\"", release.version())), "{greeting}");
        assert!(greeting.contains("\"jetstream\":true"), "{greeting}");
        assert!(server.log().contains("Server is ready"));
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let (url, first) = (server.url(), server.pid().unwrap());
    server.kill();
    assert!(!is_running(first) && server.pid().is_none());
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart().await;
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), Some(first));
    assert!(greeting(&server).starts_with("INFO"));
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = NatsServer::start(Release::Oldest, ServerOptions::new()).await;
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
    assert!(answers(&mut stream, SOON));
    server.pause().await;
    assert!(!answers(&mut stream, Duration::from_millis(300)));
    server.resume();
    assert!(answers(&mut stream, SOON));
}

#[tokio::test]
async fn a_shared_server_is_one_of_its_release() {
    let (one, same) = (NatsServer::shared(Release::Newest), NatsServer::shared(Release::Newest));
    let (one, same) = futures_util::future::join(one, same).await;
    assert_eq!(one.url(), same.url());
    let other = NatsServer::shared(Release::Oldest).await;
    assert_ne!(one.url(), other.url());
    assert!(greeting(one).contains("2.15.2") && greeting(other).contains("2.9.25"));
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let (pid, directory) = (server.pid().unwrap(), server.dir().to_owned());
    assert!(is_running(pid) && directory.exists());
    drop(server);
    assert!(!is_running(pid) && !directory.exists());
}

/// The test below kills this one; run on its own it is an ordinary start and stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    println!("VICTIM {} {}", server.pid().unwrap(), server.dir().display());
    #[expect(clippy::disallowed_methods, reason = "how a test tells its own copy what to do")]
    if std::env::var_os(WAIT_TO_BE_KILLED).is_some() {
        std::future::pending::<()>().await;
    }
    assert!(is_running(server.pid().unwrap()));
}

#[tokio::test]
async fn a_killed_test_takes_its_server_along() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::victim", "--nocapture"])
        .env(WAIT_TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find(|line| line.contains("VICTIM")).unwrap();
    let mut words = said.split_once("VICTIM ").unwrap().1.split(' ');
    let pid: u32 = words.next().unwrap().parse().unwrap();
    let directory = Path::new(words.next().unwrap()).to_owned();
    assert!(is_running(pid) && directory.exists());
    test.kill().unwrap();
    test.wait().unwrap();
    eventually("the server is gone", SOON, async || {
        (!is_running(pid) && !directory.exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn options_reach_the_server() {
    let options = ServerOptions::new()
        .config("max_payload: 12345")
        .config("authorization { user: ann, password: secret }")
        .websocket()
        .domain("hub");
    let server = NatsServer::start(Release::Newest, options).await;
    let greeting = greeting(&server);
    for fact in ["\"max_payload\":12345", "\"auth_required\":true", "\"domain\":\"hub\""] {
        assert!(greeting.contains(fact), "{fact}: {greeting}");
    }
    let websocket = server.websocket_url();
    TcpStream::connect(websocket.strip_prefix("ws://").unwrap()).unwrap();
    let plain = NatsServer::start(Release::Newest, ServerOptions::new().without_jetstream()).await;
    assert!(!self::greeting(&plain).contains("\"jetstream\":true"));
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let start = NatsServer::start(Release::Newest, ServerOptions::new().config("nonsense {"));
    let panic = AssertUnwindSafe(start).catch_unwind().await.unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("does not come up") && text.contains("Parse error"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_a_node_and_changes_leaders() {
    let cluster = NatsCluster::start(Release::Newest, 3).await;
    cluster.nodes()[1].kill();
    cluster.ready().await;
    cluster.nodes()[1].restart().await;
    cluster.ready().await;
    assert_eq!(cluster.url().split(',').count(), 3);
    assert_eq!(cluster.leader("S").await, None);

    let body = r#"{"name":"S","subjects":["s"],"num_replicas":3}"#;
    let create = format!(
        "CONNECT {{\"verbose\":false}}\r\nPUB $JS.API.STREAM.CREATE.S answer {}\r\n{body}\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(cluster.nodes()[0].address()).unwrap();
    stream.write_all(create.as_bytes()).unwrap();
    let first = eventually("a leader", SOON, async || cluster.leader("S").await).await;
    cluster.step_down("S").await;
    eventually("another leader", SOON, async || {
        cluster.leader("S").await.filter(|leader| *leader != first)
    })
    .await;
}
