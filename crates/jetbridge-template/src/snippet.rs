//! Lines of templates as errors show them: with stars in place of secrets, as many as there were
//! characters, so that the mark below a line stays where it is.

/// Names of settings, and of entries of maps, whose values are secrets.
const SECRET_NAMES: [&str; 17] = [
    "access_key",
    "api_key",
    "apikey",
    "credentials",
    "creds",
    "jwt",
    "nkey",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "pwd",
    "secret",
    "secret_key",
    "seed",
    "token",
];

/// What else stands before the end of such a name: `api_token`, `db-password`.
const SEPARATORS: [char; 3] = ['_', '-', '.'];

/// Digits of a digest at least: `app:1.2@sha256:…` is no login.
const DIGEST_MIN: usize = 32;

/// The line without the logins of its servers and the values of secret settings written on it.
/// Operators are no values: what they fetch is not on the line.
pub(crate) fn without_secrets(line: &str) -> String {
    without_values(&without_logins(line))
}

/// The line without the logins of its servers, with or without a scheme before them.
pub(crate) fn without_logins(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    let mut quote = None;
    while !rest.is_empty() {
        let ends = |c: char| match quote {
            _ if c.is_whitespace() => true,
            // Another quote may be a part of a login.
            Some(quote) => c == quote,
            None => matches!(c, '"' | '\''),
        };
        let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        let (start, end) = login(word).unwrap_or_default();
        shown.push_str(&word[..start]);
        shown.extend(word[start..end].chars().map(|_hidden| '*'));
        shown.push_str(&word[end..]);
        rest = after;
        if let Some(c) = rest.chars().next() {
            if !c.is_whitespace() {
                quote = if quote.is_none() { Some(c) } else { None };
            }
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    shown
}

/// From where to where a login stands in `word`: before its last `@`, as a login may hold others,
/// and lists of servers have several.
fn login(word: &str) -> Option<(usize, usize)> {
    let end = word.rfind('@')?;
    if let Some(scheme) = word[..end].find("://").filter(|at| !word[..*at].contains('@')) {
        return Some((scheme + "://".len(), end));
    }
    let start = word.len() - word.trim_start_matches(['(', '[', '{', ',', ':', '"', '\'']).len();
    let (before, host) = (word.get(start..end)?, &word[end + 1..]);
    let path = ["kv:", "obj:"].iter().any(|store| {
        before.get(..store.len()).is_some_and(|head| head.eq_ignore_ascii_case(store))
            && before.contains('/')
    });
    let (_, behind) = host.split_once(':').unwrap_or_default();
    let digits = |radix| behind.chars().take_while(|c| c.is_digit(radix)).count();
    let is_login = if before.contains(':') {
        !path && digits(16) < DIGEST_MIN
    } else {
        // A token.
        !before.is_empty() && digits(10) > 0 && digits(16) < DIGEST_MIN
    };
    is_login.then_some((start, end))
}

fn without_values(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut nesting = Nesting::default();
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (before, after) = rest.split_at(colon + 1);
        shown.push_str(before);
        nesting.read(before);
        rest = after;
        let key = before[..colon].trim_end();
        let value = rest.trim_start();
        // In plain text a key is one before a blank only; in JSON quotes say that it is one.
        let is_key = value.len() < rest.len() || key.ends_with(['"', '\'']);
        if !is_key || value.starts_with("((") || !ends_in_secret_name(key) {
            continue;
        }
        shown.push_str(&rest[..rest.len() - value.len()]);
        let (open, length) = extent(value, nesting.open > 0);
        shown.push_str(&value[..open]);
        shown.extend(value[open..open + length].chars().map(|_hidden| '*'));
        nesting.read(&value[..open + length]);
        rest = &value[open + length..];
    }
    shown + rest
}

/// How many collections of a line are open; brackets in quotes open none.
#[derive(Default)]
struct Nesting {
    open: usize,
    quote: Option<char>,
}

impl Nesting {
    fn read(&mut self, text: &str) {
        for c in text.chars() {
            self.take(c);
        }
    }

    fn take(&mut self, c: char) {
        match (self.quote, c) {
            (Some(quote), _) => self.quote = self.quote.filter(|_| c != quote),
            (None, '"' | '\'') => self.quote = Some(c),
            (None, '{' | '[') => self.open += 1,
            (None, '}' | ']') => self.open = self.open.saturating_sub(1),
            _ => {}
        }
    }
}

fn ends_in_secret_name(before: &str) -> bool {
    let before = before.trim_end_matches(['"', '\'']);
    let name = |c: char| !c.is_ascii_alphanumeric() && !SEPARATORS.contains(&c);
    let word = before.rsplit(name).next().unwrap_or_default();
    let lower = word.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.iter().any(|secret| {
        lower.strip_suffix(secret).is_some_and(|head| {
            let (head, tail) = word.split_at(head.len());
            // `dbPassword` is one of them, `compass` and `COMPASS` are not.
            let humped = tail.starts_with(|c: char| c.is_ascii_uppercase())
                && head.ends_with(|c: char| !c.is_ascii_uppercase());
            head.is_empty() || head.ends_with(SEPARATORS) || humped
        })
    })
}

/// Bytes before a value's text, and bytes of its text: a quoted one to its quote, a collection to
/// its end, a plain one to its comment or, in a collection, to where that goes on.
fn extent(value: &str, is_within: bool) -> (usize, usize) {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (1, quoted_length(&value[1..], quote)),
        Some('{' | '[') => (1, inside_length(&value[1..])),
        _ => {
            let next = if is_within { value.find([',', '}', ']']) } else { value.find(" #") };
            (0, value[..next.unwrap_or(value.len())].trim_end().len())
        }
    }
}

