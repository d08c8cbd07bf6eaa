//! The shell between a test and its server.
//!
//! A test can be killed at any moment, and nothing it does itself can then end what it started.
//! So the server is the child of a small shell that reads orders from a pipe: when the pipe
//! closes, for whatever reason, the shell kills the server and removes its directory. The shell
//! has a process group of its own, so that what is sent to the test's group does not reach it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Each order is answered by the server's process id, or an empty line if none runs.
const SHELL: &str = r#"
directory=$1; shift
pid=
trap : HUP INT TERM
while read -r order; do
  case $order in
    RUN) "$@" </dev/null >>"$directory/server.log" 2>&1 & pid=$! ;;
    PID) ;;
    KILL) kill -s KILL "$pid"; wait "$pid"; pid= ;;
    *) kill -s "$order" "$pid" ;;
  esac 2>/dev/null
  echo "$pid"
done
if [ -n "$pid" ]; then kill -s KILL "$pid"; wait "$pid"; fi 2>/dev/null
rm -rf "$directory"
"#;

/// A shell that runs one server again and again.
#[derive(Debug)]
pub(super) struct Supervisor(Mutex<Shell>);

#[derive(Debug)]
struct Shell {
    child: Child,
    /// `None` only while it is being dropped.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Runs nothing yet. `directory` is removed in the end.
    pub(super) fn new(directory: &Path, binary: &Path, config: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", SHELL, "supervisor"])
            .args([directory, binary, Path::new("-c"), config])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a piped answer"));
        Self(Mutex::new(Shell { child, orders, answers }))
    }

    pub(super) fn run(&self) {
        self.order("RUN");
    }

    pub(super) fn kill(&self) {
        self.order("KILL");
    }

    /// Sends the signal of that name, such as `STOP`.
    pub(super) fn signal(&self, name: &str) {
        self.order(name);
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.order("PID")
    }

    fn order(&self, word: &str) -> Option<u32> {
        let mut shell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = shell.orders.as_mut().expect("a live shell");
        orders.write_all(format!("{word}\n").as_bytes()).expect("the shell listens");
        let mut answer = String::new();
        shell.answers.read_line(&mut answer).expect("the shell answers");
        answer.trim().parse().ok()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Nothing can be done about a shell that cannot be waited for.
        drop(self.child.wait());
    }
}
