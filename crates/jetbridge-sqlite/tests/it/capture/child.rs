//! Real processes.
//!
//! A child is this test binary once more, running [`role`] alone; a variable tells it what to do
//! and where. It answers on its standard output, a line at a time, and ends when its standard
//! input does, or when it is killed.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::source::DEADLINE;
use super::{followed, killed, rebased, refusals};

const ROLE_VARIABLE: &str = "JETBRIDGE_TEST_ROLE";
/// Marks our lines among those of the test harness.
const MARK: &str = "says: ";

/// A child, killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Child {
    /// Runs `role` in `directory` in a process of its own.
    pub(crate) fn start(role: &str, directory: &Path) -> Self {
        Self::run(Self::command(&std::env::current_exe().unwrap(), role, directory))
    }

    /// The command that runs `role` by `binary`, which is this one or a copy.
    pub(crate) fn command(binary: &Path, role: &str, directory: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(["--exact", "capture::child::role", "--nocapture"]);
        command.env(ROLE_VARIABLE, format!("{role}:{}", directory.display()));
        command
    }

    /// Runs a command that becomes a child.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || pass_on(lines, &sender));
        Self { process, lines: receiver }
    }

    /// Tells it a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line it says.
    pub(crate) fn line(&mut self) -> String {
        self.line_within(DEADLINE)
    }

    /// The next line it says, which may take so long.
    pub(crate) fn line_within(&mut self, limit: Duration) -> String {
        self.lines.recv_timeout(limit).expect("the child says something in time")
    }

    /// What it has said and nobody has read yet.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// As by `kill -9`; returns what it had said until then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

fn pass_on(lines: Lines<BufReader<ChildStdout>>, to: &mpsc::Sender<String>) {
    for line in lines.map_while(Result::ok) {
        // The harness may have begun the line.
        if let Some((_, ours)) = line.split_once(MARK)
            && to.send(ours.to_owned()).is_err()
        {
            break;
        }
    }
}

/// Says a line to the parent.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a child does. No test: run as one, without the variable, it does nothing.
#[test]
fn role() {
    #[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
    let Ok(variable) = std::env::var(ROLE_VARIABLE) else { return };
    let (role, directory) = variable.split_once(':').unwrap();
    let directory = PathBuf::from(directory);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match role {
            "replicate" => killed::replicate(&directory).await,
            "replicate_nats" => killed::replicate_nats(&directory).await,
            "replicate_to_a_point" => rebased::replicate_to_a_point(&directory).await,
            "write" => killed::write(&directory),
            "follow" => followed::follow(&directory).await,
            "read" => followed::read(&directory),
            "refused" => refusals::refused(&directory).await,
            other => panic!("there is no role {other}"),
        }
    });
}
