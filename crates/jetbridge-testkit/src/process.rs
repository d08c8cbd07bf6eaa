//! Real processes for tests.
//!
//! A process is the running test binary once more, for one test of it, which is told by a variable
//! what to do and where ([`role`]); without the variable that test has nothing to do. A process
//! says what happens on its standard output, a line at a time, and ends when its standard input
//! does, or when it is killed. What a role does is the affair of the test.

use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

const ROLE_VARIABLE: &str = "JETBRIDGE_TEST_ROLE";
/// Marks our lines among those of the test harness.
const MARK: &str = "says: ";
/// Longest that a line is waited for on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// The test of a binary that its processes run, by its whole name.
#[derive(Clone, Copy, Debug)]
pub struct Roles(&'static str);

impl Roles {
    /// `test` calls [`role`] and does what it says.
    pub const fn of(test: &'static str) -> Self {
        Self(test)
    }

    /// Runs `role` in `directory` in a process of its own.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(self, role: &str, directory: &Path) -> Process {
        let binary = std::env::current_exe().expect("this binary");
        Process::run(self.command(&binary, role, directory))
    }

    /// The command that runs `role` by `binary`, which is this one or a copy.
    pub fn command(self, binary: &Path, role: &str, directory: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(["--exact", self.0, "--nocapture"]);
        command.env(ROLE_VARIABLE, format!("{role}:{}", directory.display()));
        command
    }
}

/// A process that plays a role, killed when dropped. Its methods block, and panic where it fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Process {
    /// Runs a command that becomes one.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || pass_on(lines, &sender));
        Self { child, lines: Mutex::new(receiver) }
    }

    fn lines(&mut self) -> &mut mpsc::Receiver<String> {
        self.lines.get_mut().expect("nobody panics with it")
    }

    /// Tells it a line.
    ///
    /// # Panics
    /// If it does not listen any more.
    pub fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        input.write_all(format!("{line}\n").as_bytes()).expect("it listens");
    }

    /// The next line it says.
    ///
    /// # Panics
    /// If it says nothing in time.
    pub fn line(&mut self) -> String {
        self.line_within(DEADLINE)
    }

    /// The next line it says, which may take so long.
    ///
    /// # Panics
    /// If it says nothing in time.
    pub fn line_within(&mut self, limit: Duration) -> String {
        self.lines().recv_timeout(limit).expect("it says something in time")
    }

    /// What it has said and nobody has read yet.
    pub fn said(&mut self) -> Vec<String> {
        self.lines().try_iter().collect()
    }

    /// Closes its input and waits until it ends by itself; what it had said until then.
    ///
    /// # Panics
    /// If it fails.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let said = self.lines().iter().collect();
        assert!(self.child.wait().expect("an end").success(), "a process failed");
        said
    }

    /// As by `kill -9`; what it had said until then.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("an end");
        self.lines().iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
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

/// In a process that was started for it: its role and its directory.
pub fn role() -> Option<(String, PathBuf)> {
    #[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
    let variable = std::env::var(ROLE_VARIABLE).ok()?;
    let (role, directory) = variable.split_once(':')?;
    Some((role.to_owned(), directory.into()))
}

/// Plays the role that this process was started for, if it was started for one.
///
/// # Panics
/// If there is no runtime to be had.
pub fn play(roles: impl AsyncFnOnce(&str, &Path)) {
    let Some((role, directory)) = role() else { return };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(roles(&role, &directory));
}

/// Says a line to the parent, at once.
///
/// # Panics
/// If nobody listens.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// Resolves when the parent closes our standard input, or is gone.
///
/// # Panics
/// If the input cannot be read.
pub async fn dismissed() {
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(wait).await.expect("it ends").expect("it can be read");
}
