//! Asking a running replicator over its socket: HTTP, as little of it as that takes.

use std::path::Path;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Bytes of an answer: a line for each of thousands of databases.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How much longer than the work itself its answer may take.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
const OPERATION: &str = "sqlite.ask";

/// A running replicator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Daemon<'a> {
    pub(super) socket: &'a Path,
    pub(super) timeout: Duration,
}

impl Daemon<'_> {
    /// Asks for a value.
    pub(super) async fn get(self, path: &str) -> Result<Value> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: litestream\r\nConnection: close\r\n\r\n"))
            .await
    }

    /// Asks for something to be done.
    pub(super) async fn post(self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let length = body.len();
        self.ask(format!(
            "POST {path} HTTP/1.1\r\nHost: litestream\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn ask(self, request: String) -> Result<Value> {
        let exchange = async {
            let mut stream = UnixStream::connect(self.socket).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(self.timeout + ANSWER_GRACE, exchange).await;
        let answer = answer.map_err(|_elapsed| self.absent().because("no answer in time"))?;
        let answer = answer.map_err(|error| self.absent().caused_by(error))?;
        parse(&answer).ok_or_else(|| self.absent().because("this is no answer of a replicator"))?
    }

    fn absent(self) -> Error {
        Error::new(ErrorKind::Unavailable, OPERATION)
            .because("failed to connect to control socket")
            .with("socket", self.socket.display())
            .hint("the replicator must run, with `socket: {enabled: true}` in its file")
    }
}

/// What an answer says: a value, or why there is none.
fn parse(answer: &[u8]) -> Option<Result<Value>> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let value: Value = serde_json::from_str(body).ok()?;
    if status == 200 {
        return Some(Ok(value));
    }
    let kind = match status {
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        400 => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    };
    let said = value["error"].as_str().unwrap_or("the replicator refused").to_owned();
    Some(Err(Error::new(kind, OPERATION).because(said)))
}
