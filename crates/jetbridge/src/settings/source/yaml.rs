//! YAML, and with it JSON, as a tree with places.
//!
//! `${VAR:-default}` is legal in every value, also where YAML's own syntax forbids `{`, as in
//! `{token: ${TOKEN:-}}`. So before parsing the characters between `${` and `}` are exchanged
//! for private ones, one for one, which keeps every column; afterwards they are put back.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jetbridge_core::Result;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::MergeKeyPolicy;

use super::expand::references;
use super::{Entry, Node, Scalar, Value};
use crate::settings::place::{Place, Problem};

/// Reads one YAML or JSON document; an empty one is [`Value::Null`]. Anchors, aliases and merge
/// keys are followed. Numbers, truths and dates stay the text that was written.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) with line and column; a name that a
/// map has twice is one.
pub fn parse_yaml(file: &str, text: &str) -> Result<Node> {
    let shielded = shield(text);
    let reader = Reader { file: file.into(), text: &shielded };
    let options = serde_saphyr::options! {
        with_snippet: false,
        merge_keys: MergeKeyPolicy::Merge,
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Raw>>>(&shielded, options) {
        Ok(Some(raw)) => Ok(reader.node(raw)),
        Ok(None) => Ok(Node { value: Value::Null, place: reader.place(1, 1) }),
        Err(error) => {
            let (line, column) =
                error.location().map_or((1, 1), |location| (location.line(), location.column()));
            let words = words_of(&error);
            let problem = match words.starts_with("mapping values are not allowed") {
                true => Problem::new(words).hint(QUOTE_HINT),
                false => Problem::new(words),
            };
            Err(problem.at(&reader.place(line, column)))
        }
    }
}

const QUOTE_HINT: &str = "put a value that contains `: ` or ends in `:` into quotes";

/// What the parser says, without the place, which stands before it, and without advice that is
/// meant for programmers.
fn words_of(error: &serde_saphyr::Error) -> String {
    let text = unshield(&error.without_snippet().to_string());
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    let text = text.split_once(", set DuplicateKeyPolicy").map_or(text, |(words, _)| words);
    text.to_owned()
}

/// First of the private characters that stand for ASCII between `${` and `}`.
const SHIELD_BASE: u32 = 0xE000;

fn shield(text: &str) -> Cow<'_, str> {
    let is_private = |c: char| (SHIELD_BASE..SHIELD_BASE + 0x80).contains(&u32::from(c));
    if !text.contains("${") || text.contains(is_private) {
        return Cow::Borrowed(text);
    }
    let mut shielded = String::with_capacity(text.len() * 2);
    let mut from = 0;
    for reference in references(text).filter(|range| !text[range.clone()].contains('\n')) {
        // The `$` stays, so that a value begins as it did.
        shielded.push_str(&text[from..=reference.start]);
        shielded.extend(text[reference.start + 1..reference.end].chars().map(|c| match c {
            // Quotes and escapes have their meaning for YAML here as elsewhere.
            '"' | '\'' | '\\' => c,
            _ if c.is_ascii() => char::from_u32(SHIELD_BASE + u32::from(c)).unwrap_or(c),
            _ => c,
        }));
        from = reference.end;
    }
    shielded.push_str(&text[from..]);
    Cow::Owned(shielded)
}

fn unshield(text: &str) -> String {
    text.chars()
        .map(|c| match u32::from(c).checked_sub(SHIELD_BASE) {
            Some(ascii) if ascii < 0x80 => char::from_u32(ascii).unwrap_or(c),
            _ => c,
        })
        .collect()
}

struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, line: u64, column: u64) -> Place {
        Place::file(Arc::clone(&self.file), line, column)
    }

    fn node(&self, raw: Spanned<Raw>) -> Node {
        let place = self.place(raw.referenced.line(), raw.referenced.column());
        let plain = |text: &str| Value::Scalar(Scalar { text: unshield(text), quoted: false });
        let source = self.source(&raw);
        let value = match raw.value {
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| Entry {
                        place: self.place(name.referenced.line(), name.referenced.column()),
                        name: unshield(&name.value),
                        node: self.node(value),
                    })
                    .collect(),
            ),
            Raw::Null => Value::Null,
            // What YAML takes for a number is kept as its source text: `007` and `1e5` may be
            // meant as such.
            Raw::Other(decoded) => plain(source.unwrap_or(&decoded)),
            Raw::Text(text) => {
                let quoted = source != Some(text.as_str());
                Value::Scalar(Scalar { text: unshield(&text), quoted })
            }
        };
        Node { value, place }
    }

    /// The text of a scalar as it stands in the file.
    fn source(&self, raw: &Spanned<Raw>) -> Option<&str> {
        let span = raw.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        Some(self.text.get(start..start.checked_add(length)?)?.trim_end())
    }
}

