//! From trees to text: as it was written, as spruce lays it out, or as JSON.

use std::cmp::Ordering;

use crate::scalar;
use crate::tree::{At, Extras, Layout, Map, Node, Value, shown};

/// How the result is laid out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Style {
    /// Numbers, quotes, order of keys and comments of the base document are kept.
    #[default]
    Lossless,
    /// spruce's layout: sorted keys, lists not indented, no comments; floats are exact.
    Graft,
}

/// Columns from one level to the next, where nothing is known of how a document was written.
const STEP: usize = 2;

/// Columns after which a plain scalar is folded in spruce's layout.
pub(crate) const FOLD_COLUMNS: usize = 80;

/// The document as YAML, with a line break at its end.
pub(crate) fn yaml(node: &Node, style: Style) -> String {
    let mut writer = Writer { out: String::new(), style, mid_line: false };
    if let Some(extras) = &node.extras {
        if let Some(head) = extras.head.as_ref().filter(|_| style == Style::Lossless) {
            writer.comments(head, 0);
            writer.out.push_str("---\n");
        }
        writer.comments(&extras.above, 0);
    }
    if let Some(tag) = node.tag() {
        writer.out.push_str(tag);
        writer.out.push(if writer.is_block(node) { '\n' } else { ' ' });
    }
    match &node.value {
        Value::Map(map) if writer.is_block(node) => writer.map(map, 0),
        Value::List(items) if writer.is_block(node) => writer.list(items, 0),
        _ => {
            writer.inline(node, 0);
            writer.out.push('\n');
        }
    }
    if let Some(extras) = &node.extras {
        writer.comments(&extras.tail, 0);
    }
    writer.out
}

struct Writer {
    out: String,
    style: Style,
    /// The next entry stands behind a dash, not on a line of its own.
    mid_line: bool,
}

