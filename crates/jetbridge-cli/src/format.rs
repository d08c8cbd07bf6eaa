//! How times, spans, sizes and names are written. Spans can be typed in again as they are
//! printed; times are RFC 3339 in UTC.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// A time to the millisecond, for people.
pub(crate) fn time(at: SystemTime) -> String {
    if is_writable(at) { humantime::format_rfc3339_millis(at).to_string() } else { "-".to_owned() }
}

/// A time as exact as it is known, for programs.
pub(crate) fn exact_time(at: SystemTime) -> String {
    if is_writable(at) { humantime::format_rfc3339(at).to_string() } else { "-".to_owned() }
}

/// Seconds from 1970 to the year 10000.
const SECONDS_END: u64 = 253_402_300_800;

/// False for times before 1970 and after 9999, which a foreign writer may have left: they have
/// no RFC 3339 text.
fn is_writable(at: SystemTime) -> bool {
    at.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() < SECONDS_END)
}

/// A span as Go writes it, without parts that are zero: `1h30m`, `1.5s`, `250ms`.
pub(crate) fn span(span: Duration) -> String {
    let nanos = span.subsec_nanos();
    if span.as_secs() == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => {
                format!("{}µs", decimal(u64::from(nanos / 1_000), nanos % 1_000, 3))
            }
            _ => format!("{}ms", decimal(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)),
        };
    }
    let (hours, minutes, seconds) =
        (span.as_secs() / 3600, span.as_secs() / 60 % 60, span.as_secs() % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    if seconds > 0 || nanos > 0 {
        text.push_str(&format!("{}s", decimal(seconds, nanos, 9)));
    }
    text
}

/// `whole` and `part` of `digits` digits, without trailing zeros.
fn decimal(whole: u64, part: u32, digits: usize) -> String {
    if part == 0 {
        return whole.to_string();
    }
    let part = format!("{part:0digits$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

/// Whole milliseconds, for programs.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

const SIZE_UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// A number of bytes for people: `512 B`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit; the last unit takes whatever is left.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < SIZE_UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, SIZE_UNITS[unit])
}

/// A name on one line: control characters, which may also steer a terminal, are escaped. The
/// exact name is in the JSON.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !name.contains(harmful) {
        return Cow::Borrowed(name);
    }
    let escaped = name.chars().flat_map(|c| {
        let (plain, escape) =
            if harmful(c) { (None, Some(c.escape_default())) } else { (Some(c), None) };
        plain.into_iter().chain(escape.into_iter().flatten())
    });
    Cow::Owned(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_can_be_typed_in_again() {
        for text in [
            "0s", "7ns", "10µs", "1.5µs", "250ms", "1.5ms", "1s", "1.25s", "1m", "1h30m", "26h",
            "1h0.5s", "2m3s",
        ] {
            let parsed = jetbridge::settings::parse_duration(text).unwrap();
            assert_eq!(span(parsed), text);
        }
    }

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(time(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(exact_time(at), "2023-11-14T22:13:20.123456000Z");
        assert_eq!(time(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "-");
        assert_eq!(time(SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS_END)), "-");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(shown("user:1 é ="), "user:1 é =");
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
    }
}
