//! Where the keys of a scope lie in the order of the stored texts, and cursors into it.

use std::borrow::Cow;

use jetbridge_core::{
    BucketName, Cursor, Digest, Error, ErrorKind, Key, KeyEncoding, Result, Scope, codec,
};
use rusqlite::Connection;

use crate::bucket::rows::Span;
use crate::fault::JobResult;

/// The key that `text` stands for.
pub(super) fn decode(keys: KeyEncoding, text: &str) -> Cow<'_, str> {
    match keys {
        KeyEncoding::Raw => text.into(),
        _ => codec::decode(text),
    }
}

/// As [`decode`], as a key.
pub(super) fn parse(keys: KeyEncoding, text: &str) -> Result<Key> {
    Key::parse(decode(keys, text))
}

/// Spans of texts, in order and apart, that hold every key of `scope`, and maybe others.
pub(super) fn spans(keys: KeyEncoding, scope: &Scope) -> Vec<Span> {
    let one = |key: &Key| match keys {
        KeyEncoding::Raw => exactly(key.as_str()),
        _ => exactly(&codec::encode(key.as_str())),
    };
    match scope {
        Scope::Prefix(prefix) => vec![beginning(&stable_prefix(keys, prefix))],
        Scope::One(key) => vec![one(key)],
        Scope::Many(many) => {
            let mut spans: Vec<Span> = many.iter().map(one).collect();
            spans.sort_by(|a, b| a.from.cmp(&b.from));
            spans.dedup_by(|a, b| a.from == b.from);
            spans
        }
        Scope::Matching(pattern) => {
            let plain = pattern.tokens().take_while(|token| !matches!(*token, "*" | ">"));
            let plain: Vec<&str> = plain.collect();
            vec![beginning(&plain.join("."))]
        }
        _ => vec![Span::default()],
    }
}

/// One span over all of `spans`, which are in order.
pub(super) fn hull(mut spans: Vec<Span>) -> Span {
    let Some(last) = spans.pop() else {
        // A scope of no keys.
        return Span { from: String::new(), to: Some(String::new()) };
    };
    let from = spans.into_iter().next().map_or(last.from, |first| first.from);
    Span { from, to: last.to }
}

/// Every stored name in `spans` that `filter` takes, live or not.
pub(super) fn stored(
    sql: &Connection,
    spans: &[Span],
    filter: &dyn Fn(&str) -> bool,
) -> JobResult<Vec<String>> {
    const SQL: &str = "SELECT name FROM latest WHERE name >= ?1 AND (?2 IS NULL OR name < ?2)";
    let mut statement = sql.prepare_cached(SQL)?;
    let mut names = Vec::new();
    for span in spans {
        let mut rows = statement.query((&span.from, &span.to))?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if filter(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// What every stored text of a key with the prefix `prefix` begins with.
fn stable_prefix(keys: KeyEncoding, prefix: &str) -> String {
    if keys == KeyEncoding::Raw {
        return prefix.to_owned();
    }
    // How `=` and a dot are written depends on what is around them; all else is not.
    let stable = prefix.split(['=', '.']).next().unwrap_or_default();
    // A key of these bytes alone is never taken for escaped text: nothing in it is an `=`.
    codec::encode(stable).into_owned()
}

fn exactly(text: &str) -> Span {
    Span { from: text.to_owned(), to: Some(format!("{text}\0")) }
}

/// Texts are ASCII but for raw ones that other programs wrote; a byte order behind all UTF-8.
fn beginning(prefix: &str) -> Span {
    if prefix.is_empty() {
        return Span::default();
    }
    let to = format!("{prefix}{}", char::MAX);
    Span { from: prefix.to_owned(), to: Some(to) }
}

/// A cursor behind the stored text `text`, with a mark that only this bucket puts on it.
pub(super) fn cursor(bucket: &BucketName, text: &str) -> Cursor {
    Cursor::new(&format!("{}.{text}", mark(bucket, text)))
}

/// The inverse of [`cursor`].
pub(super) fn parse_cursor(bucket: &BucketName, cursor: &Cursor) -> Result<String> {
    match cursor.as_str().split_once('.') {
        Some((marked, text)) if marked == mark(bucket, text) => Ok(text.to_owned()),
        _ => Err(Error::new(ErrorKind::InvalidInput, "kv.page")
            .because("this is no cursor that a page of this bucket returned")
            .with("bucket", bucket)
            .with("cursor", cursor.as_str())),
    }
}

fn mark(bucket: &BucketName, text: &str) -> String {
    let digest = Digest::of(format!("page of {bucket} behind {text}").as_bytes());
    digest.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scope: &Scope, key: &str) {
        let text = codec::encode(key);
        let spans = spans(KeyEncoding::Escaped, scope);
        let within = spans
            .iter()
            .any(|span| *span.from <= *text && span.to.as_ref().is_none_or(|to| *text < **to));
        assert!(within, "{key:?} is within {spans:?} of {scope:?}");
    }

    #[test]
    fn a_prefix_spans_every_key_that_begins_with_it() {
        for key in
            ["a", "a.b", "a..b", "user:1", "user:1.x", "x=3A", "x=", "é.é", ".", "..", "a b="]
        {
            for (end, _) in key.char_indices().chain([(key.len(), ' ')]) {
                check(&Scope::prefix(&key[..end]), key);
            }
        }
    }

    #[test]
    fn a_pattern_spans_every_text_that_matches_it() {
        use jetbridge_core::Pattern;
        for (pattern, key) in
            [("a.*", "a.b"), ("a.>", "a.b.c"), (">", "z"), ("*.b", "a.b"), ("a", "a")]
        {
            check(&Scope::Matching(Pattern::parse(pattern).unwrap()), key);
        }
    }

    #[test]
    fn only_what_a_page_returned_is_a_cursor() {
        let bucket = BucketName::parse("b").unwrap();
        let good = cursor(&bucket, "a.b");
        assert_eq!(parse_cursor(&bucket, &good).unwrap(), "a.b");
        let other = BucketName::parse("c").unwrap();
        assert!(parse_cursor(&other, &good).is_err());
        for bad in ["", "a", ".a", "a.b"] {
            assert!(parse_cursor(&bucket, &Cursor::new(bad)).is_err(), "{bad}");
        }
    }
}