/// Bytes of `text` before the bracket that closes what is open.
fn inside_length(text: &str) -> usize {
    let mut nesting = Nesting { open: 1, quote: None };
    let end = text.char_indices().find(|(_, c)| {
        nesting.take(*c);
        nesting.open == 0
    });
    end.map_or(text.len(), |(index, _)| index)
}

/// Bytes of `text` before the quote that ends it: `\"` and `''` do not.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut rest = text.char_indices();
    while let Some((index, c)) = rest.next() {
        let next = || text[index + c.len_utf8()..].chars().next();
        if c == '\\' && quote == '"' || c == '\'' && c == quote && next() == Some(quote) {
            rest.next();
        } else if c == quote {
            return index;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_stars_and_nothing_moves() {
        for (line, expected) in [
            ("a: (( nats \"k\" \"nats://u:p@h\" ))", "a: (( nats \"k\" \"nats://***@h\" ))"),
            (
                "a: (( nats \"k\" { url: \"h\", password: \"s3 c\", tls: true } ))",
                "a: (( nats \"k\" { url: \"h\", password: \"****\", tls: true } ))",
            ),
            ("{user: me, token: s3c, x: 1}", "{user: me, token: ***, x: 1}"),
            ("db_password: hunter2", "db_password: *******"),
            ("\"pass\": 'x'", "\"pass\": '*'"),
            ("token: (( nats \"kv:secrets/token\" ))", "token: (( nats \"kv:secrets/token\" ))"),
            (r#"password: "ab\"cd" # x"#, r#"password: "******" # x"#),
            ("password: 'it''s'", "password: '*****'"),
            ("compass: north", "compass: north"),
            ("a: (( grab secret ))", "a: (( grab secret ))"),
            ("password:", "password:"),
            (r#"{"password":"x","a":1}"#, r#"{"password":"*","a":1}"#),
            (r#"{"password":s3c,"a":1}"#, r#"{"password":***,"a":1}"#),
            (r#"{"password" : "x]", 'token':'y'}"#, r#"{"password" : "**", 'token':'*'}"#),
            ("a: {password: {k: v, l: [m]}, b: c}", "a: {password: {************}, b: c}"),
            ("tokens: [{token: [a, b]}, c]", "tokens: [{token: [****]}, c]"),
            ("token: [a, b", "token: [****"),
            ("password: a,b}c # why", "password: ***** # why"),
            ("  token: x, user: y", "  token: **********"),
            (
                "{dbPassword: x, API_KEY: y, private-key: z}",
                "{dbPassword: *, API_KEY: *, private-key: *}",
            ),
            ("COMPASS: north", "COMPASS: north"),
            ("url: user:p@ss@host:4222", "url: *********@host:4222"),
            ("a: (( nats \"k\" \"u:p'w@h:1,v:q@g\" ))", "a: (( nats \"k\" \"*************@g\" ))"),
            (
                "a: [u:p@h:4222, {\"url\":\"t0k@h:4222\"}]",
                "a: [***@h:4222, {\"url\":\"***@h:4222\"}]",
            ),
            ("mail: me@example.com", "mail: me@example.com"),
            ("a: (( nats@prod \"kv:b/k@v\" ))", "a: (( nats@prod \"kv:b/k@v\" ))"),
            (
                "image: h:5000/app:1.2@sha256:0123456789abcdef0123456789abcdef",
                "image: h:5000/app:1.2@sha256:0123456789abcdef0123456789abcdef",
            ),
            ("it's: \"nats://u:p@h\"", "it's: \"nats://***@h\""),
        ] {
            assert_eq!(without_secrets(line), expected);
            assert_eq!(without_secrets(line).len(), line.len());
        }
    }
}
