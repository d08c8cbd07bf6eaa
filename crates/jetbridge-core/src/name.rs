//! Names, parsed once at the edge; everything inside takes the parsed type.
//!
//! A key or object name is any UTF-8 text of 1 byte to 1 KiB: what a backend can store is the
//! backend's business (see [`codec`](crate::codec)), not the caller's. Buckets, streams and
//! consumers become parts of subjects, so their alphabets are narrow.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses `raw`; [`InvalidInput`](ErrorKind::InvalidInput) says what is wrong with it.
            pub fn parse(raw: impl AsRef<str>) -> Result<Self> {
                let raw = raw.as_ref();
                $check(raw)?;
                Ok(Self(raw.into()))
            }

            /// The name as the user wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(raw: &str) -> Result<Self> {
                Self::parse(raw)
            }
        }
    };
}

name_type!(
    /// A bucket: `[A-Za-z0-9_-]`, 1 to 128 bytes.
    BucketName, check_bucket
);
name_type!(
    /// A KV key: any UTF-8 text of 1 to 1024 bytes.
    Key, check_key
);
name_type!(
    /// An object name: any UTF-8 text of 1 to 1024 bytes.
    ObjectName, check_object
);
name_type!(
    /// A stream: `[A-Za-z0-9_-]`, 1 to 128 bytes.
    StreamName, check_stream
);
name_type!(
    /// A durable consumer: `[A-Za-z0-9_-]`, 1 to 128 bytes.
    ConsumerName, check_consumer
);
name_type!(
    /// A queue group: one subject token of 1 to 128 bytes, without wildcards.
    GroupName, check_group
);

/// Longest key or object name in bytes, before any encoding.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest bucket, stream, consumer or group name in bytes.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Longest subject in bytes. The server's protocol line is 4096 bytes and has to hold the reply
/// subject, the sizes and, for a direct get, a prefix as well.
pub const SUBJECT_BYTES_MAX: usize = 3584;

fn invalid(operation: &'static str, raw: &str, why: &str) -> Error {
    let mut shown: String = raw.chars().take(64).collect();
    if shown.len() < raw.len() {
        shown.push('…');
    }
    Error::new(ErrorKind::InvalidInput, operation).because(why).with("name", format!("{shown:?}"))
}

fn check_length(operation: &'static str, raw: &str, max: usize) -> Result<()> {
    if raw.is_empty() {
        return Err(invalid(operation, raw, "the name is empty"));
    }
    if raw.len() > max {
        let why = format!("the name has {} bytes, at most {max} are allowed", raw.len());
        return Err(invalid(operation, raw, &why));
    }
    Ok(())
}

fn check_word(operation: &'static str, raw: &str) -> Result<()> {
    check_length(operation, raw, BUCKET_BYTES_MAX)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match raw.chars().find(|c| !legal(*c)) {
        None => Ok(()),
        Some(bad) => {
            let why = format!("{bad:?} is not allowed, only letters, digits, `-` and `_` are");
            Err(invalid(operation, raw, &why))
        }
    }
}

fn check_bucket(raw: &str) -> Result<()> {
    check_word("bucket.parse", raw)
}

fn check_stream(raw: &str) -> Result<()> {
    check_word("stream.parse", raw)
}

fn check_consumer(raw: &str) -> Result<()> {
    check_word("consumer.parse", raw)
}

fn check_group(raw: &str) -> Result<()> {
    check_length("group.parse", raw, BUCKET_BYTES_MAX)?;
    check_tokens("group.parse", raw, false)?;
    if raw.contains('.') {
        return Err(invalid("group.parse", raw, "a queue group is one token, without `.`"));
    }
    Ok(())
}

fn check_key(raw: &str) -> Result<()> {
    check_length("key.parse", raw, KEY_BYTES_MAX)
}

fn check_object(raw: &str) -> Result<()> {
    check_length("object.parse", raw, KEY_BYTES_MAX)
}

fn check_tokens(operation: &'static str, raw: &str, wildcards: bool) -> Result<()> {
    let mut tokens = raw.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Err(invalid(operation, raw, "a token between dots is empty"));
        }
        if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid(
                operation,
                raw,
                "white space and control characters are not allowed",
            ));
        }
        match token {
            "*" if wildcards => {}
            ">" if wildcards && tokens.peek().is_none() => {}
            ">" if wildcards => return Err(invalid(operation, raw, "`>` stands only at the end")),
            "*" | ">" => return Err(invalid(operation, raw, "wildcards are not allowed here")),
            _ => {}
        }
    }
    Ok(())
}

