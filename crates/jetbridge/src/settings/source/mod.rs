//! Files of settings as a tree: every name and value knows its line and column, and a value
//! stays the text that was written until something wants a number. YAML, JSON, TOML and
//! `KEY=value` lines all become the same tree, so nothing beyond knows the formats apart.

mod expand;
mod pairs;
mod toml;
mod typed;
mod yaml;

use std::fmt;
use std::path::Path;

use jetbridge_core::{Error, ErrorKind, Result};

pub use expand::Expansion;
pub(super) use expand::expand_text;
pub use pairs::parse_pairs;
pub use toml::parse_toml;
pub use typed::{ByteSize, GoDuration, Seconds};
pub use yaml::parse_yaml;

use super::place::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a value and its place")]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub place: Place,
}

/// A value of a file of settings.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "what YAML and TOML can both say")]
pub enum Value {
    /// Values in order.
    List(Vec<Node>),
    /// Values by name, in the order of the file; no name twice.
    Map(Vec<Entry>),
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// Anything else, as it was written.
    Scalar(Scalar),
}

/// A named value.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a name and its value")]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    /// The value.
    pub node: Node,
}

/// A text, number, truth or date, as it was written. `Debug` hides it: it may be a secret.
#[derive(Clone, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a text, and whether it can be anything else")]
pub struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// It was quoted, or is more than one line: it can only be a text.
    pub quoted: bool,
}

impl Node {
    /// The value called `name`, if this is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// The entry called `name`, if this is a map that has it.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.name == name)
    }

    /// The entries of a map; none if this is something else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::List(_) | Value::Null | Value::Scalar(_) => &[],
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) | Value::Null => None,
        }
    }

    /// A text at a place.
    pub fn scalar(text: impl Into<String>, place: Place) -> Self {
        Self { value: Value::Scalar(Scalar { text: text.into(), quoted: true }), place }
    }

    /// True if both say the same, wherever and however they were written: places, quotes and the
    /// order of names make no difference.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same_as(b))
            }
            (Value::Map(a), Value::Map(b)) => {
                let has = |entry: &Entry| {
                    b.iter().any(|other| {
                        other.name == entry.name && other.node.says_the_same_as(&entry.node)
                    })
                };
                a.len() == b.len() && a.iter().all(has)
            }
            (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
            (Value::Null, Value::Null) => true,
            _ => false,
        }
    }

    /// What the value is called in an error.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Null => "nothing",
            Value::Scalar(_) => "a text",
        }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a file: YAML for `.yml`, `.yaml` and `.json`, TOML for `.toml`, else `KEY=value` lines.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if the file cannot be read or is not well formed,
/// with line and column.
pub fn read_file(path: &Path) -> Result<Node> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, "settings.read")
            .because(format!("{name} cannot be read"))
            .caused_by(cause)
    })?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "yaml" | "yml") => parse_yaml(&name, &text),
        Some("toml") => parse_toml(&name, &text),
        _ => parse_pairs(&name, &text),
    }
}

/// The line and column, both from 1, of a byte of `text`.
fn line_and_column(text: &str, offset: usize) -> (u64, u64) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    (count(before.matches('\n').count() + 1), count(before[line_start..].chars().count() + 1))
}

/// The error of a name that a map has twice.
fn twice(name: &str, first: &Place, second: &Place) -> Error {
    Problem::new(format!("`{name}` is there already, at {first}")).hint("keep one").at(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_say_the_same_however_they_are_written() {
        let node = |yaml: &str| parse_yaml("a.yml", yaml).unwrap();
        let yaml = "a: 1\nb: [x, {c: ~}]\n";
        let toml = parse_toml("a.toml", "b = []\na = 1\n").unwrap();
        assert!(node(yaml).says_the_same_as(&node("{b: ['x', {\"c\": null}], \"a\": \"1\"}")));
        assert!(node("{a: 1, b: []}").says_the_same_as(&toml));
        for other in ["a: 2\nb: [x, {c: ~}]", "a: 1", "a: 1\nb: [x]", "a: 1\nb: x", "[a, b]"] {
            assert!(!node(yaml).says_the_same_as(&node(other)), "{other}");
        }
    }

    #[test]
    fn a_file_is_read_by_its_extension() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.yml", "k: v"),
            ("a.yaml", "k: v"),
            ("a.json", "{\"k\": \"v\"}"),
            ("a.toml", "k = \"v\""),
            ("a.conf", "k=v"),
            (".env", "k=v"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            let root = read_file(&path).unwrap();
            assert_eq!(root.get("k").and_then(Node::text), Some("v"), "{name}");
            assert!(root.entries()[0].place.to_string().contains(name));
        }
        let error = read_file(&directory.path().join("none.yml")).unwrap_err();
        assert!(error.message().unwrap().ends_with("none.yml cannot be read"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
