//! `KEY=value` lines, as evo's settings files and `.env` files have them.

use std::sync::Arc;

use jetbridge_core::Result;

use super::{Entry, Node, Scalar, Value, twice};
use crate::settings::place::{Place, Problem};

/// Reads `KEY=value` lines. Empty lines and lines that begin with `#` are left out, as is a
/// leading `export`. A value in `"…"` or `'…'` is what stands between the quotes; without quotes
/// it ends at ` #`.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for a line without `=`, an
/// unfinished quote or a key that appears twice with different values.
pub fn parse_pairs(file: &str, text: &str) -> Result<Node> {
    let file: Arc<str> = file.into();
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(entry) = parse_line(&file, number, line)? else { continue };
        match entries.iter().find(|known| known.name == entry.name) {
            Some(known) if known.node.value == entry.node.value => {}
            Some(known) => return Err(twice(&entry.name, &known.place, &entry.place)),
            None => entries.push(entry),
        }
    }
    Ok(Node { value: Value::Map(entries), place: Place::file(file, 1, 1) })
}

fn parse_line(file: &Arc<str>, number: u64, line: &str) -> Result<Option<Entry>> {
    let place_of = |part: &str| {
        let offset = line.len() - part.len();
        let column = line[..offset].chars().count() + 1;
        Place::file(Arc::clone(file), number, u64::try_from(column).unwrap_or(u64::MAX))
    };
    let start = line.trim_start();
    if start.is_empty() || start.starts_with('#') {
        return Ok(None);
    }
    let start = start.strip_prefix("export ").map_or(start, str::trim_start);
    let place = place_of(start);
    // The line is not shown: a secret may stand in it.
    let (name, value) = start
        .split_once('=')
        .ok_or_else(|| Problem::new("a line without `=`").hint("write `KEY=value`").at(&place))?;
    let value = value.trim_start();
    let place_of_value = place_of(value);
    let scalar = unquote(value).map_err(|problem| problem.at(&place_of_value))?;
    Ok(Some(Entry {
        name: name.trim_end().to_owned(),
        place,
        node: Node { value: Value::Scalar(scalar), place: place_of_value },
    }))
}

fn unquote(value: &str) -> Result<Scalar, Problem> {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = comment_start(value).unwrap_or(value.len());
        return Ok(Scalar { text: value[..end].trim_end().to_owned(), quoted: false });
    };
    let mut text = String::new();
    let mut rest = value[1..].chars();
    while let Some(next) = rest.next() {
        match next {
            end if end == quote => {
                let after = rest.as_str().trim_start();
                return match after.is_empty() || after.starts_with('#') {
                    true => Ok(Scalar { text, quoted: true }),
                    false => Err(Problem::new("something follows the closing quote")),
                };
            }
            '\\' if quote == '"' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other @ ('"' | '\\' | '$')) => text.push(other),
                Some(other) => text.extend(['\\', other]),
                None => break,
            },
            other => text.push(other),
        }
    }
    Err(Problem::new("a quote is not closed"))
}

/// Where ` #` begins a comment.
fn comment_start(value: &str) -> Option<usize> {
    if value.starts_with('#') {
        return Some(0);
    }
    value.find(" #").or_else(|| value.find("\t#"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let node = parse_pairs("app.env", text).unwrap();
        node.entries()
            .iter()
            .map(|entry| (entry.name.clone(), entry.node.text().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn the_example_of_the_evo_page() {
        let text = "NATS.SERVER=nats://nats1:4222,nats://nats2:4222\nNATS.MAX_RECONNECT=-1\n\
                    NATS.RECONNECT_WAIT=5s\nNATS.CREDENTIALS=/etc/nats/app.creds\n\
                    NATS.DEFAULT_BUCKET=myapp\n";
        let expected = [
            ("NATS.SERVER", "nats://nats1:4222,nats://nats2:4222"),
            ("NATS.MAX_RECONNECT", "-1"),
            ("NATS.RECONNECT_WAIT", "5s"),
            ("NATS.CREDENTIALS", "/etc/nats/app.creds"),
            ("NATS.DEFAULT_BUCKET", "myapp"),
        ];
        assert_eq!(pairs(text), expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn comments_quotes_and_spaces() {
        for (line, value) in [
            ("A=b # c", "b"),
            ("A=b#c", "b#c"),
            ("  export A = b  ", "b"),
            (r#"A="b # c" # d"#, "b # c"),
            (r#"A="a\"b\\c\nd\x""#, "a\"b\\c\nd\\x"),
            (r"A='a\nb'", r"a\nb"),
            ("A=", ""),
            ("A=#x", ""),
            ("A=b=c", "b=c"),
        ] {
            assert_eq!(pairs(line), [("A".to_owned(), value.to_owned())], "{line}");
        }
        assert_eq!(pairs("# A=b\n\n  \n"), []);
    }

    #[test]
    fn a_bad_line_is_found_and_not_shown() {
        for (text, message) in [
            ("A=b\n  s3cr3t", "app.env:2:3: a line without `=`"),
            ("A=\"b", "app.env:1:3: a quote is not closed"),
            ("A=\"b\\", "app.env:1:3: a quote is not closed"),
            ("A='b'c", "app.env:1:3: something follows the closing quote"),
            ("A=b\nB=c\nA=d", "app.env:3:1: `A` is there already, at app.env:1:1"),
        ] {
            assert_eq!(parse_pairs("app.env", text).unwrap_err().message(), Some(message));
        }
        assert_eq!(pairs("A=b\nA=b").len(), 1, "the same twice is no contradiction");
    }
}
