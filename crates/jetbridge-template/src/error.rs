//! What is wrong with a template: all of it, with its places, as spruce words it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::prescan::close;

/// A place in an input.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Place {
    /// The input's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Place {
    pub(crate) fn new(file: &str, line: usize, column: usize) -> Self {
        Self { file: file.to_owned(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The value it is about, as `$.a.b`; `None` if it is about an input as a whole.
    pub path: Option<String>,
    /// What is wrong. Never a secret.
    pub message: String,
    /// Where the value was written.
    pub place: Option<Place>,
    /// The line at `place`, for a snippet.
    pub source_line: Option<String>,
}

impl Diagnostic {
    pub(crate) fn top(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    pub(crate) fn at(path: String, message: impl Into<String>) -> Self {
        Self { path: Some(path), message: message.into(), ..Self::default() }
    }

    /// The place, and the line with marks under what is meant, as compilers show it; empty
    /// without a place.
    pub fn snippet(&self) -> String {
        let Some(place) = &self.place else { return String::new() };
        let group = Group::with_level(Level::ERROR);
        let group =
            match self.source_line.as_deref().and_then(|line| Some((line, mark(line, place)?))) {
                Some((line, mark)) => group.element(
                    Snippet::source(line)
                        .path(place.file.as_str())
                        .line_start(place.line)
                        .annotation(AnnotationKind::Primary.span(mark)),
                ),
                None => group.element(
                    Origin::path(place.file.as_str()).line(place.line).char_column(place.column),
                ),
            };
        Renderer::plain().render(&[group]) + "\n"
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The bytes of `line` that stand at `place`: an operator as far as it is on the line, else one
/// character. `None` if the line is cut before it.
fn mark(line: &str, place: &Place) -> Option<Range<usize>> {
    let (start, first) = line.char_indices().nth(place.column.checked_sub(1)?)?;
    let rest = &line[start..];
    let bare = rest.trim_start_matches(['"', '\'']);
    let length = if bare.starts_with("((") {
        let quotes = rest.len() - bare.len();
        // Else it goes on behind this line.
        close(bare.as_bytes()).map_or(rest.trim_end().len(), |length| quotes + length)
    } else {
        first.len_utf8()
    };
    Some(start..start + length)
}

/// Everything that is wrong with the inputs, sorted by its text.
///
/// `Display` is what spruce prints: a headline with the number, and one line for each; a single
/// error about an input as a whole stands alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    diagnostics: Vec<Diagnostic>,
    /// Printed below a headline.
    listed: bool,
}

impl Failure {
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_cached_key(ToString::to_string);
        let alone = matches!(&diagnostics[..], [only] if only.path.is_none());
        Self { diagnostics, listed: !alone }
    }

    /// One error that stands alone.
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self::new(vec![diagnostic])
    }

    /// Errors below a headline, even if there is but one.
    pub(crate) fn listed(diagnostics: Vec<Diagnostic>) -> Self {
        Self { listed: true, ..Self::new(diagnostics) }
    }

    /// All errors, sorted by their text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.diagnostics[..]
            && !self.listed
        {
            return write!(f, "{only}");
        }
        writeln!(f, "{} error(s) detected:", self.diagnostics.len())?;
        for diagnostic in &self.diagnostics {
            writeln!(f, " - {diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_the_operator_and_nothing_behind_it() {
        for (line, column, marked) in [
            ("{a: (( grab x )), b: (( grab y ))}", 5, "(( grab x ))"),
            ("{a: (( grab x )), b: (( grab y ))}", 22, "(( grab y ))"),
            ("a: (( concat \"))\" (upper b) )) # ))", 4, "(( concat \"))\" (upper b) ))"),
            ("a: \"(( grab x ))\"", 4, "\"(( grab x ))"),
            ("a: (( grab", 4, "(( grab"),
            ("a: plain", 4, "p"),
            ("a: x) y", 5, ")"),
            ("a: \"x) y", 4, "\""),
        ] {
            let place = Place::new("f", 1, column);
            assert_eq!(&line[mark(line, &place).unwrap()], marked, "{line}");
        }
    }
}
