//! What is rendered, where to, and what happens around it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use rustix::process::Signal;

use crate::render::Options;

/// Time for one check or reload, if nobody says: either has a process's start to make.
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// One file that is rendered.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct RenderSpec {
    /// Files, merged from left to right.
    pub from: Vec<PathBuf>,
    /// The file that is written; its folder must be there.
    pub to: PathBuf,
    /// How the files are merged and evaluated.
    pub options: Options,
    /// The permissions of the file; those that it has if not given, and `0600` for a new one.
    pub mode: Option<u32>,
    /// How many earlier files are kept, as `FILE.1` (the latest), `FILE.2` and so on.
    pub backups: usize,
    /// A program and its arguments, `{}` standing for the new file before it takes its place: if
    /// it fails, the present file stays.
    pub check: Option<Vec<String>>,
    /// What is told that there is a new file.
    pub reload: Option<Reload>,
    /// How long either may take.
    pub command_timeout: Duration,
    /// Where they run.
    pub directory: PathBuf,
    /// How long changes are gathered.
    pub wait: Wait,
}

/// From where to where: the options hold the variables of a process.
impl fmt::Debug for RenderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderSpec")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl RenderSpec {
    /// `from` rendered to `to`, with nothing around it and no waiting.
    pub fn new(from: Vec<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self {
            from,
            to: to.into(),
            options: Options::default(),
            mode: None,
            backups: 0,
            check: None,
            reload: None,
            command_timeout: COMMAND_TIMEOUT_DEFAULT,
            directory: PathBuf::from("."),
            wait: Wait::default(),
        }
    }
}

/// How long changes are gathered before they are rendered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wait {
    /// Nothing must have changed for so long.
    pub min: Duration,
    /// Counted from the first change, it is never longer than this.
    pub max: Duration,
}

/// What is told that there is a new file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reload {
    /// A program and its arguments; `{}` stands for the file.
    Command(Vec<String>),
    /// A process, by the number in a file of its own.
    Signal {
        /// What it gets.
        signal: ReloadSignal,
        /// Where its number is.
        pid_file: PathBuf,
    },
}

/// Signals that mean "read your settings again" somewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReloadSignal {
    /// `SIGHUP`.
    Hangup,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
    /// `SIGTERM`, for what is started again by somebody else.
    Terminate,
}

impl ReloadSignal {
    /// Reads `SIGHUP`, `HUP` or `hup`, and the others likewise.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for any other signal.
    pub fn parse(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        match upper.strip_prefix("SIG").unwrap_or(&upper) {
            "HUP" => Ok(Self::Hangup),
            "USR1" => Ok(Self::User1),
            "USR2" => Ok(Self::User2),
            "TERM" => Ok(Self::Terminate),
            _ => Err(Error::new(ErrorKind::InvalidInput, "template.signal")
                .because(format!("`{text}` is no signal to reload with"))
                .hint("write SIGHUP, SIGUSR1, SIGUSR2 or SIGTERM")),
        }
    }

    pub(super) const fn signal(self) -> Signal {
        match self {
            Self::Hangup => Signal::HUP,
            Self::User1 => Signal::USR1,
            Self::User2 => Signal::USR2,
            Self::Terminate => Signal::TERM,
        }
    }
}
