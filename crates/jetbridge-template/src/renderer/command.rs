//! The commands around a swap: the check before it, the reload after it.
//!
//! Each runs in a process group of its own, so that its time-out takes its children along.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;

use super::spec::ReloadSignal;

/// Bytes of what a command says that are kept for the reason of a failure, of each output.
const OUTPUT_BYTES_MAX: usize = 2048;

/// What stands for the new file in a command's words.
const FILE_MARK: &str = "{}";

/// What stands for a secret in what a command says.
const HIDDEN: &str = "***";

/// How a command is run.
pub(super) struct Command<'a> {
    pub(super) operation: &'static str,
    /// What `{}` stands for.
    pub(super) file: &'a Path,
    pub(super) directory: &'a Path,
    /// After this it is killed.
    pub(super) timeout: Duration,
    /// Texts that are not repeated, longer ones first.
    pub(super) secrets: &'a [String],
}

impl Command<'_> {
    /// Runs `words`. What it prints is kept for the reason, if it fails.
    pub(super) async fn run(&self, words: &[String]) -> Result<()> {
        let name = self.file.to_string_lossy();
        let words: Vec<String> = words.iter().map(|word| word.replace(FILE_MARK, &name)).collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err(self.failed("the command is empty".to_owned()));
        };
        let path =
            if program.contains('/') { self.directory.join(program) } else { program.into() };
        let spawned = tokio::process::Command::new(path)
            .args(arguments)
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = spawned.map_err(|error| {
            self.failed(format!("{program} could not be started")).caused_by(error)
        })?;
        let _group = Group(child.id());
        match tokio::time::timeout(self.timeout, attend(child)).await {
            Err(_elapsed) => {
                let limit = self.timeout;
                Err(self.failed(format!("{program} was killed: it took over {limit:?}")))
            }
            Ok(Err(error)) => {
                Err(self.failed(format!("{program} could not be waited for")).caused_by(error))
            }
            Ok(Ok(Ended { status, said })) if !status.success() => {
                let said = self.secrets.iter().fold(said, |said, it| said.replace(it, HIDDEN));
                let colon = if said.is_empty() { "" } else { ": " };
                Err(self.failed(format!("{program} ended with {status}{colon}{said}")))
            }
            Ok(Ok(_done)) => Ok(()),
        }
    }

    fn failed(&self, message: String) -> Error {
        Error::new(ErrorKind::InvalidInput, self.operation).because(message)
    }
}

/// Sends `signal` to the process whose number `pid_file` holds.
pub(super) fn signal(signal: ReloadSignal, pid_file: &Path) -> Result<()> {
    let failed = |message: String| {
        Error::new(ErrorKind::NotFound, "template.reload")
            .because(message)
            .with("file", pid_file.display())
    };
    let text = std::fs::read_to_string(pid_file)
        .map_err(|error| failed("no process's number can be read".to_owned()).caused_by(error))?;
    let pid = text.trim().parse().ok().filter(|number: &i32| *number > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed("this is no process's number".to_owned()))?;
    kill_process(pid, signal.signal())
        .map_err(|error| failed("the process could not be told".to_owned()).caused_by(error))
}

/// Kills what is left of a process group, however its command ends.
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
    status: std::process::ExitStatus,
    /// The end of what it printed, errors last, in one line.
    said: String,
}

/// Waits for the end. What it leaves running is ended with it.
async fn attend(mut child: Child) -> std::io::Result<Ended> {
    let group = Group(child.id());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (output, errors, status) = tokio::join!(last_bytes(output), last_bytes(errors), async {
        let status = child.wait().await;
        drop(group);
        status
    });
    let printed = [output?, errors?].concat();
    let text = String::from_utf8_lossy(&printed);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(Ended { status: status?, said: lines.join(" | ") })
}

async fn last_bytes(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return Ok(kept) };
    let mut piece = [0; 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&piece[..read]);
        let excess = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        kept.drain(..excess);
    }
}