/// What the parser makes of a value.
enum Raw {
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
    Null,
    Other(String),
    Text(String),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, String, bool)> {
        parse_yaml("a.yml", text)
            .unwrap()
            .entries()
            .iter()
            .map(|entry| match &entry.node.value {
                Value::Scalar(it) => (entry.name.clone(), it.text.clone(), it.quoted),
                other => panic!("{} is {other:?}", entry.name),
            })
            .collect()
    }

    fn only(text: &str) -> (String, bool) {
        let mut all = texts(text);
        assert_eq!(all.len(), 1, "{text}");
        all.pop().map(|(_, text, quoted)| (text, quoted)).unwrap()
    }

    #[test]
    fn values_stay_the_text_that_was_written() {
        for (yaml, text) in [
            ("a: 007", "007"),
            ("a: 1e5", "1e5"),
            ("a: 1_000", "1_000"),
            ("a: 0x10", "0x10"),
            ("a: 123456789012345678901234567890", "123456789012345678901234567890"),
            ("a: yes", "yes"),
            ("a: True", "True"),
            ("a: 2024-01-02", "2024-01-02"),
            ("a: -1   # for ever", "-1"),
            ("a: plain text", "plain text"),
            ("{a: .5}", ".5"),
        ] {
            assert_eq!(only(yaml), (text.to_owned(), false), "{yaml}");
        }
        for (yaml, text) in [
            ("a: '007'", "007"),
            ("a: \"yes\"", "yes"),
            ("a: |\n  b\n  c\n", "b\nc\n"),
            ("a: !!str 5", "5"),
        ] {
            let (decoded, _) = only(yaml);
            assert_eq!(decoded, text, "{yaml}");
        }
        assert!(only("a: 'x'").1 && only("a: |\n  b\n").1);
    }

    #[test]
    fn references_to_variables_may_stand_anywhere() {
        for (yaml, text) in [
            ("{a: ${TOKEN:-}}", "${TOKEN:-}"),
            ("{listen: x, a: ${A:-b, c}}", "${A:-b, c}"),
            ("a: ${A:-b: c # d}", "${A:-b: c # d}"),
            ("a: \"x ${A:-\\\"} y\"", "x ${A:-\"} y"),
            ("a: '${A}'", "${A}"),
            ("a: pre${A}${B:-{}}", "pre${A}${B:-{}}"),
            ("a: ${A:-é}", "${A:-é}"),
        ] {
            let found = parse_yaml("a.yml", yaml).unwrap();
            assert_eq!(found.get("a").and_then(Node::text), Some(text), "{yaml}");
        }
        let root = parse_yaml("a.yml", "a: {b: ${X:-}, c: d}").unwrap();
        let c = root.get("a").and_then(|a| a.entry("c")).unwrap();
        assert_eq!(c.place.to_string(), "a.yml:1:16", "columns are those of the file");
    }

    #[test]
    fn json_anchors_and_merge_keys() {
        let json = "{\n\t\"url\": \"nats://a\",\n\t\"tls_first\": false,\n\t\"l\": [\"x\"]\n}\n";
        let root = parse_yaml("a.json", json).unwrap();
        assert_eq!(root.get("tls_first").unwrap().text(), Some("false"));
        assert_eq!(root.get("url").unwrap().place.to_string(), "a.json:2:9");
        let root = parse_yaml("a.yml", "b: &b {x: 1, y: 2}\na:\n  <<: *b\n  x: 3\n").unwrap();
        let a = root.get("a").unwrap();
        assert_eq!(a.get("x").unwrap().text(), Some("3"));
        assert_eq!(a.get("y").unwrap().text(), Some("2"));
    }

    #[test]
    fn nothing_is_null() {
        for yaml in ["a:", "a: ~", "a: null"] {
            assert_eq!(parse_yaml("a.yml", yaml).unwrap().get("a").unwrap().value, Value::Null);
        }
        assert_eq!(parse_yaml("a.yml", "# nothing\n").unwrap().value, Value::Null);
    }

    #[test]
    fn an_error_has_its_place_and_no_text_of_the_file() {
        for (yaml, message) in [
            ("a: 1\na: 2\n", "a.yml:2:1: duplicate mapping key: a"),
            ("a: [1\nb: 2\n", "a.yml:2:2: illegal placement of ':' indicator"),
            ("a: *nope\n", "a.yml:1:4: alias references unknown anchor"),
            ("a: \"s3cr3t\n", "a.yml:1:4: unclosed quote"),
            ("store: memory:\n", "a.yml:1:14: mapping values are not allowed in this context"),
        ] {
            let error = parse_yaml("a.yml", yaml).unwrap_err();
            assert_eq!(error.message(), Some(message));
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
    }
}
