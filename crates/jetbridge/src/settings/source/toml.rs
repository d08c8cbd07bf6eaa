//! TOML as a tree with places.

use std::ops::Range;
use std::sync::Arc;

use ::toml::Spanned;
use ::toml::de::{DeInteger, DeString, DeTable, DeValue};
use jetbridge_core::Result;

use super::{Entry, Node, Scalar, Value, line_and_column};
use crate::settings::place::{Place, Problem};

/// Reads TOML. Numbers, truths and dates stay the text that was written.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) with line and column.
pub fn parse_toml(file: &str, text: &str) -> Result<Node> {
    let reader = Reader { file: file.into(), text };
    match DeTable::parse(text) {
        Ok(table) => Ok(Node {
            value: Value::Map(reader.entries(table.get_ref())),
            place: reader.place(&(0..0)),
        }),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            Err(Problem::new(error.message()).at(&reader.place(&span)))
        }
    }
}

struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = line_and_column(self.text, span.start);
        Place::file(Arc::clone(&self.file), line, column)
    }

    fn entries(&self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<(usize, Entry)> = table
            .iter()
            .map(|(name, value): (&Spanned<DeString<'_>>, _)| {
                let entry = Entry {
                    name: name.get_ref().clone().into_owned(),
                    place: self.place(&name.span()),
                    node: self.node(value),
                };
                (name.span().start, entry)
            })
            .collect();
        entries.sort_by_key(|(offset, _)| *offset);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let scalar = |text: &str, quoted| Value::Scalar(Scalar { text: text.to_owned(), quoted });
        Node {
            value: match value.get_ref() {
                DeValue::Array(items) => {
                    Value::List(items.iter().map(|item| self.node(item)).collect())
                }
                DeValue::Boolean(truth) => scalar(if *truth { "true" } else { "false" }, false),
                DeValue::Datetime(date) => scalar(&date.to_string(), false),
                DeValue::Float(number) => scalar(number.as_str(), false),
                DeValue::Integer(number) => scalar(&decimal(number), false),
                DeValue::String(text) => scalar(text, true),
                DeValue::Table(table) => Value::Map(self.entries(table)),
            },
            place: self.place(&value.span()),
        }
    }
}

/// The number without its base: `0x10` is 16 for whoever reads it.
fn decimal(number: &DeInteger<'_>) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) if number.radix() != 10 => value.to_string(),
        _ => number.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_SYNC: &str = r#"
[stores.nats]
engine = "nats"
url = "nats://localhost:4222"
token = "${NATS_TOKEN:-}"        # Optional auth token
auto_create = false               # Create bucket if missing
retry_interval = 0.05             # CAS retry interval (seconds)
max_retries = 1_000
mode = 0o640
"#;

    #[test]
    fn values_stay_the_text_that_was_written() {
        let root = parse_toml("rate-sync.toml", RATE_SYNC).unwrap();
        let store = root.get("stores").and_then(|stores| stores.get("nats")).unwrap();
        let texts: Vec<_> = store
            .entries()
            .iter()
            .map(|entry| (&*entry.name, entry.node.text().unwrap()))
            .collect();
        let expected = [
            ("engine", "nats"),
            ("url", "nats://localhost:4222"),
            ("token", "${NATS_TOKEN:-}"),
            ("auto_create", "false"),
            ("retry_interval", "0.05"),
            ("max_retries", "1000"),
            ("mode", "416"),
        ];
        assert_eq!(texts, expected);
        let token = store.entry("token").unwrap();
        assert_eq!(token.place.to_string(), "rate-sync.toml:5:1");
        assert_eq!(token.node.place.to_string(), "rate-sync.toml:5:9");
    }

    #[test]
    fn lists_and_tables_keep_their_places() {
        let root = parse_toml("a.toml", "l = [\"x\", 2]\n[[t]]\nn = 1\n").unwrap();
        let Value::List(items) = &root.get("l").unwrap().value else { panic!("not a list") };
        assert_eq!(items[1].place.to_string(), "a.toml:1:11");
        let Value::List(tables) = &root.get("t").unwrap().value else { panic!("not a list") };
        assert_eq!(tables[0].get("n").unwrap().place.to_string(), "a.toml:3:5");
    }

    #[test]
    fn an_error_has_its_place_and_no_text_of_the_file() {
        let error = parse_toml("a.toml", "a = 1\nb = \"s3cr3t\n").unwrap_err();
        assert!(error.message().unwrap().starts_with("a.toml:2:"), "{error}");
        assert!(!format!("{error:?}").contains("s3cr3t"));
        let error = parse_toml("a.toml", "a = 1\na = 2\n").unwrap_err();
        assert_eq!(error.message(), Some("a.toml:2:1: duplicate key"));
    }
}