macro_rules! subject_type {
    ($(#[$doc:meta])* $name:ident, $operation:literal, $wildcards:literal) => {
        $(#[$doc])*
        ///
        /// Cheap to clone: the text is shared with the buffer it arrived in.
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Bytes);

        impl $name {
            /// Parses `raw`; [`InvalidInput`](ErrorKind::InvalidInput) says what is wrong with it.
            pub fn parse(raw: impl AsRef<str>) -> Result<Self> {
                let raw = raw.as_ref();
                check_length($operation, raw, SUBJECT_BYTES_MAX)?;
                check_tokens($operation, raw, $wildcards)?;
                Ok(Self(Bytes::copy_from_slice(raw.as_bytes())))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// The tokens between the dots.
            pub fn tokens(&self) -> impl Iterator<Item = &str> {
                self.as_str().split('.')
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(raw: &str) -> Result<Self> {
                Self::parse(raw)
            }
        }
    };
}

subject_type!(
    /// A subject to publish to: tokens between dots, without wildcards.
    Subject, "subject.parse", false
);
subject_type!(
    /// A pattern over subjects: `*` stands for one token, a final `>` for one or more.
    Pattern, "pattern.parse", true
);

impl Subject {
    /// A subject that a server delivered, which needs no second check beyond being UTF-8.
    pub fn from_wire(raw: Bytes) -> Result<Self> {
        if std::str::from_utf8(&raw).is_err() {
            return Err(invalid("subject.parse", "", "the subject is not UTF-8"));
        }
        Ok(Self(raw))
    }

    /// The bytes for a transport.
    pub fn into_wire(self) -> Bytes {
        self.0
    }
}

impl Pattern {
    /// True if `subject` is one this pattern stands for.
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for wanted in self.tokens() {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// True if some subject is matched by both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                _ => return false,
            }
        }
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_text_up_to_a_kibibyte() {
        for legal in ["a", "user:1", ".", "a..b", "*", ">", " ", "\0", "é", &"x".repeat(1024)] {
            assert_eq!(Key::parse(legal).unwrap().as_str(), legal);
        }
        for illegal in ["", &"x".repeat(1025)] {
            assert_eq!(Key::parse(illegal).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn buckets_are_words() {
        assert!(BucketName::parse("My_bucket-1").is_ok());
        for illegal in ["", "a.b", "a b", "é", "a*", &"x".repeat(129)] {
            let error = BucketName::parse(illegal).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{illegal}");
        }
    }

    #[test]
    fn subjects_have_no_wildcards_and_patterns_do() {
        assert!(Subject::parse("orders.created").is_ok());
        for illegal in ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a\r\n"] {
            assert!(Subject::parse(illegal).is_err(), "{illegal}");
        }
        for legal in ["a", "*", ">", "a.*.b", "a.>"] {
            assert!(Pattern::parse(legal).is_ok(), "{legal}");
        }
        assert!(Pattern::parse(">.a").is_err());
    }

    #[track_caller]
    fn check_match(pattern: &str, subject: &str, expected: bool) {
        assert_eq!(
            Pattern::parse(pattern).unwrap().matches(subject),
            expected,
            "{pattern} {subject}"
        );
    }

    #[test]
    fn patterns_match_token_by_token() {
        check_match("a.*", "a.b", true);
        check_match("a.*", "a.b.c", false);
        check_match("a.>", "a.b.c", true);
        check_match("a.>", "a", false);
        check_match(">", "a", true);
        check_match("a.b", "a.b", true);
        check_match("a.b", "a.c", false);
    }

    #[test]
    fn patterns_overlap_when_a_subject_fits_both() {
        let overlap =
            |a: &str, b: &str| Pattern::parse(a).unwrap().overlaps(&Pattern::parse(b).unwrap());
        assert!(overlap("a.*", "*.b"));
        assert!(overlap("a.>", "a.b.c"));
        assert!(!overlap("a.>", "a"));
        assert!(!overlap("a.b", "a.c"));
    }
}
