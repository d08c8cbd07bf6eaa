//! Where a setting was written, and what is wrong with it there.

use std::fmt::{self, Display};
use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind};

use super::source::Entry;

/// Where a setting was written.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Place {
    /// On the command line: the option, such as `--store`.
    Argument(Arc<str>),
    /// In a file.
    File {
        /// The file, as the user named it.
        file: Arc<str>,
        /// The line, from 1.
        line: u64,
        /// The column in characters, from 1.
        column: u64,
    },
    /// In an environment variable: its name.
    Variable(Arc<str>),
}

impl Place {
    /// An option of the command line.
    pub fn argument(name: impl Into<Arc<str>>) -> Self {
        Self::Argument(name.into())
    }

    /// A position in a file, both numbers from 1.
    pub fn file(file: impl Into<Arc<str>>, line: u64, column: u64) -> Self {
        Self::File { file: file.into(), line, column }
    }

    /// An environment variable.
    pub fn variable(name: impl Into<Arc<str>>) -> Self {
        Self::Variable(name.into())
    }

    /// An error about what is written here. The message must not hold a secret.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Problem::new(message).at(self)
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) | Self::Variable(name) => f.write_str(name),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
        }
    }
}

/// What is wrong with a setting, before it is known where it stands. Never holds a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the nearest of `known` as the hint, if one is near.
    pub(super) fn suggest<'a>(
        self,
        written: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match nearest(written, known) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// The error of an entry: a name is said unless the place is a variable, which says it.
    pub(super) fn of(self, entry: &Entry) -> Error {
        let message = match entry.place {
            Place::Variable(_) => self.message,
            _ => format!("`{}`: {}", entry.name, self.message),
        };
        Self { message, hint: self.hint }.at(&entry.place)
    }

    pub(super) fn at(self, place: &Place) -> Error {
        self.into_error(Some(place))
    }

    pub(super) fn into_error(self, place: Option<&Place>) -> Error {
        let message = match place {
            Some(place) => format!("{place}: {}", self.message),
            None => self.message,
        };
        let error = Error::new(ErrorKind::InvalidInput, "settings.read").because(message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Names less alike than this are not offered: below it, suggestions are noise.
const LIKENESS_MIN: f64 = 0.75;

/// The one of `known` most like `written`, whatever its case, if any is like it at all.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&written, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_what_and_what_instead() {
        let error = Problem::new("unknown key `tokn`")
            .suggest("tokn", ["server", "token"])
            .at(&Place::file("app.yml", 3, 7));
        assert_eq!(
            format!("{error:?}"),
            "settings.read: invalid input: app.yml:3:7: unknown key `tokn`\n  \
             hint: did you mean `token`?"
        );
    }

    #[test]
    fn nothing_is_suggested_for_nonsense() {
        assert_eq!(nearest("zzz", ["server", "token"]), None);
        assert_eq!(nearest("Recconect_Wait", ["reconnect_wait", "token"]), Some("reconnect_wait"));
    }
}
