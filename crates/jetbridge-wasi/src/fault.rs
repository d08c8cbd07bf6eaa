//! What went wrong, in the words a guest can read: the one place where an error of the store
//! becomes one of the interface. Nothing here is a trap, and nothing is lost on the way: what has
//! no case of its own goes out as text.

use std::error::Error as _;
use std::fmt::Write as _;

use jetbridge_core::{Error, ErrorKind, Outcome};

/// Longest text of an error that a guest is handed, in bytes: a guest copies it into its memory.
const TEXT_BYTES_MAX: usize = 2048;

/// An error on its way to a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The host knows no store of that identifier, or its bucket is gone.
    NoSuchStore,
    /// The component, or the host's own login, may not use it.
    AccessDenied,
    /// The call could never succeed as written.
    InvalidArgument(String),
    /// A condition did not hold.
    PreconditionFailed,
    /// The store did not answer, and nothing was written.
    Unavailable(String),
    /// A limit, named in the text.
    Quota(String),
    /// Anything else.
    Other(String),
}

/// The result of an operation that a guest asked for.
pub(crate) type Answer<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        tracing::debug!("{error:?}");
        match error.kind() {
            ErrorKind::NotFound => Self::NoSuchStore,
            ErrorKind::PermissionDenied => Self::AccessDenied,
            ErrorKind::InvalidInput => Self::InvalidArgument(text(&error)),
            // A sum out of range is no quota: it needs its words.
            ErrorKind::LimitExceeded if error.operation() == "kv.increment" => {
                Self::Other(text(&error))
            }
            ErrorKind::LimitExceeded => Self::Quota(text(&error)),
            ErrorKind::Unavailable if error.outcome() == Outcome::NotApplied => {
                Self::Unavailable(text(&error))
            }
            _ => Self::Other(text(&error)),
        }
    }
}

fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        if write!(text, ": {cause}").is_err() {
            break;
        }
        next = cause.source();
    }
    if let Some(hint) = error.hint_text() {
        text.push_str("; ");
        text.push_str(hint);
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_case_and_keeps_its_words() {
        let fault = |kind| Fault::from(Error::new(kind, "kv.put").because("why"));
        assert_eq!(fault(ErrorKind::NotFound), Fault::NoSuchStore);
        assert_eq!(fault(ErrorKind::PermissionDenied), Fault::AccessDenied);
        let words = |kind: &str| format!("kv.put: {kind}: why");
        let invalid = Fault::InvalidArgument(words("invalid input"));
        assert_eq!(fault(ErrorKind::InvalidInput), invalid);
        assert_eq!(fault(ErrorKind::LimitExceeded), Fault::Quota(words("limit exceeded")));
        assert_eq!(fault(ErrorKind::Corrupt), Fault::Other(words("corrupt")));
        assert_eq!(fault(ErrorKind::Unavailable), Fault::Unavailable(words("unavailable")));
        let unknown = Error::new(ErrorKind::Unavailable, "kv.put").outcome_unknown();
        assert_eq!(
            Fault::from(unknown),
            Fault::Other("kv.put: unavailable (may have been applied)".to_owned())
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let error = Error::new(ErrorKind::Corrupt, "kv.get").because("é".repeat(4000));
        let Fault::Other(text) = Fault::from(error) else { panic!("not other") };
        assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX - 4);
    }
}
