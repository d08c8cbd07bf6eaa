//! Real processes for tests.
//!
//! A child is this test binary once more, running one function, told by a variable which
//! directory to work in. It takes commands on its standard input, one a line, and reports on its
//! standard output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};
use tokio::process::{ChildStdin, ChildStdout, Command};

/// What nobody should ever wait for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const DIRECTORY_VARIABLE: &str = "JETBRIDGE_TEST_CHILD";
/// Marks our lines among those of the test harness.
const MARK: &str = "child:";

/// A child, killed when dropped.
pub(crate) struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Runs the test function `function` in a process of its own until it says `ready`.
    pub(crate) async fn start(dir: &Path, function: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", function, "--nocapture"])
            .env(DIRECTORY_VARIABLE, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut child = Self { process, stdin, lines };
        assert_eq!(child.line().await, "ready");
        child
    }

    /// The next line it says.
    pub(crate) async fn line(&mut self) -> String {
        let line = self.line_if_alive();
        tokio::time::timeout(DEADLINE, line).await.expect("a line in time").expect("it lives")
    }

    /// The next line it says; `None` once it is dead and there is no more.
    pub(crate) async fn line_if_alive(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next_line().await.unwrap()?;
            if let Some(line) = line.strip_prefix(MARK) {
                return Some(line.to_owned());
            }
        }
    }

    /// Sends a command and returns the answer.
    pub(crate) async fn tell(&mut self, command: &str) -> String {
        self.order(command).await;
        self.line().await
    }

    /// Sends a command.
    pub(crate) async fn order(&mut self, command: &str) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// As by `kill -9`; returns what it had said until then.
    pub(crate) async fn kill(mut self) -> Vec<String> {
        self.process.kill().await.unwrap();
        let mut said = Vec::new();
        while let Some(line) = self.line_if_alive().await {
            said.push(line);
        }
        said
    }
}

/// In a child: the directory, and the commands to come. Elsewhere there is nothing to do.
#[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
pub(crate) fn role() -> Option<(PathBuf, Lines<BufReader<Stdin>>)> {
    let directory = std::env::var(DIRECTORY_VARIABLE).ok()?;
    Some((directory.into(), BufReader::new(tokio::io::stdin()).lines()))
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}
