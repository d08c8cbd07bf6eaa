//! A message to a process: payload on standard input, facts and headers in the environment.
//!
//! The process gets a group of its own, so that a Ctrl-C at the terminal ends `up` and not the
//! work it is draining, and so that killing it at its time-out takes its children along.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tracing::Span;

use super::attempt::{ANSWER_BYTES_MAX, Attempt, Verdict};
use crate::traces::{TRACEPARENT, traceparent};

/// Bytes of standard error that are kept for the reason of a failure.
const ERRORS_BYTES_MAX: usize = 4096;

/// Runs `command` in `directory` for `attempt`, and kills it after `timeout`.
pub(crate) async fn run(
    command: &[String],
    directory: &Path,
    attempt: &Attempt,
    timeout: Duration,
) -> Verdict {
    let Some((program, arguments)) = command.split_first() else {
        return Verdict::failed("the command is empty");
    };
    let mut process = Command::new(resolve(program, directory));
    process
        .args(arguments)
        .current_dir(directory)
        .envs(variables(attempt))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = match process.spawn() {
        Ok(child) => child,
        Err(error) => return Verdict::failed(format!("{program} could not be started: {error}")),
    };
    let _group = Group(child.id());
    match tokio::time::timeout(timeout, attend(child, attempt.message.payload.clone())).await {
        Err(_elapsed) => Verdict::failed(format!("{program} was killed: it took over {timeout:?}")),
        Ok(Err(error)) => Verdict::failed(format!("{program}: {error}")),
        Ok(Ok(ended)) => ended.verdict(program),
    }
}

/// A path with a `/` is looked up from where the process runs, a bare name in `PATH`.
fn resolve(program: &str, directory: &Path) -> std::path::PathBuf {
    if program.contains('/') { directory.join(program) } else { program.into() }
}

/// `JETBRIDGE_SUBJECT` and the other facts, `JETBRIDGE_HEADER_…` for each header, and, where spans
/// are heard, `TRACEPARENT`.
fn variables(attempt: &Attempt) -> Vec<(String, String)> {
    let word = |name: &str| -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        name.chars().map(letter).collect()
    };
    let facts = attempt.facts().into_iter().map(|(name, value)| (word(name), value));
    let headers = attempt
        .message
        .headers
        .iter()
        .map(|(name, value)| (format!("HEADER_{}", word(name)), value.to_owned()));
    let named = facts.chain(headers).map(|(name, value)| (format!("JETBRIDGE_{name}"), value));
    let parent = traceparent(&Span::current()).map(|parent| (TRACEPARENT.to_uppercase(), parent));
    named.chain(parent).collect()
}

/// Kills what is left of a process group, however its attempt ends.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // An error means that nothing is left, which is what is wanted.
            kill_process_group(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

struct Ended {
    status: ExitStatus,
    answer: Kept,
    errors: Kept,
}

impl Ended {
    fn verdict(self, program: &str) -> Verdict {
        if !self.status.success() {
            let errors = String::from_utf8_lossy(&self.errors.bytes);
            let last = errors.lines().rfind(|line| !line.trim().is_empty());
            let words = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
            return Verdict::failed(format!("{program} ended with {}{words}", self.status));
        }
        if self.answer.overflowed {
            return Verdict::failed(format!(
                "{program} wrote over {ANSWER_BYTES_MAX} bytes to its standard output"
            ));
        }
        Verdict::Done(Bytes::from(self.answer.bytes))
    }
}

/// Feeds the process and reads what it says until it ends. What it leaves running is ended with
/// it: a child that holds the outputs would keep them open for ever.
async fn attend(mut child: Child, payload: Bytes) -> std::io::Result<Ended> {
    let group = Group(child.id());
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ((), answer, errors, status) = tokio::join!(
        feed(input, &payload),
        keep(output, ANSWER_BYTES_MAX, End::First),
        keep(errors, ERRORS_BYTES_MAX, End::Last),
        async {
            let status = child.wait().await;
            drop(group);
            status
        },
    );
    Ok(Ended { status: status?, answer: answer?, errors: errors? })
}

/// A process that does not read its input to the end has its reasons: that is no failure.
async fn feed(input: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut input) = input {
        input.write_all(payload).await.unwrap_or_default();
    }
}

