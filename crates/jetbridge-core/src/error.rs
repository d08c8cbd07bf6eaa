//! One error type for every backend and capability.
//!
//! The set of kinds is what the caller does next, not where a failure came from; one orthogonal
//! bit, [`Outcome`], says whether the write behind the error may have happened. Translation from
//! a foreign error happens once per crate, by a table, so no `From<foreign>` exists here: `?`
//! must not lose the operation and the key.

use std::fmt;
use std::sync::Arc;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
type Source = dyn std::error::Error + Send + Sync + 'static;

/// What the caller can do about a failure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something of that name exists with other settings: open it, or pick another name.
    AlreadyExists,
    /// The revision was not the expected one: read again, decide again.
    Conflict,
    /// Stored bytes fail their check. Never retried, never skipped.
    Corrupt,
    /// A bug here or in the server: report it.
    Internal,
    /// The request could never succeed as written: fix the call.
    InvalidInput,
    /// A size, count or rate limit; the context says which and how much.
    LimitExceeded,
    /// The bucket or stream is not there: create it. (A missing *key* is `Ok(None)`.)
    NotFound,
    /// The credentials do not allow this subject or bucket: fix them.
    PermissionDenied,
    /// No answer in time, or no connection: wait.
    Unavailable,
    /// This backend, or this server version, cannot do it: choose another way.
    Unsupported,
}

impl ErrorKind {
    /// The kind in lower-case words, as printed and as used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already exists",
            Self::Conflict => "conflict",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
            Self::InvalidInput => "invalid input",
            Self::LimitExceeded => "limit exceeded",
            Self::NotFound => "not found",
            Self::PermissionDenied => "permission denied",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Whether the write behind an error may have happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Outcome {
    /// Certainly not applied.
    NotApplied,
    /// The request left, the answer did not come.
    Unknown,
}

/// Everything an operator needs to act on a failure.
///
/// `Display` prints this layer only, as `kv.put: conflict: key=a, revision=7`; the chain of
/// [`source`](std::error::Error::source)s is the reporter's to print. Clones are for callers that
/// waited for the same answer.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    outcome: Outcome,
    for_good: bool,
    message: Option<String>,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Arc<Source>>,
}

impl Error {
    /// An error of `kind` in `operation`, which is `noun.verb` such as `"kv.put"`: it is what
    /// people grep for. The outcome starts as [`Outcome::NotApplied`].
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            outcome: Outcome::NotApplied,
            for_good: false,
            message: None,
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// Says in words what happened and why, where the kind and the facts alone do not.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Adds a fact. Never a secret: facts are printed.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<Source>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Says what to do next, as a sentence or a command; printed after `hint:`.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Marks a write whose answer was lost.
    #[must_use]
    pub fn outcome_unknown(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    /// Marks a failure that no waiting ends, such as that of a connection that was closed.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.0.for_good = true;
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, as `noun.verb`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Whether the write may have happened.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The words given to [`Error::because`].
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The fact called `name`, if one was added.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All facts, in the order they were added.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// What to do next, if the failing layer knew.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// True if sending the same request again can neither double it nor be pointless.
    pub fn is_retryable(&self) -> bool {
        let inner = &*self.0;
        let not_applied = inner.outcome == Outcome::NotApplied;
        inner.kind == ErrorKind::Unavailable && not_applied && !inner.for_good
    }

    /// The present revision that a [`Conflict`](ErrorKind::Conflict) carries, if it is known.
    pub fn present_revision(&self) -> Option<crate::Revision> {
        self.fact("revision").and_then(|text| text.parse().ok()).map(crate::Revision)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}: {}", inner.operation, inner.kind.as_str())?;
        if inner.outcome == Outcome::Unknown {
            f.write_str(" (may have been applied)")?;
        }
        if let Some(message) = &inner.message {
            write!(f, ": {message}")?;
        }
        for (i, (name, value)) in inner.context.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            write!(f, "\n  caused by: {cause}")?;
            next = cause.source();
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

const _: () = assert!(size_of::<Result<()>>() == size_of::<usize>(), "errors travel in a word");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_this_layer_and_debug_is_the_chain() {
        let cause = Error::new(ErrorKind::Unavailable, "nats.request");
        let error = Error::new(ErrorKind::Conflict, "kv.put")
            .with("key", "a")
            .with("revision", 7)
            .caused_by(cause);
        assert_eq!(error.to_string(), "kv.put: conflict: key=a, revision=7");
        assert_eq!(
            format!("{error:?}"),
            "kv.put: conflict: key=a, revision=7\n  caused by: nats.request: unavailable"
        );
        assert_eq!(error.present_revision(), Some(crate::Revision(7)));
    }

    #[test]
    fn what_may_double_or_is_pointless_is_not_retried() {
        let lost = Error::new(ErrorKind::Unavailable, "kv.put");
        assert!(lost.is_retryable());
        assert!(!lost.outcome_unknown().is_retryable());
        assert!(!Error::new(ErrorKind::Unavailable, "kv.put").for_good().is_retryable());
        assert!(!Error::new(ErrorKind::Conflict, "kv.put").is_retryable());
    }
}
