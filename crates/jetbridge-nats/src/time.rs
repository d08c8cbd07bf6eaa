//! Time stamps as the server writes them: RFC 3339 with up to nine digits of a second.

use std::time::{Duration, SystemTime};

const SECONDS_PER_DAY: i64 = 86_400;

/// Parses `2026-01-02T03:04:05.678Z`, or with an offset such as `+01:00`.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (number(clock.next()?)?, number(clock.next()?)?);
    let (second, fraction) = split_second(clock.next()?)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
        - offset(zone)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, fraction);
    Some(SystemTime::UNIX_EPOCH + since)
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn split_second(text: &str) -> Option<(i64, u32)> {
    let Some((second, digits)) = text.split_once('.') else { return Some((number(text)?, 0)) };
    let digits = digits.get(..9).unwrap_or(digits);
    let scale = 10_u32.pow(9 - u32::try_from(digits.len()).ok()?);
    Some((number(second)?, digits.parse::<u32>().ok()? * scale))
}

fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' | b'z' => return Some(0),
        b'+' => 1,
        _ => -1,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years are counted from March, so
/// that a leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_PER_ERA: i64 = 146_097;
    const FROM_YEAR_0_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - FROM_YEAR_0_TO_1970
}

/// Parses a duration as headers have it: whole seconds, or numbers with units as Go writes them,
/// such as `1h30m0.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let (count, after) = rest.split_at(rest.find(|c| !is_digit(c))?);
        let (unit, next) = after.split_at(after.find(is_digit).unwrap_or(after.len()));
        let seconds = count.parse::<f64>().ok()? * seconds_of(unit)?;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" | "μs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

/// Nanoseconds, as JetStream's JSON has durations.
pub(crate) fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Unix milliseconds.
pub(crate) fn to_unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time at `ms` Unix milliseconds.
pub(crate) fn from_unix_ms(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u64, nanos: u32) {
        let expected = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(parse(text), Some(expected), "{text}");
    }

    #[test]
    fn stamps_of_the_server_are_read() {
        check("1970-01-01T00:00:00Z", 0, 0);
        check("2000-02-29T12:00:00Z", 951_825_600, 0);
        check("2026-11-25T02:10:11.5Z", 1_795_572_611, 500_000_000);
        check("2026-11-25T02:10:11.123456789Z", 1_795_572_611, 123_456_789);
        check("2026-11-25T03:10:11+01:00", 1_795_572_611, 0);
        check("2026-11-24T21:10:11-05:00", 1_795_572_611, 0);
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for text in ["", "x", "2026-11-25", "2026-13-01T00:00:00Z", "2026-11-25T02:10Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let ms = |text| parse_duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("1h0m0s", 3_600_000),
            ("2h30m0.25s", 9_000_250),
            ("1500ms", 1500),
            ("2000µs", 2),
            ("0s", 0),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for bad in ["", "never", "s", "5x", "5s3", "1.2.3s", "-5s", "5 s"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