/// Which end of an output counts.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    First,
    Last,
}

struct Kept {
    bytes: Vec<u8>,
    overflowed: bool,
}

/// Reads `from` to its end and keeps at most `max` bytes of it.
async fn keep(from: Option<impl AsyncRead + Unpin>, max: usize, end: End) -> std::io::Result<Kept> {
    let mut kept = Kept { bytes: Vec::new(), overflowed: false };
    let Some(mut from) = from else { return Ok(kept) };
    let mut piece = vec![0; 8192];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.bytes.extend_from_slice(&piece[..read]);
        if let Some(excess) = kept.bytes.len().checked_sub(max).filter(|excess| *excess > 0) {
            kept.overflowed = true;
            match end {
                End::First => kept.bytes.truncate(max),
                End::Last => drop(kept.bytes.drain(..excess)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jetbridge_core::{Headers, Message, Subject};

    use super::*;

    fn attempt(payload: &'static str) -> Attempt {
        let headers = Headers::new().with("Trace-Id", "7").unwrap();
        let message = Message::new(Subject::parse("orders.new").unwrap(), payload).headers(headers);
        let stored = Some(("ORDERS".to_owned(), 42));
        Attempt { handler: "mail".to_owned(), message, stored, number: 2 }
    }

    async fn shell(script: &str, payload: &'static str, timeout: Duration) -> Verdict {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, Path::new("/"), &attempt(payload), timeout).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_process_gets_payload_facts_and_headers() {
        let script = "cat; echo \" $JETBRIDGE_HANDLER $JETBRIDGE_SUBJECT $JETBRIDGE_STREAM \
                      $JETBRIDGE_SEQUENCE $JETBRIDGE_ATTEMPT $JETBRIDGE_HEADER_TRACE_ID\"";
        let expected = Verdict::Done(Bytes::from_static(b"hello mail orders.new ORDERS 42 2 7\n"));
        assert_eq!(shell(script, "hello", LONG).await, expected);
    }

    #[tokio::test]
    async fn a_failure_carries_the_last_line_of_standard_error() {
        let Verdict::Failed { reason, .. } =
            shell("echo a >&2; echo b >&2; exit 3", "", LONG).await
        else {
            panic!("it failed")
        };
        assert_eq!(reason, "sh ended with exit status: 3: b");
    }

    #[tokio::test]
    async fn a_time_out_kills_the_whole_group() {
        let started = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let verdict = shell(&script, "", Duration::from_millis(500)).await;
        assert!(matches!(verdict, Verdict::Failed { ref reason, .. } if reason.contains("killed")));
        assert!(started.elapsed() < Duration::from_secs(30));
        let pid: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < deadline, "the child of the killed process lives on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_process_leaves_running_does_not_hold_it_up() {
        let started = Instant::now();
        let verdict = shell("sleep 600 & echo done", "", LONG).await;
        assert_eq!(verdict, Verdict::Done(Bytes::from_static(b"done\n")));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn an_unread_input_and_a_missing_program_are_told_apart() {
        assert_eq!(shell("exit 0", "unread", LONG).await, Verdict::Done(Bytes::new()));
        let command = ["./no-such-program".to_owned()];
        let verdict = run(&command, Path::new("/"), &attempt(""), LONG).await;
        assert!(
            matches!(verdict, Verdict::Failed { ref reason, .. } if reason.contains("started"))
        );
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_a_failure() {
        let verdict = shell("head -c 2000000 /dev/zero", "", LONG).await;
        assert!(
            matches!(verdict, Verdict::Failed { ref reason, .. } if reason.contains("1048576"))
        );
    }
}
