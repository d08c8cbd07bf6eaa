//! How a document was written: what printing it again needs beside its values.

use std::fmt::Write as _;
use std::ops::Range;

use granit_parser::Tag;

use crate::scalar;

/// A comment line with its column from 0, or a blank line.
pub(crate) type Line = (usize, Box<str>);

/// The lines above an entry of that column: what stands to the right of it keeps its distance.
pub(crate) fn lines(above: Vec<Line>, column: usize) -> Vec<Box<str>> {
    let line = |(at, line): Line| {
        if line.is_empty() || at <= column {
            return line;
        }
        format!("{}{line}", " ".repeat(at - column)).into()
    };
    above.into_iter().map(line).collect()
}

/// `source` with its lines after the first moved to the left by `column`; `None` if one of them
/// begins before it.
pub(crate) fn moved(source: &str, column: usize) -> Option<Box<str>> {
    let mut text = String::with_capacity(source.len());
    for (number, line) in source.split('\n').enumerate() {
        if line.contains('\r') {
            return None;
        }
        if number == 0 {
            text.push_str(line);
            continue;
        }
        text.push('\n');
        if !line.trim().is_empty() {
            let (indent, rest) = line.split_at_checked(column)?;
            if !indent.bytes().all(|byte| byte == b' ') {
                return None;
            }
            text.push_str(rest);
        }
    }
    Some(text.into())
}

/// The blank lines before the entry that begins at `start`, its dashes left aside.
pub(crate) fn blank_lines_before(text: &str, start: usize) -> usize {
    let mut before = text.get(..start).unwrap_or_default().trim_end_matches(' ');
    while let Some(rest) = before.strip_suffix('-') {
        before = rest.trim_end_matches(' ');
    }
    let end = before.trim_end_matches([' ', '\t', '\r', '\n']);
    let breaks = before[end.len()..].bytes().filter(|byte| *byte == b'\n').count();
    if end.is_empty() { breaks } else { breaks.saturating_sub(1) }
}

/// Entries that room is made for at once, at most: more is made as they come.
const ENTRIES_MAX: usize = 1 << 18;

/// About how many entries the map at the start of `text` has, if it is a whole document: lines
/// that begin without a blank, up to its end or the next document.
pub(crate) fn entries(text: &str) -> usize {
    let begins = |line: &&str| !line.starts_with([' ', '#', '-', '\r']) && !line.is_empty();
    let lines = text.split('\n').take_while(|line| !scalar::is_marker(line));
    lines.filter(begins).take(ENTRIES_MAX).count()
}

/// The namespace that `!!` stands for.
const YAML_TAGS: &str = "tag:yaml.org,2002:";

/// A tag so that it means the same in another document, which has none of this one's shorthands.
pub(crate) fn tag(tag: &Tag) -> String {
    let full = [tag.handle(), tag.suffix()].concat();
    let short = match (full.strip_prefix(YAML_TAGS), full.strip_prefix('!')) {
        _ if full == "!" => return full,
        (Some(name), _) => Some(("!!", name)),
        (None, Some(name)) => Some(("!", name)),
        (None, None) => None,
    };
    match short.filter(|(_, name)| !name.is_empty()) {
        Some((handle, name)) => handle.to_owned() + &tag_text(name, "-_./:;?@&=+$~*'()#"),
        None => format!("!<{}>", tag_text(&full, "-_./:;?@&=+$~*'()#,[]!")),
    }
}

/// `text` with every byte as `%XX` that is no letter or digit and not in `kept`.
fn tag_text(text: &str, kept: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            shown.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(shown, "%{byte:02X}");
        }
    }
    shown
}

/// The column from 0 of the dash at `start`, or before what begins there.
pub(crate) fn dash_column(text: &str, start: usize) -> Option<usize> {
    let before = text.get(..start)?;
    let line = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    if text[start..].starts_with("- ") {
        return Some(line.chars().count());
    }
    Some(line.trim_end_matches(' ').strip_suffix('-')?.chars().count())
}

/// The block scalar whose content is at `range` and means `value`, from its `|` or `>` on;
/// `None` where printing it elsewhere could change what it means.
pub(crate) fn block<'a>(text: &'a str, range: &Range<usize>, value: &str) -> Option<&'a str> {
    let before = text.get(..range.start)?.trim_end_matches([' ', '\n']);
    let start = before.rfind(['|', '>'])?;
    let header = &before[start + 1..];
    let known = header.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let strips = header.contains('-');
    if !known || value.ends_with("\n\n") || !strips && !value.ends_with('\n') {
        return None;
    }
    let mut source = text.get(start..range.end)?;
    while let Some((rest, last)) = source.rsplit_once('\n')
        && last.bytes().all(|byte| byte == b' ')
    {
        source = rest;
    }
    let clean = source.lines().all(|line| line.is_empty() || !line.trim().is_empty());
    (clean && source.contains('\n')).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_to_the_end_of_their_document() {
        for (text, expected) in [
            ("a: 1\nb:\n  c: 2\n# no\nd: 3\n", 3),
            ("a: 1\n---\nb: 2\n", 1),
            ("a: 1\n...\nb: 2\nc: 3\n", 1),
        ] {
            assert_eq!(entries(text), expected, "{text}");
        }
    }
}
