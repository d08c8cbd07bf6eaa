//! Times and sizes in words that a person takes in at a glance.

use std::time::{Duration, SystemTime};

/// `12 s`, `3 min`, `5 h`, `2 d`: one figure, so that it rarely changes.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.is_zero() => "0 s".to_owned(),
        0 if time.as_millis() == 0 => format!("{} µs", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `3 min ago`, and `now` for less than a second.
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(past) if past >= Duration::from_secs(1) => format!("{} ago", span(past)),
        _ => "now".to_owned(),
    }
}

/// `1.5 GiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 234 567`, with narrow spaces.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// For machines: the `datetime` of a `<time>`.
pub(super) fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A name as an `id` of HTML, no two alike.
pub(super) fn slug(kind: &str, name: &str) -> String {
    let mut slug = format!("{kind}-");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => slug.push(char::from(byte)),
            _ => slug.push_str(&format!("_{byte:02x}")),
        }
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_one_figure() {
        let seconds = Duration::from_secs;
        for (time, words) in [
            (Duration::ZERO, "0 s"),
            (Duration::from_micros(250), "250 µs"),
            (Duration::from_millis(20), "20 ms"),
            (seconds(59), "59 s"),
            (seconds(61), "1 min"),
            (seconds(7200), "2 h"),
            (seconds(200_000), "2 d"),
        ] {
            assert_eq!(span(time), words);
        }
        let then = SystemTime::UNIX_EPOCH;
        assert_eq!(ago(then, then + seconds(90)), "1 min ago");
        assert_eq!(ago(then + seconds(90), then), "now", "a clock that went back");
        for (number, words) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(bytes(number), words);
        }
        assert!(bytes(u64::MAX).ends_with("EiB"));
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn names_that_differ_have_ids_that_differ() {
        assert_eq!(slug("bucket", "config (kv)"), "bucket-config_20_28kv_29");
        assert_ne!(slug("handler", "a_20b"), slug("handler", "a b"));
        assert!(
            slug("handler", "\"><é")
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'_' || it == b'-')
        );
    }
}
