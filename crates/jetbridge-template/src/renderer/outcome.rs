//! What rendering came to.

use std::fmt;

use jetbridge_core::Error;

use crate::error::{Diagnostic, Failure};

/// One rendering.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Rendering {
    /// A new file is in place.
    pub written: bool,
    /// The reload was done.
    pub reloaded: bool,
    /// What went wrong. Unless [`written`](Self::written), the file is as it was.
    pub failure: Option<RenderFailure>,
    /// What works but is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// What a new file changed: a unified diff with every secret as `***`; empty if it is not
    /// [`written`](Self::written).
    pub diff: String,
}

impl Rendering {
    pub(super) fn failed(failure: RenderFailure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

/// Where rendering stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// A template file could not be read, or watched.
    Read,
    /// The templates, or values of stores.
    Render,
    /// The check said no to the new file.
    Check,
    /// The new file could not be written or put in place.
    Write,
    /// The new file is in place, but the reload failed; it is done again.
    Reload,
}

impl Stage {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Render => "render",
            Self::Check => "check",
            Self::Write => "write",
            Self::Reload => "reload",
        }
    }
}

/// Why a rendering failed. `Display` has one line and no secrets.
#[derive(Debug)]
#[non_exhaustive]
pub enum RenderFailure {
    /// The templates, or values of stores.
    Template {
        /// Everything that is wrong.
        failure: Failure,
        /// A store did not answer: the templates may be right.
        is_outage: bool,
    },
    /// A file or a command.
    Step {
        /// Which step.
        stage: Stage,
        /// Why.
        error: Error,
    },
}

impl RenderFailure {
    pub(super) fn step(stage: Stage) -> impl FnOnce(Error) -> Self {
        move |error| Self::Step { stage, error }
    }

    /// Where it stopped.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Template { .. } => Stage::Render,
            Self::Step { stage, .. } => *stage,
        }
    }

    /// True if a store did not answer.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Template { is_outage: true, .. })
    }
}

impl fmt::Display for RenderFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template { failure, .. } => {
                for (number, diagnostic) in failure.diagnostics().iter().enumerate() {
                    let separator = if number == 0 { "" } else { "; " };
                    write!(f, "{separator}{diagnostic}")?;
                    if let Some(place) = &diagnostic.place {
                        write!(f, " ({place})")?;
                    }
                }
                Ok(())
            }
            Self::Step { stage, error } => {
                let what = error.message().unwrap_or(error.kind().as_str());
                write!(f, "{}: {what}", stage.as_str())?;
                for (name, value) in error.facts() {
                    write!(f, ", {name} {value}")?;
                }
                let mut cause = std::error::Error::source(error);
                while let Some(next) = cause {
                    write!(f, ": {next}")?;
                    cause = next.source();
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for RenderFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Template { failure, .. } => Some(failure),
            Self::Step { error, .. } => Some(error),
        }
    }
}

/// What happens while a file is kept true.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Something had changed, or is tried again.
    Rendered(Rendering),
    /// Changes are not heard of at present, and why; or they are again.
    Deaf(Option<String>),
}
