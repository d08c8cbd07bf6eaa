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

/// How long what a command has printed is waited for behind its end: whoever it left running may
/// hold its outputs open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

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
        match tokio::time::timeout(self.timeout, attend(child, !self.secrets.is_empty())).await {
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

/// Waits for the end. What it leaves running in its group is ended with it; what it has started
/// in another one is not waited for. With `whole_lines`, no line is kept in part.
async fn attend(mut child: Child, whole_lines: bool) -> std::io::Result<Ended> {
    let group = Group(child.id());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (LastBytes::default(), LastBytes::default());
    let status = {
        let reading = async { tokio::join!(output.read(stdout), errors.read(stderr)) };
        let mut reading = std::pin::pin!(reading);
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                _both = &mut reading, if !is_read => is_read = true,
                status = child.wait() => break status?,
            }
        };
        drop(group);
        if !is_read {
            // What is not there by then is somebody else's.
            let _late = tokio::time::timeout(LAST_WORDS, reading).await;
        }
        status
    };
    let said = [output.lines(whole_lines), errors.lines(whole_lines)].concat();
    Ok(Ended { status, said: said.join(" | ") })
}

/// The end of what a command prints.
#[derive(Default)]
struct LastBytes {
    kept: Vec<u8>,
    is_cut: bool,
}

impl LastBytes {
    /// Reads to the end, or to an error, which ends what there is to say.
    async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            self.kept.extend_from_slice(&piece[..read]);
            let excess = self.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
            self.is_cut |= excess > 0;
            self.kept.drain(..excess);
        }
    }

    /// The lines; with `whole` without the one that the beginning is cut off of, which may be the
    /// end of a secret that nobody recognises.
    fn lines(&self, whole: bool) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let text = match text.split_once('\n') {
            Some((_part, rest)) if whole && self.is_cut => rest,
            None if whole && self.is_cut => "",
            _ => &*text,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    }
}
