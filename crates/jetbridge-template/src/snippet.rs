//! Lines of templates as errors show them: with stars in place of secrets, as many as there were
//! characters, so that the mark below a line stays where it is.

/// Names of settings, and of entries of maps, whose values are secrets.
const SECRET_NAMES: [&str; 9] =
    ["creds", "jwt", "nkey", "pass", "passphrase", "password", "secret", "seed", "token"];

/// What else stands at the end of such a name: `api_token`, `db-password`.
const SEPARATORS: [char; 3] = ['_', '-', '.'];

/// The line without the logins of its URLs and the values of secret settings written on it.
/// Operators are no values: what they fetch is not on the line.
pub(crate) fn without_secrets(line: &str) -> String {
    without_values(&without_logins(line))
}

/// The line without the logins of its URLs.
pub(crate) fn without_logins(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(['"', '\'', ' ']).unwrap_or(after.len());
        let login = after[..end].rfind('@').unwrap_or(0);
        shown.extend(after[..login].chars().map(|_hidden| '*'));
        rest = &after[login..];
    }
    shown + rest
}

fn without_values(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (before, after) = rest.split_at(colon + 1);
        shown.push_str(before);
        rest = after;
        if !ends_in_secret_name(&before[..colon]) {
            continue;
        }
        let value = rest.trim_start();
        if value.len() == rest.len() || value.starts_with("((") {
            continue;
        }
        shown.push_str(&rest[..rest.len() - value.len()]);
        let (open, length) = extent(value);
        shown.push_str(&value[..open]);
        shown.extend(value[open..open + length].chars().map(|_hidden| '*'));
        rest = &value[open + length..];
    }
    shown + rest
}

fn ends_in_secret_name(before: &str) -> bool {
    let before = before.trim_end_matches(['"', '\'']);
    let name = |c: char| !c.is_ascii_alphanumeric() && !SEPARATORS.contains(&c);
    let word = before.rsplit(name).next().unwrap_or_default().to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| {
        word.strip_suffix(secret).is_some_and(|head| head.is_empty() || head.ends_with(SEPARATORS))
    })
}

/// Bytes before a value's text, and bytes of its text: a quoted one to its quote, a plain one to
/// where a flow collection goes on.
fn extent(value: &str) -> (usize, usize) {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (1, quoted_length(&value[1..], quote)),
        _ => {
            let end = value.find([',', '}']).unwrap_or(value.len());
            (0, value[..end].trim_end().len())
        }
    }
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
        ] {
            assert_eq!(without_secrets(line), expected);
            assert_eq!(without_secrets(line).len(), line.len());
        }
    }
}
