//! Finds `(( … ))` where YAML expects a value, and hides it from the YAML parser.
//!
//! What stands between the parentheses may hold `: `, `#`, `{}` and line breaks, which end a
//! plain scalar. Each such span is replaced by a quoted string of equal length, so that every
//! position stays true; the parser of documents puts the original text back. A span that turns
//! out not to be one whole scalar is given back untouched by [`parse`](crate::parse).

use std::ops::Range;

/// The spans of operators in value position.
pub(crate) fn operators(text: &str) -> Vec<Range<usize>> {
    Scan { bytes: text.as_bytes(), at: 0, flow: 0, found: Vec::new() }.run()
}

/// `text` with `spans` hidden.
pub(crate) fn hide(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        let last = span.end - 1;
        for byte in &mut bytes[span.start..=last] {
            if !matches!(*byte, b'\n' | b'\r' | b' ' | b'\t') {
                *byte = b'_';
            }
        }
        bytes[span.start] = b'"';
        bytes[last] = b'"';
    }
    // Every replaced byte of a character is replaced, so this is always text.
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    flow: usize,
    found: Vec<Range<usize>>,
}

impl Scan<'_> {
    fn run(mut self) -> Vec<Range<usize>> {
        while self.at < self.bytes.len() {
            self.line();
        }
        self.found
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(b'\n')
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(0), b' ' | b'\t') && self.at < self.bytes.len() {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
            self.at += 1;
        }
    }

    /// One line, from its start to behind its end; values may carry it over several.
    fn line(&mut self) {
        let mut start = self.at;
        self.skip_blanks();
        while self.flow == 0 && matches!(self.peek(0), b'-' | b'?') && self.peek(1) == b' ' {
            self.at += 1;
            self.skip_blanks();
        }
        // A block scalar after `- key:` is indented more than the key, after `-` than the dash.
        let key_column = self.at - start;
        let first_column = self.bytes[start..].iter().take_while(|b| **b == b' ').count();
        let mut in_key = true;
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            match self.peek(0) {
                b' ' | b'\t' => self.skip_blanks(),
                b'#' => self.skip_line(),
                b'"' | b'\'' => self.quoted(),
                b'(' if self.peek(1) == b'(' => self.operator(),
                b'&' | b'!' => self.word(),
                b'[' | b'{' => {
                    self.flow += 1;
                    self.at += 1;
                }
                b']' | b'}' => {
                    self.flow = self.flow.saturating_sub(1);
                    self.at += 1;
                }
                b',' => self.at += 1,
                b':' if matches!(self.peek(1), b' ' | b'\n' | b'\t' | b'\r') => {
                    in_key = false;
                    self.at += 1;
                }
                b'|' | b'>' if self.flow == 0 => {
                    self.skip_line();
                    let parent = if in_key { first_column } else { key_column };
                    self.block_scalar(parent);
                    return;
                }
                _ => self.plain(),
            }
            start = start.min(self.at);
        }
        self.at += 1;
    }

    /// A tag or an anchor.
    fn word(&mut self) {
        let verbatim = self.peek(1) == b'<';
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' => return,
                b',' | b'[' | b']' | b'{' | b'}' if self.flow > 0 && !verbatim => return,
                _ => self.at += 1,
            }
        }
    }

    fn quoted(&mut self) {
        let quote = self.peek(0);
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\\' if quote == b'"' => self.at += 1,
                byte if byte == quote => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// To where a plain scalar ends as a key or a value.
    fn plain(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.peek(0) {
                b'\n' => return,
                b':' if matches!(self.peek(1), b' ' | b'\n' | b'\t' | b'\r') => return,
                b'#' if matches!(self.bytes[self.at - 1], b' ' | b'\t') => return,
                b',' | b'[' | b']' | b'{' | b'}' if self.flow > 0 => return,
                _ => self.at += 1,
            }
        }
    }

    fn operator(&mut self) {
        let start = self.at;
        match close(&self.bytes[start..]) {
            Some(length) if self.ends_value(start + length) => {
                self.found.push(start..start + length);
                self.at = start + length;
            }
            _ => self.plain(),
        }
    }

    /// True if nothing but the end of the value follows at `at`.
    fn ends_value(&self, mut at: usize) -> bool {
        let before = at;
        while matches!(self.bytes.get(at), Some(b' ' | b'\t' | b'\r')) {
            at += 1;
        }
        match self.bytes.get(at) {
            None | Some(b'\n') => true,
            Some(b'#') => at > before,
            Some(b',' | b']' | b'}') => self.flow > 0,
            _ => false,
        }
    }

    fn block_scalar(&mut self, parent: usize) {
        self.at += 1;
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            let indent = rest.iter().take_while(|b| **b == b' ').count();
            let blank = matches!(rest.get(indent), None | Some(b'\n' | b'\r'));
            if !blank && indent <= parent {
                return;
            }
            self.skip_line();
            self.at += 1;
        }
    }
}

/// The length of the operator that `bytes` starts with: to the `))` that closes it, quotes
/// respected, before the next document; `None` if it does not close, or is none.
pub(crate) fn close(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'(' => depth += 1,
            b')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return (bytes.get(at.checked_sub(1)?) == Some(&b')')).then_some(at + 1);
                }
            }
            quote @ (b'"' | b'\'') => at = close_quote(bytes, at, quote)?,
            b'\n' if bytes[at + 1..].starts_with(b"---") => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quoted text that starts at `at` ends. An apostrophe inside a word quotes nothing.
fn close_quote(bytes: &[u8], at: usize, quote: u8) -> Option<usize> {
    let opens = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
    if quote == b'\'' && !opens {
        return Some(at);
    }
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end < bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<_> = operators(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn only_whole_values_are_found() {
        check("a: (( grab b ))\n", &["(( grab b ))"]);
        check("- a: (( x )) # why\n- (( y ))", &["(( x ))", "(( y ))"]);
        check("a: {b: (( x )), c: (( y ))}", &["(( x ))", "(( y ))"]);
        check("a: {b: !x (( y, z )), c: [&d !<e,f> (( z ))], g: !h}", &["(( y, z ))", "(( z ))"]);
        check("a: (( x )) and more", &[]);
        check("# a: (( x ))\na: '(( y ))'\n", &[]);
        check("a: |\n  b: (( x ))\nc: (( y ))", &["(( y ))"]);
        check("- a: |\n    b: (( x ))\n  c: (( y ))", &["(( y ))"]);
        check(
            "a: (( nats \"kv:b/k\" {\n  url: \"u\" } ))\n",
            &["(( nats \"kv:b/k\" {\n  url: \"u\" } ))"],
        );
        check("a: (( concat \"))\" x ))", &["(( concat \"))\" x ))"]);
    }

    #[test]
    fn hiding_keeps_every_position() {
        let text = "a: (( é\n  b ))\n";
        let hidden = hide(text, &operators(text));
        assert_eq!(hidden, "a: \"_ __\n  _ _\"\n");
    }
}