impl Writer {
    fn pad(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(' ', columns));
    }

    fn comments(&mut self, lines: &[Box<str>], column: usize) {
        if self.style == Style::Lossless {
            for line in lines {
                if !line.is_empty() {
                    self.pad(column);
                    self.out.push_str(line);
                }
                self.out.push('\n');
            }
        }
    }

    fn extras<'n>(&self, node: &'n Node) -> Option<&'n Extras> {
        node.extras.as_deref().filter(|_| self.style == Style::Lossless)
    }

    /// True for a container that is laid out over several lines.
    fn is_block(&self, node: &Node) -> bool {
        let holds_any = match &node.value {
            Value::Map(map) => !map.is_empty(),
            Value::List(items) => !items.is_empty(),
            _ => false,
        };
        let flow = node.layout == Layout::Flow && self.style == Style::Lossless;
        holds_any && (!flow || has_comments(node))
    }

    /// How far the entries of `node` stand from those around it.
    fn indent(&self, node: &Node, usual: usize, least: usize) -> usize {
        let written = node.indent.columns().filter(|_| self.style == Style::Lossless);
        written.unwrap_or(usual).max(least)
    }

    /// The start of an entry: its comments, and the column it begins in.
    fn begin(&mut self, node: &Node, column: usize) {
        if std::mem::take(&mut self.mid_line) {
            return;
        }
        if let Some(extras) = self.extras(node) {
            self.comments(&extras.above, column);
        }
        self.pad(column);
    }

    fn map(&mut self, map: &Map, column: usize) {
        let mut entries: Vec<_> = map.iter().collect();
        if self.style == Style::Graft {
            entries.sort_by(|a, b| natural(a.0, b.0));
        }
        for (key, node) in entries {
            self.begin(node, column);
            self.key(key, node);
            self.value(node, column);
        }
    }

    fn key(&mut self, key: &str, node: &Node) {
        match node.extras.as_ref().and_then(|extras| extras.key.as_deref()) {
            Some(lexeme) if self.style == Style::Lossless => self.out.push_str(lexeme),
            Some(lexeme) if !lexeme.starts_with(['"', '\'']) => self.out.push_str(lexeme),
            _ => self.out.push_str(&text(key)),
        }
        self.out.push(':');
    }

    /// What follows `key:` or a dash in that column, with the line break.
    fn value(&mut self, node: &Node, column: usize) {
        let right = self.extras(node).and_then(|extras| extras.right.clone());
        if let Some(tag) = node.tag() {
            self.out.push(' ');
            self.out.push_str(tag);
        }
        match &node.value {
            Value::Map(map) if self.is_block(node) => {
                self.end(right.as_deref());
                self.map(map, column + self.indent(node, STEP, 1));
            }
            Value::List(items) if self.is_block(node) => {
                self.end(right.as_deref());
                let usual = if self.style == Style::Graft { 0 } else { STEP };
                self.list(items, column + self.indent(node, usual, 0));
            }
            Value::Null if node.raw.as_deref() == Some("") && self.style == Style::Lossless => {
                self.end(right.as_deref());
            }
            _ => {
                self.out.push(' ');
                self.inline(node, column);
                self.end(right.as_deref());
            }
        }
    }

    fn end(&mut self, comment: Option<&str>) {
        if let Some(comment) = comment
            && !self.out.ends_with('\n')
        {
            self.out.push(' ');
            self.out.push_str(comment);
        }
        if !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn list(&mut self, items: &[Node], column: usize) {
        for item in items {
            self.begin(item, column);
            self.out.push('-');
            if !self.is_block(item) || item.tag().is_some() {
                self.value(item, column);
                continue;
            }
            let indent = self.indent(item, STEP, STEP);
            let first = match &item.value {
                Value::Map(map) => map.values().next(),
                Value::List(list) => list.first(),
                _ => None,
            };
            // Comments above the first entry leave the dash alone on its line.
            let commented = first.and_then(|node| self.extras(node));
            if commented.is_some_and(|extras| !extras.above.is_empty()) {
                self.out.push('\n');
            } else {
                self.pad(indent - 1);
                self.mid_line = true;
            }
            match &item.value {
                Value::Map(map) => self.map(map, column + indent),
                Value::List(list) => self.list(list, column + indent),
                _ => {}
            }
        }
    }

    /// A value on the line, or with more lines of it, for an entry in that column.
    fn inline(&mut self, node: &Node, column: usize) {
        match &node.value {
            Value::Map(map) => {
                self.out.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.flow_key(key, value);
                    self.out.push(' ');
                    self.flow_item(value, column);
                }
                self.out.push('}');
            }
            Value::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.flow_item(item, column);
                }
                self.out.push(']');
            }
            Value::Str(text) if self.style == Style::Graft || node.raw.is_none() => {
                self.string(text, column);
            }
            _ => match node.raw.as_deref().filter(|raw| !raw.is_empty()) {
                Some(raw) if self.style == Style::Lossless => self.lexeme(raw, column),
                _ => self.scalar(&node.value),
            },
        }
    }

    /// A scalar as it was written.
    fn lexeme(&mut self, raw: &str, column: usize) {
        for (number, line) in raw.split('\n').enumerate() {
            if number > 0 {
                self.out.push('\n');
                self.pad(if line.is_empty() { 0 } else { column });
            }
            self.out.push_str(line);
        }
    }

    fn flow_key(&mut self, key: &str, node: &Node) {
        let lexeme = node.extras.as_ref().and_then(|extras| extras.key.as_deref());
        if fits_flow(lexeme.unwrap_or(key)) {
            return self.key(key, node);
        }
        self.out.push_str(&scalar::quoted(key));
        self.out.push(':');
    }

    fn flow_item(&mut self, node: &Node, column: usize) {
        if let Some(tag) = node.tag() {
            self.out.push_str(tag);
            self.out.push(' ');
        }
        let raw = node.raw.as_deref().filter(|raw| fits_flow(raw));
        match (&node.value, raw) {
            (Value::Str(string), None) if fits_flow(string) => self.out.push_str(&text(string)),
            (Value::Str(string), None) => self.out.push_str(&scalar::quoted(string)),
            _ => self.inline(node, column),
        }
    }

    fn scalar(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push_str(if self.style == Style::Graft { "null" } else { "~" }),
            Value::Float(f) => self.out.push_str(&scalar::float_text(*f)),
            other => self.out.push_str(&shown(&Node::new(other.clone()))),
        }
    }

    fn string(&mut self, string: &str, column: usize) {
        if !is_block_fit(string) {
            let text = text(string);
            if self.style == Style::Graft && !text.starts_with('"') {
                return self.folded(&text, column + STEP);
            }
            self.out.push_str(&text);
            return;
        }
        let trimmed = string.trim_end_matches('\n');
        self.out.push_str(match string.len() - trimmed.len() {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        let kept = string.strip_suffix('\n').unwrap_or(string);
        for line in kept.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.pad(column + STEP);
                self.out.push_str(line);
            }
        }
        // A kept line break at the very end is the end of the block itself.
        if string.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// A plain scalar that goes on in `column` of the next line at the first blank behind
    /// [`FOLD_COLUMNS`].
    fn folded(&mut self, text: &str, column: usize) {
        let start = self.out.rfind('\n').map_or(0, |end| end + 1);
        let mut at = self.out[start..].chars().count();
        let mut words = text.split(' ').peekable();
        while let Some(word) = words.next() {
            self.out.push_str(word);
            at += word.chars().count();
            let Some(next) = words.peek() else { break };
            // Blanks in a row would not come back from a line break.
            if at > FOLD_COLUMNS && !word.is_empty() && !next.is_empty() {
                self.out.push('\n');
                self.pad(column);
                at = column;
            } else {
                self.out.push(' ');
                at += 1;
            }
        }
    }
}

