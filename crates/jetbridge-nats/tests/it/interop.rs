//! What another client writes we read, and the reverse. The other client is nats.go, in the Go
//! program of `tests/foreign`, which is built once per run.

mod bus;
mod kv;
mod kv_bucket;
mod object;
mod object_foreign;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;

/// A nats.go client in a process of its own; gone with this.
pub(crate) struct Foreign {
    process: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Foreign {
    /// Connects to the server at `url`.
    pub(crate) async fn connect(url: &str) -> Self {
        static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
        let program = BUILT.get_or_init(build).await;
        let mut process = Command::new(program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let requests = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, requests, answers }
    }

    /// Does what `request` says, which must succeed.
    pub(crate) async fn does(&mut self, request: Value) -> Value {
        let mut answer = self.tell(&request).await;
        assert_eq!(answer.get("error"), None, "{request}");
        answer["ok"].take()
    }

    /// Tries what `request` says, which must fail; in words.
    pub(crate) async fn fails(&mut self, request: Value) -> String {
        let answer = self.tell(&request).await;
        assert!(answer["error"].is_string(), "{request} succeeded: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    async fn tell(&mut self, request: &Value) -> Value {
        self.requests.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let Some(answer) = self.answers.next_line().await.unwrap() else {
            panic!("{request} ended the client: {:?}", self.process.wait().await);
        };
        serde_json::from_str(&answer).unwrap()
    }
}

/// Builds the program.
async fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .args([program.as_path(), Path::new(".")])
        .current_dir(source)
        .output()
        .await
        .unwrap_or_else(|error| panic!("the foreign client needs `go`, 1.26 or newer: {error}"));
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    program
}

/// Bytes as the program takes them.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Bytes that the program gave.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(Vec::new, |text| STANDARD.decode(text).unwrap())
}
