//! How a command ended: exit codes, and errors with their chain of causes and one hint.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use jetbridge_core::{Error, ErrorKind, Outcome, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::interrupt::Signal;
use crate::printer::{Printer, STDOUT, Text, View};

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    /// It did what it was asked to.
    Done,
    /// A command that ran under it has ended with this code.
    Exited(u8),
    /// It has said itself what failed.
    Failed(ErrorKind),
    /// The answer is no: an absent key, a failed check.
    No,
    /// A signal cut it short.
    Interrupted(Signal),
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Exited(code) => code,
            Self::Failed(kind) => code(kind),
            Self::No => 1,
            // As a shell reports a process that a signal has ended.
            Self::Interrupted(signal) => 128 + signal.number(),
        }
    }
}

/// The exit code of an error.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput
        | ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::Unsupported => 2,
        ErrorKind::LimitExceeded | ErrorKind::Unavailable => 3,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Corrupt => 4,
        // The rest are bugs, as is a kind that this table has not heard of.
        _ => 70,
    }
}

/// Reports an error and gives the exit code. That nobody reads on is no failure.
pub(crate) fn conclude(settled: Result<Status>, printer: &Printer) -> ExitCode {
    match settled.and_then(|status| printer.flush().map(|()| status)) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            printer.error(&Report::of(&error));
            ExitCode::from(code(error.kind()))
        }
    }
}

pub(crate) fn reader_left(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    error.operation() == STDOUT
        && cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Reports arguments that clap refuses, or prints the help or version it was asked for.
pub(crate) fn usage(refused: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let code = u8::try_from(refused.exit_code()).unwrap_or(2);
    let options = arguments.iter().take_while(|argument| *argument != "--");
    if code != 0 && options.into_iter().any(|argument| argument == "--json") {
        let text = refused.to_string();
        let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
        let error =
            serde_json::json!({ "error": { "kind": "usage", "message": message, "exit": code } });
        let _written = writeln!(io::stderr(), "{error}");
    } else {
        let _printed = refused.print();
    }
    ExitCode::from(code)
}

/// An error as it is printed.
#[derive(Serialize)]
pub(crate) struct Report {
    error: Body,
}

#[derive(Serialize)]
struct Body {
    kind: &'static str,
    operation: &'static str,
    /// This layer in one line.
    message: String,
    facts: Map<String, Value>,
    /// Whether a write may have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    exit: u8,
}

impl Report {
    pub(crate) fn of(error: &Error) -> Self {
        let facts = error.facts().map(|(name, value)| (name.to_owned(), Value::from(value)));
        let unknown = error.outcome() == Outcome::Unknown;
        Self {
            error: Body {
                kind: error.kind().as_str(),
                operation: error.operation(),
                message: error.to_string(),
                facts: facts.collect(),
                outcome: unknown.then_some("unknown"),
                causes: causes(error),
                hint: hint(error),
                exit: code(error.kind()),
            },
        }
    }
}

impl Report {
    /// The error and its causes, without the hint.
    pub(crate) fn lines(&self) -> String {
        let causes = self.error.causes.iter().map(|cause| format!("\ncaused by: {cause}"));
        std::iter::once(self.error.message.clone()).chain(causes).collect()
    }
}

impl View for Report {
    fn text(&self, out: &mut Text) {
        out.line(format_args!("error: {}", self.error.message));
        for cause in &self.error.causes {
            out.line(format_args!("  caused by: {cause}"));
        }
        if let Some(hint) = &self.error.hint {
            out.line(format_args!("\nhint: {hint}"));
        }
    }
}

/// An error whose line begins with words that its users look for.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Begun(Report);

impl Begun {
    /// `words`, if there are any, before what `error` says of itself.
    pub(crate) fn with(words: Option<&str>, error: &Error) -> Self {
        let mut report = Report::of(error);
        if let Some(words) = words {
            let own = std::mem::replace(&mut report.error.message, words.to_owned());
            if error.message() != Some(words) {
                report.error.causes.insert(0, own);
            }
        }
        Self(report)
    }
}

impl View for Begun {
    fn text(&self, out: &mut Text) {
        self.0.text(out);
    }
}

/// The chain behind `error`, without layers that only repeat the one above.
fn causes(error: &Error) -> Vec<String> {
    let mut lines = Vec::new();
    let mut above = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !line.is_empty() && !above.contains(&line) {
            lines.push(line.clone());
            above = line;
        }
        next = cause.source();
    }
    lines
}

/// The hint of the outermost layer that has one, else what helps with errors of this kind.
fn hint(error: &Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(layer) = next {
        if let Some(hint) = layer.downcast_ref::<Error>().and_then(Error::hint_text) {
            return Some(hint.to_owned());
        }
        next = layer.source();
    }
    let general = match error.kind() {
        ErrorKind::Conflict => "somebody else was first: read again, then decide again",
        ErrorKind::Internal => "this is a bug: please report it, with the command and this text",
        ErrorKind::PermissionDenied | ErrorKind::Unavailable if error.operation() != STDOUT => {
            "`jetbridge doctor` says what fails and why"
        }
        _ => return None,
    };
    Some(general.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &Error) -> String {
        let mut out = Text::default();
        Report::of(error).text(&mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn a_chain_is_printed_once_with_one_hint() {
        let root = Error::new(ErrorKind::Unavailable, "nats.request").hint("start the server");
        let middle = io::Error::other(root);
        let error = Error::new(ErrorKind::Unavailable, "kv.put").with("key", "a").caused_by(middle);
        assert_eq!(
            text(&error),
            "error: kv.put: unavailable: key=a\n  caused by: nats.request: unavailable\n\n\
             hint: `jetbridge doctor` says what fails and why\n"
        );
    }

    #[test]
    fn the_hint_nearest_to_the_user_wins() {
        let cause = Error::new(ErrorKind::Unavailable, "b").hint("inner");
        let error = Error::new(ErrorKind::Unavailable, "a").caused_by(cause);
        assert_eq!(hint(&error).as_deref(), Some("inner"));
        assert_eq!(hint(&error.hint("outer")).as_deref(), Some("outer"));
        assert_eq!(hint(&Error::new(ErrorKind::InvalidInput, "c")), None);
    }

    #[test]
    fn every_kind_has_its_exit_code() {
        for (kind, expected) in [
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::NotFound, 2),
            (ErrorKind::PermissionDenied, 2),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::LimitExceeded, 3),
            (ErrorKind::Unavailable, 3),
            (ErrorKind::AlreadyExists, 4),
            (ErrorKind::Conflict, 4),
            (ErrorKind::Corrupt, 4),
            (ErrorKind::Internal, 70),
        ] {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
        assert_eq!(Status::Interrupted(Signal::Interrupt).code(), 130);
        assert_eq!(Status::Interrupted(Signal::Terminate).code(), 143);
    }

    #[test]
    fn only_a_reader_that_left_is_no_failure() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        let unavailable = |operation| Error::new(ErrorKind::Unavailable, operation);
        assert!(reader_left(&unavailable(STDOUT).caused_by(pipe())));
        assert!(!reader_left(&unavailable("nats.request").caused_by(pipe())));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!reader_left(&unavailable(STDOUT).caused_by(full)));
    }
}
