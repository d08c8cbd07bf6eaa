//! The network breaks as told.

use std::net::SocketAddr;
use std::time::Duration;

use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_millis(200);

/// A connection that speaks lines.
struct Line(BufReader<TcpStream>);

impl Line {
    /// Connects; the server has to greet.
    async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let mut line = Self(BufReader::new(TcpStream::connect(address).await?));
        let greeting = line.hear().await?;
        if !greeting.starts_with("INFO") {
            return Err(std::io::Error::other(greeting));
        }
        line.say("CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB answer 1\r\n").await?;
        Ok(line)
    }

    async fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes()).await
    }

    async fn hear(&mut self) -> std::io::Result<String> {
        let mut text = String::new();
        match timeout(SOON, self.0.read_line(&mut text)).await? {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(text),
            Err(error) => Err(error),
        }
    }

    /// Publishes with the reply subject that this connection listens on.
    async fn ask(&mut self, subject: &str, body: &str) {
        let text = format!("PUB {subject} answer {}\r\n{body}\r\n", body.len());
        self.say(&text).await.unwrap();
    }

    /// The payload of the next message; none if the answer to a ping comes first.
    async fn answer(&mut self) -> Option<String> {
        self.say("PING\r\n").await.unwrap();
        loop {
            let line = self.hear().await.unwrap();
            if line.starts_with("PONG") {
                return None;
            }
            if line.starts_with("MSG") {
                let payload = self.hear().await.unwrap();
                while !self.hear().await.unwrap().starts_with("PONG") {}
                return Some(payload);
            }
        }
    }
}

async fn server_and_proxy(release: Release) -> (NatsServer, Proxy) {
    let server = NatsServer::start(release, ServerOptions::new()).await;
    let proxy = Proxy::start(server.address()).await;
    (server, proxy)
}

#[tokio::test]
async fn acknowledgements_are_lost_and_messages_are_not() {
    for release in [Release::Oldest, Release::Newest] {
        let (_server, proxy) = server_and_proxy(release).await;
        let mut line = Line::open(proxy.address()).await.unwrap();
        let stored = async |line: &mut Line| {
            line.ask("$JS.API.STREAM.INFO.S", "").await;
            let info = eventually("the info", SOON, async || line.answer().await).await;
            info.split("\"messages\":").nth(1).unwrap().chars().next().unwrap()
        };
        line.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#).await;
        assert!(
            eventually("the stream", SOON, async || line.answer().await).await.contains("config")
        );
        proxy.lose_acks(AckLoss::These(vec![0, 2]));
        for lost in [true, false, true, false] {
            let before = proxy.acks_lost();
            line.ask("s", "x").await;
            let came = eventually("the acknowledgement, or its loss", SOON, async || {
                match line.answer().await {
                    Some(ack) => Some(ack.contains("\"seq\"")),
                    None => (proxy.acks_lost() > before).then_some(false),
                }
            })
            .await;
            assert_eq!(came, !lost);
        }
        assert_eq!((stored(&mut line).await, proxy.acks_lost()), ('4', 2));
        proxy.lose_acks(AckLoss::None);
        line.ask("s", "x").await;
        assert!(
            eventually("an acknowledgement", SOON, async || line.answer().await)
                .await
                .contains("seq")
        );
    }
}

#[tokio::test]
async fn latency_is_added_to_the_round_trip() {
    let (_server, proxy) = server_and_proxy(Release::Newest).await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    proxy.latency(QUIET);
    let start = Instant::now();
    assert_eq!(line.answer().await, None);
    assert!(start.elapsed() >= QUIET, "after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_stalled_network_goes_on_where_it_stood() {
    let (_server, proxy) = server_and_proxy(Release::Newest).await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    assert_eq!(line.answer().await, None);
    proxy.stall();
    line.say("PING\r\n").await.unwrap();
    assert!(timeout(QUIET, line.hear()).await.is_err());
    proxy.resume();
    assert_eq!(line.hear().await.unwrap(), "PONG\r\n");
}

#[tokio::test]
async fn a_reset_cuts_what_is_there_and_not_what_comes() {
    let (_server, proxy) = server_and_proxy(Release::Newest).await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    assert_eq!((line.answer().await, proxy.connections()), (None, 1));
    proxy.reset();
    assert!(line.hear().await.is_err());
    eventually("the connection is gone", SOON, async || (proxy.connections() == 0).then_some(()))
        .await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    assert_eq!(line.answer().await, None);
    proxy.refuse();
    assert!(Line::open(proxy.address()).await.is_err());
    assert_eq!(line.answer().await, None, "what was there stays");
    proxy.accept();
    assert!(Line::open(proxy.address()).await.is_ok());
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let (server, proxy) = server_and_proxy(Release::Oldest).await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    server.kill();
    assert!(line.hear().await.is_err(), "the connection ends with the server");
    assert!(Line::open(proxy.address()).await.is_err(), "nobody is there");
    server.restart().await;
    let mut line = Line::open(proxy.address()).await.unwrap();
    assert_eq!(line.answer().await, None);
}

#[tokio::test]
async fn other_protocols_pass_as_they_are() {
    let options = ServerOptions::new().websocket();
    let server = NatsServer::start(Release::Newest, options).await;
    let target = server.websocket_url().strip_prefix("ws://").unwrap().parse().unwrap();
    let proxy = Proxy::start(target).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let hello = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    timeout(SOON, async {
        while !String::from_utf8_lossy(&heard).contains("server_id") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
    })
    .await
    .expect("the server's greeting in a frame");
}
