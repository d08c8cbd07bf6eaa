//! Keys as subject text: a readable bijection between all keys and all legal NATS keys.
//!
//! NATS keys hold `[-/_=.a-zA-Z0-9]` with no empty token between dots. [`encode`] writes every
//! byte outside `[A-Za-z0-9_/.-]` as `=XX` in upper-case hexadecimal, and a `.` that would make
//! an empty token. It is the identity on keys that NATS clients write without `=`. A legal key
//! with `=` that is no escaped text (`a=`, `=ZZ`) stands for itself, and one that is
//! (`user=3A1` meant literally) has its `=` escaped. So [`decode`] of any listed text encodes
//! back to that same text: what was listed can be read, watched and deleted under its name, with
//! one lookup, whoever wrote it.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// `key` as subject text: legal for NATS, at most three times as long.
///
/// ```
/// use jetbridge_core::codec::encode;
/// assert_eq!(encode("user:1"), "user=3A1");
/// assert_eq!(encode("app.port"), "app.port");
/// assert_eq!(encode("a="), "a=");
/// assert_eq!(encode("user=3A1"), "user=3D3A1");
/// ```
pub fn encode(key: &str) -> Cow<'_, str> {
    if is_legal(key) && (!key.contains('=') || matches!(decode(key), Cow::Borrowed(_))) {
        return Cow::Borrowed(key);
    }
    Cow::Owned(escape(key))
}

/// The key that the legal NATS key `text` stands for; the inverse of [`encode`].
///
/// ```
/// use jetbridge_core::codec::decode;
/// assert_eq!(decode("user=3A1"), "user:1");
/// assert_eq!(decode("=ZZ"), "=ZZ");
/// ```
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('=') {
        return Cow::Borrowed(text);
    }
    match unescape(text) {
        Some(key) if encode(&key) == text => Cow::Owned(key),
        _ => Cow::Borrowed(text),
    }
}

/// True if NATS takes `text` as a key: `[-/_=.a-zA-Z0-9]+` without an empty token.
pub fn is_legal(text: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'/' | b'_' | b'=' | b'.');
    text.bytes().all(legal) && text.split('.').all(|token| !token.is_empty())
}

/// The text that every key with the prefix `prefix` begins with once encoded, cut so that it is
/// whole tokens: what a server can filter by. Empty if the server cannot help.
///
/// ```
/// use jetbridge_core::codec::prefix_tokens;
/// assert_eq!(prefix_tokens("app.db.po"), "app.db");
/// assert_eq!(prefix_tokens("user:"), "");
/// ```
pub fn prefix_tokens(prefix: &str) -> &str {
    // Only bytes that are encoded as themselves whatever follows them may be relied on.
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'/' | b'_' | b'.');
    match prefix.rfind('.') {
        Some(dot) if prefix[..dot].bytes().all(plain) && is_legal(&prefix[..dot]) => {
            // A key such as `app..x` has an escaped dot, so the token boundary holds only if
            // the prefix goes on behind the dot with something that is not a dot.
            match prefix.as_bytes().get(dot + 1) {
                Some(_) => &prefix[..dot],
                None => "",
            }
        }
        _ => "",
    }
}

/// How a bucket's keys are written as subjects.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyEncoding {
    /// By [`encode`] and [`decode`].
    #[default]
    Escaped,
    /// As they are; a key that is no legal NATS key is [`InvalidInput`](crate::ErrorKind).
    Raw,
}

fn escape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut text = String::with_capacity(bytes.len() + 16);
    for (at, byte) in bytes.iter().enumerate() {
        if is_plain(bytes, at) {
            text.push(char::from(*byte));
        } else {
            text.push('=');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    text
}

/// A dot is plain only between two bytes that are not dots, so that no token is empty.
fn is_plain(bytes: &[u8], at: usize) -> bool {
    match bytes[at] {
        b'.' => {
            let inner = at > 0 && at + 1 < bytes.len();
            inner && bytes[at - 1] != b'.' && bytes[at + 1] != b'.'
        }
        byte => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'-'),
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'=' {
            let [high, low, ..] = *after else { return None };
            bytes.push(nibble(high)? << 4 | nibble(low)?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, text: &str) {
        assert_eq!(encode(key), text, "encode {key:?}");
        assert_eq!(decode(text), key, "decode {text:?}");
        assert!(is_legal(text), "{text:?} is legal");
    }

    #[test]
    fn hostile_keys_become_legal_text_and_come_back() {
        check("user:1", "user=3A1");
        check("a b", "a=20b");
        check("é", "=C3=A9");
        check(".", "=2E");
        check("..", "=2E=2E");
        check("a..b", "a=2E=2Eb");
        check(".a.b.", "=2Ea.b=2E");
        check("*", "=2A");
        check(">", "=3E");
        check("\0", "=00");
        check("https://a/b?c=d", "https=3A//a/b=3Fc=3Dd");
    }

    #[test]
    fn foreign_keys_stand_for_themselves() {
        for key in ["a", "a.b", "a/b_c-d", "a=", "=ZZ", "=C3", "==", "a=3D", "=3a"] {
            check(key, key);
        }
    }

    #[test]
    fn text_that_looks_escaped_is_escaped_again() {
        check("user=3A1", "user=3D3A1");
        check("=3D3A", "=3D3D3A");
    }

    #[test]
    fn a_prefix_filters_by_whole_tokens_only() {
        for (prefix, tokens) in
            [("a.b", "a"), ("a.", ""), ("a.b.c", "a.b"), ("a:b.c", ""), ("", "")]
        {
            assert_eq!(prefix_tokens(prefix), tokens, "{prefix}");
        }
    }
}
