//! Runs the binary: on a store, with a directory of its own, and in nobody's environment.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// No command of these tests takes longer, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A store, and the directory that commands run in.
pub(crate) struct Store {
    url: String,
    directory: TempDir,
    server: Option<NatsServer>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Store {
    /// An embedded store in a directory of its own.
    pub(crate) fn local() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("local:{}", directory.path().join("store").display());
        Self { url, directory, server: None }
    }

    /// A server of its own.
    pub(crate) async fn nats(release: Release) -> Self {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        Self { url: server.url(), directory: TempDir::new().unwrap(), server: Some(server) }
    }

    /// A store at `url`.
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), directory: TempDir::new().unwrap(), server: None }
    }

    /// The server behind it.
    pub(crate) fn server(&self) -> &NatsServer {
        self.server.as_ref().unwrap()
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_local(&self) -> bool {
        self.url.starts_with("local:")
    }

    /// The text of a path in the directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).into_os_string().into_string().unwrap()
    }

    /// The binary with `words`, on this store.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare(words);
        command.env("JETBRIDGE_STORE", &self.url);
        command
    }

    /// The binary with `words`, on no store.
    pub(crate) fn bare(&self, words: &[&str]) -> Command {
        let mut command =
            self.in_nobodys_environment(Command::new(env!("CARGO_BIN_EXE_jetbridge")));
        command.args(words);
        command
    }

    /// The binary under another name with `words`, on this store.
    pub(crate) fn linked(&self, name: &str, words: &[&str]) -> Command {
        let link = self.directory.path().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jetbridge"), &link).unwrap();
        }
        let mut command = self.in_nobodys_environment(Command::new(link));
        command.args(words).env("JETBRIDGE_STORE", &self.url);
        command
    }

    fn in_nobodys_environment(&self, mut command: Command) -> Command {
        command.env_clear().current_dir(self.directory.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// A line for the shell, on this store.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = self.in_nobodys_environment(Command::new("sh"));
        command.args(["-c", line]).env("JETBRIDGE_STORE", &self.url);
        command
    }

    pub(crate) async fn run(&self, words: &[&str]) -> Said {
        finish(self.command(words), b"").await
    }

    /// Runs `words` with `stdin`.
    pub(crate) async fn feed(&self, words: &[&str], stdin: &[u8]) -> Said {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        finish(command, stdin).await
    }

    /// Runs words without white space that do what they are asked to, and returns what they
    /// print.
    pub(crate) async fn does(&self, line: &str) -> String {
        let said = self.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.text()
    }

    /// Runs words without white space that end with `code`, and returns what they say about it.
    pub(crate) async fn fails(&self, code: i32, line: &str) -> String {
        let said = self.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((said.code, said.text()), (code, String::new()), "{line}: {said:?}");
        said.err
    }

    /// Starts `words`, which go on.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        Running::spawn(self.command(words))
    }

    /// As [`Store::start`], with these variables too.
    pub(crate) fn start_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        Running::spawn(command)
    }

    /// As [`Store::start`], where the tests' own programs are found.
    #[expect(clippy::disallowed_methods, reason = "handed on as it is, and read by nobody")]
    pub(crate) fn start_among_programs(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        Running::spawn(command)
    }
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command, stdin: &[u8]) -> Said {
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap();
    let pipe = child.stdin.take();
    let feed = async move {
        if let Some(mut pipe) = pipe {
            // A command that fails before it reads closes the pipe.
            drop(pipe.write_all(stdin).await);
        }
    };
    let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = timeout(DEADLINE, ended).await;
    let output = output.unwrap_or_else(|_late| panic!("does not end: {shown}")).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Said { code: code(output.status), out: output.stdout, err }
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }
}

/// A command that runs while others do.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let stdin = child.stdin.take();
        Self { child, stdin, out, err }
    }

    /// The next line of stdout.
    pub(crate) async fn line(&mut self) -> String {
        timeout(DEADLINE, self.out.next_line()).await.expect("a line on stdout").unwrap().unwrap()
    }

    /// The next line of stderr.
    pub(crate) async fn note(&mut self) -> String {
        timeout(DEADLINE, self.err.next_line()).await.expect("a line on stderr").unwrap().unwrap()
    }

    /// Writes to stdin and leaves it open.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for the end; what is still on stdout, and the exit code.
    pub(crate) async fn end(mut self) -> (Vec<String>, i32) {
        let mut lines = Vec::new();
        let reading = async {
            while let Some(line) = self.out.next_line().await.unwrap() {
                lines.push(line);
            }
        };
        timeout(DEADLINE, reading).await.expect("stdout to end");
        (lines, ended(self.child).await)
    }

    /// Stops to read stdout, and waits for the end.
    pub(crate) async fn end_unread(self, meanwhile: impl Future<Output = ()>) -> i32 {
        let Self { child, stdin: _stdin, out, err: _err } = self;
        drop(out);
        meanwhile.await;
        ended(child).await
    }
}

async fn ended(mut child: Child) -> i32 {
    code(timeout(DEADLINE, child.wait()).await.expect("the process to end").unwrap())
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("{status}"))
}
