//! The Go peer: a process that does what it is told line by line.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::Outcome;

/// A running Go peer; gone with this.
#[derive(Debug)]
pub(crate) struct GoPeer {
    /// What it says it is.
    pub(crate) version: String,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    _process: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl GoPeer {
    pub(crate) async fn start(program: &Path, url: &str) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process =
            command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let stdin = process.stdin.take().ok_or("no standard input")?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let stdout = BufReader::new(stdout).lines();
        let mut pipes = Pipes { _process: process, stdin, stdout };
        let version = pipes.line().await?;
        Ok(Self { version, pipes: Mutex::new(pipes) })
    }

    /// Has it do `line`; returns how many seconds that took, by its own clock.
    pub(crate) async fn seconds(&self, line: &str) -> Outcome<f64> {
        let mut pipes = self.pipes.lock().await;
        pipes.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(pipes.line().await?.parse()?)
    }
}

impl Pipes {
    async fn line(&mut self) -> Outcome<String> {
        let line = self.stdout.next_line().await?.ok_or("the Go peer is gone")?;
        match line.strip_prefix("error ") {
            Some(why) => Err(format!("the Go peer says: {why}").into()),
            None => Ok(line),
        }
    }
}