/// True for a scalar that may stand, as it is written, among others on a line.
fn fits_flow(written: &str) -> bool {
    let quoted = written.starts_with(['"', '\'']);
    !written.contains('\n') && (quoted || !written.contains([',', '[', ']', '{', '}']))
}

/// Text of several lines that a literal block can hold.
fn is_block_fit(text: &str) -> bool {
    let odd =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}');
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.trim_end_matches('\n').chars().next().is_some()
        && !text.chars().any(odd)
        && !text.lines().any(|line| line.ends_with(' '))
}

fn has_comments(node: &Node) -> bool {
    let any = |child: &Node| {
        let commented =
            child.extras.as_ref().is_some_and(|e| !e.above.is_empty() || e.right.is_some());
        commented || has_comments(child)
    };
    match &node.value {
        Value::List(items) => items.iter().any(any),
        Value::Map(map) => map.values().any(any),
        _ => false,
    }
}

/// `text` plain if it may be, else quoted.
fn text(text: &str) -> String {
    if scalar::is_plain_safe(text) { text.to_owned() } else { scalar::quoted(text) }
}

/// Numbers in names count as numbers, and what is no letter comes before letters.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.chars().peekable(), b.chars().peekable());
    while let (Some(&p), Some(&q)) = (x.peek(), y.peek()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            match take_number(&mut x).cmp(&take_number(&mut y)) {
                Ordering::Equal => continue,
                other => return other,
            }
        }
        if p != q {
            return match (p.is_alphabetic(), q.is_alphabetic()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => p.cmp(&q),
            };
        }
        x.next();
        y.next();
    }
    x.peek().is_some().cmp(&y.peek().is_some()).then_with(|| a.cmp(b))
}

fn take_number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> (usize, String) {
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        if !(digits.is_empty() && digit == '0') {
            digits.push(digit);
        }
    }
    (digits.len(), digits)
}

/// The document as one line of JSON.
pub(crate) fn json(node: &Node) -> String {
    let mut out = String::new();
    write_json(node, &mut out);
    out
}

fn write_json(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Float(f) if !f.is_finite() => out.push_str("null"),
        Value::Str(text) => json_string(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                json_string(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
        _ => out.push_str(&shown(node)),
    }
}

/// A key that was written as something else than text, and the place of its value.
pub(crate) fn odd_key(node: &Node) -> Option<(String, At)> {
    let odd = |key: &str, value: &Node| {
        let lexeme = value.extras.as_ref().and_then(|extras| extras.key.as_deref())?;
        let plain = !lexeme.starts_with(['"', '\'']);
        let text = matches!(scalar::resolve(lexeme), Value::Str(_));
        (plain && !text).then(|| (key.to_owned(), value.at))
    };
    match &node.value {
        Value::List(items) => items.iter().find_map(odd_key),
        Value::Map(map) => {
            map.iter().find_map(|(key, value)| odd(key, value).or_else(|| odd_key(value)))
        }
        _ => None,
    }
}

/// JSON knows the escapes that [`scalar::quoted`] writes.
fn json_string(text: &str, out: &mut String) {
    out.push_str(&scalar::quoted(text));
}
