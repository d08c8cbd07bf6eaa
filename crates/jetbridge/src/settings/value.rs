//! Texts become numbers, spans of time and sizes. Go's spelling of durations, because that is
//! what the files people already have are written in.

use std::time::Duration;

use jetbridge_core::Result;

use super::place::Problem;

/// Reads a span of time as Go writes it: `5s`, `1h30m`, `250ms`, `1.5s`; also `d` for days of 24
/// hours. `0` needs no unit.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) without a unit, with an unknown one,
/// or below zero.
pub fn parse_duration(text: &str) -> Result<Duration> {
    duration(text).map_err(|problem| problem.into_error(None))
}

/// Reads `true`, `yes`, `on`, `1`, `false`, `no`, `off` or `0`, in any case.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for anything else.
pub fn parse_bool(text: &str) -> Result<bool> {
    boolean(text).map_err(|problem| problem.into_error(None))
}

/// Reads a number of bytes: `1048576`, `64KiB`, `1GiB`, `10MB`, `1G` (powers of 1024 for `K`,
/// `M`, `G`, `T` and for the `iB` units, powers of 1000 for `KB`, `MB`, `GB`, `TB`).
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for an unknown unit or a number that
/// does not fit.
pub fn parse_size(text: &str) -> Result<u64> {
    size(text).map_err(|problem| problem.into_error(None))
}

/// The units of time and their nanoseconds, longest spelling first where one starts another.
const TIME_UNITS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
    ("d", 86_400e9),
];

/// The units of size and their bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

const DURATION_HINT: &str = "write it as `5s`, `250ms` or `1h30m`";

/// Longest duration accepted, in seconds: 292 years, which is what Go can hold.
const DURATION_SECONDS_MAX: f64 = 9.2e9;

pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let bad = |why: &str| Problem::new(format!("`{text}` {why}")).hint(DURATION_HINT);
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(bad("is a duration below zero"));
    }
    if rest.is_empty() {
        return Err(bad("is not a duration"));
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(bad("has no unit"))?;
        let number: f64 = rest[..digits].parse().map_err(|_syntax| bad("is not a duration"))?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, nanos) = TIME_UNITS
            .iter()
            .find(|(unit, _)| *unit == &rest[..letters])
            .ok_or_else(|| bad("is not a duration"))?;
        seconds += number * nanos / 1e9;
        rest = &rest[letters..];
    }
    if seconds > DURATION_SECONDS_MAX {
        return Err(bad("is longer than 292 years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_range| bad("is not a duration"))
}

/// A number of seconds without a unit, as Python's settings have them; or a duration.
pub(super) fn seconds(text: &str) -> Result<Duration, Problem> {
    match text.trim().parse::<f64>() {
        Ok(number) => Duration::try_from_secs_f64(number)
            .map_err(|_range| Problem::new(format!("`{text}` is not a number of seconds"))),
        Err(_not_a_number) => duration(text),
    }
}

/// A number of milliseconds without a unit; or a duration.
pub(super) fn milliseconds(text: &str) -> Result<Duration, Problem> {
    match text.trim().parse::<f64>() {
        Ok(number) => Duration::try_from_secs_f64(number / 1e3)
            .map_err(|_range| Problem::new(format!("`{text}` is not a number of milliseconds"))),
        Err(_not_a_number) => duration(text),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, Problem> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Ok(false),
        _ => Err(Problem::new(format!("`{text}` is neither true nor false"))
            .hint("write `true` or `false`")),
    }
}

pub(super) fn size(text: &str) -> Result<u64, Problem> {
    let bad =
        || Problem::new(format!("`{text}` is not a size")).hint("write bytes, or `64KiB`, `1GiB`");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_syntax| bad())?;
    let unit = unit.trim().to_ascii_lowercase();
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    number.checked_mul(*bytes).ok_or_else(bad)
}

/// A whole number that is not below zero.
pub(super) fn count(text: &str) -> Result<u64, Problem> {
    text.trim().parse().map_err(|_syntax| Problem::new(format!("`{text}` is not a whole number")))
}

/// A number above zero, as growth factors are.
pub(super) fn factor(text: &str) -> Result<f64, Problem> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(Problem::new(format!("`{text}` is not a number above zero"))),
    }
}

/// Attempts to reconnect: `-1` is for ever, which is `None`.
pub(super) fn reconnects(text: &str) -> Result<Option<usize>, Problem> {
    match text.trim().parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(usize::try_from(number).ok()),
        _ => Err(Problem::new(format!("`{text}` is not a number of attempts"))
            .hint("write a whole number, or `-1` to reconnect for ever")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, millis) in [
            ("5s", 5_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("2m0.5s", 120_500),
            ("1d", 86_400_000),
            ("0", 0),
            ("0s", 0),
            (" 3s ", 3_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        assert_eq!(parse_duration("10µs").unwrap(), Duration::from_micros(10));
        assert_eq!(parse_duration("7ns").unwrap(), Duration::from_nanos(7));
    }

    #[test]
    fn a_bad_duration_says_what_to_write() {
        for (text, message) in [
            ("5", "`5` has no unit"),
            ("five", "`five` is not a duration"),
            ("5 s", "`5 s` is not a duration"),
            ("-5s", "`-5s` is a duration below zero"),
            ("", "`` is not a duration"),
            ("1.2.3s", "`1.2.3s` is not a duration"),
            ("5S", "`5S` is not a duration"),
            ("99999999h", "`99999999h` is longer than 292 years"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(error.message(), Some(message));
            assert_eq!(error.hint_text(), Some(DURATION_HINT));
        }
    }

    #[test]
    fn plain_numbers_are_seconds_or_milliseconds_where_the_source_says_so() {
        assert_eq!(seconds("0.05").unwrap(), Duration::from_millis(50));
        assert_eq!(seconds("2s").unwrap(), Duration::from_secs(2));
        assert_eq!(milliseconds("10.0").unwrap(), Duration::from_millis(10));
        assert!(seconds("-1").is_err() && seconds("NaN").is_err() && milliseconds("-1").is_err());
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("10485760", 10 << 20),
            ("64KiB", 64 << 10),
            ("1 GiB", 1 << 30),
            ("10MB", 10_000_000),
            ("1G", 1 << 30),
            ("2tib", 2 << 40),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            let message = format!("`{text}` is not a size");
            assert_eq!(parse_size(text).unwrap_err().message(), Some(message.as_str()));
        }
    }

    #[test]
    fn booleans_and_numbers_of_attempts() {
        assert!(["1", "true", "YES", "on"].iter().all(|text| parse_bool(text).unwrap()));
        assert!(["0", "False", "no", "off"].iter().all(|text| !parse_bool(text).unwrap()));
        assert_eq!(
            parse_bool("maybe").unwrap_err().message(),
            Some("`maybe` is neither true nor false")
        );
        assert_eq!(reconnects("-1").unwrap(), None);
        assert_eq!(reconnects("0").unwrap(), Some(0));
        assert!(reconnects("-2").is_err() && reconnects("many").is_err());
        assert!(count("3").is_ok() && count("-3").is_err() && count("3.0").is_err());
        assert!(factor("2.0").is_ok() && factor("0").is_err() && factor("inf").is_err());
    }
}
