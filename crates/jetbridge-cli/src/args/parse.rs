//! What a single argument may look like. Errors are one sentence: clap says which argument and
//! which value they are about.

use std::time::Duration;

use jetbridge::settings::{parse_duration, parse_size};
use jetbridge::template::Wait;
use jetbridge_core::{Error, Pattern};

/// A name of any kind, parsed by its own type.
pub(crate) fn name<T: std::str::FromStr<Err = Error>>(raw: &str) -> Result<T, String> {
    raw.parse().map_err(|error| sentence(&error))
}

/// A subject pattern in a list by commas.
pub(crate) fn pattern(raw: &str) -> Result<Pattern, String> {
    name(raw)
}

/// A span of time that is not zero: `250ms`, `1h30m`.
pub(crate) fn positive_span(raw: &str) -> Result<Duration, String> {
    match parse_duration(raw).map_err(|error| sentence(&error))? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        span => Ok(span),
    }
}

/// A span of time, which may be zero; a number alone is seconds.
pub(crate) fn span(raw: &str) -> Result<Duration, String> {
    match raw.parse::<f64>().map(Duration::try_from_secs_f64) {
        Ok(Ok(span)) => Ok(span),
        Ok(Err(_range)) => Err("it is below zero or too long".to_owned()),
        Err(_not_a_number) => parse_duration(raw).map_err(|error| sentence(&error)),
    }
}

/// How long changes are gathered: `200ms..5s`, or one span for both.
pub(crate) fn wait(raw: &str) -> Result<Wait, String> {
    let (min, max) = raw.split_once("..").unwrap_or((raw, raw));
    let span = |text: &str| parse_duration(text).map_err(|error| sentence(&error));
    match (span(min)?, span(max)?) {
        (min, max) if min > max => Err("the first is longer than the second".to_owned()),
        (min, max) => Ok(Wait { min, max }),
    }
}

/// Permissions of a file, as `chmod` takes them in octal.
pub(crate) fn mode(raw: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(raw, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "write it in octal, such as 0640".to_owned())
}

/// A limit that may be none. `None` is "no limit".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// A span of time, or `never`; `0` and `-1` mean the same, as in the nats CLI.
pub(crate) fn span_limit(raw: &str) -> Result<Limit<Duration>, String> {
    match raw {
        "-1" | "0" | "never" | "unlimited" => Ok(Limit(None)),
        _ => positive_span(raw).map(|span| Limit(Some(span))),
    }
}

/// When a key expires: after a span of time, or `never`.
pub(crate) fn expiry(raw: &str) -> Result<Limit<Duration>, String> {
    match raw {
        "never" => Ok(Limit(None)),
        _ => positive_span(raw).map(|span| Limit(Some(span))),
    }
}

/// A size in bytes, or `unlimited`; `-1` means the same.
pub(crate) fn size_limit(raw: &str) -> Result<Limit<u64>, String> {
    match raw {
        "-1" | "unlimited" => Ok(Limit(None)),
        _ => match parse_size(raw).map_err(|error| sentence(&error))? {
            0 => Err("it must be more than zero, or `unlimited`".to_owned()),
            size => Ok(Limit(Some(size))),
        },
    }
}

/// As [`size_limit`], for sizes that JetStream counts in 32 bits.
pub(crate) fn small_size_limit(raw: &str) -> Result<Limit<u32>, String> {
    let Limit(size) = size_limit(raw)?;
    match size.map(u32::try_from).transpose() {
        Ok(small) if small.is_none_or(|bytes| i32::try_from(bytes).is_ok()) => Ok(Limit(small)),
        _ => Err("it is over 2 GiB, the most that one value can have".to_owned()),
    }
}

/// A number, or `unlimited`; `-1` means the same.
pub(crate) fn count_limit(raw: &str) -> Result<Limit<u64>, String> {
    match raw {
        "-1" | "unlimited" => Ok(Limit(None)),
        _ => match raw.parse() {
            Ok(0) | Err(_) => Err("write a whole number above zero, or `unlimited`".to_owned()),
            Ok(count) => Ok(Limit(Some(count))),
        },
    }
}

/// A header field: `Name: value`.
pub(crate) fn header(raw: &str) -> Result<(String, String), String> {
    match raw.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err("write it as `Name: value`".to_owned()),
    }
}

/// A fact: `name=value`.
pub(crate) fn fact(raw: &str) -> Result<(String, String), String> {
    match raw.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as `name=value`".to_owned()),
    }
}

/// The error in one sentence, its hint included.
fn sentence(error: &Error) -> String {
    let message = error.message().map_or_else(|| error.to_string(), str::to_owned);
    match error.hint_text() {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_a_word_for_none() {
        assert_eq!(span_limit("0"), Ok(Limit(None)));
        assert_eq!(span_limit("1h30m"), Ok(Limit(Some(Duration::from_secs(5400)))));
        assert_eq!(expiry("never"), Ok(Limit(None)));
        assert!(expiry("0").is_err());
        assert_eq!((span("0"), span("1.5")), (Ok(Duration::ZERO), Ok(Duration::from_millis(1500))));
        assert!(span("-1").is_err() && span("soon").is_err());
        assert_eq!(size_limit("-1"), Ok(Limit(None)));
        assert_eq!(size_limit("1GiB"), Ok(Limit(Some(1 << 30))));
        assert!(size_limit("0").is_err());
        assert!(small_size_limit("3GiB").is_err());
        assert_eq!(count_limit("7"), Ok(Limit(Some(7))));
        assert!(count_limit("0").is_err() && count_limit("x").is_err());
    }

    #[test]
    fn waits_and_modes_are_read_as_files_write_them() {
        let milliseconds = Duration::from_millis;
        let expected = Wait { min: milliseconds(200), max: milliseconds(5000) };
        assert_eq!(wait("200ms..5s"), Ok(expected));
        assert_eq!(wait("1s"), Ok(Wait { min: milliseconds(1000), max: milliseconds(1000) }));
        assert!(wait("2s..1s").is_err() && wait("soon").is_err());
        assert_eq!((mode("0640"), mode("640")), (Ok(0o640), Ok(0o640)));
        assert!(mode("rw").is_err() && mode("77777").is_err());
    }

    #[test]
    fn fields_are_split_at_the_first_mark() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(header("A: b:c"), pair("A", "b:c"));
        assert_eq!(fact("a=b=c"), pair("a", "b=c"));
        assert!(header("A").is_err() && fact("=b").is_err());
    }
}
