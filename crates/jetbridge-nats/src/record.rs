//! What one stored message says of its key: a value, or a deletion, and when it expires.
//!
//! Expiry is written twice: in whole seconds for servers that remove what has expired, and in
//! milliseconds in a header of our own, which readers obey, so that times below a second hold,
//! servers before 2.11 will do, and a server's delay does not show.

use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use jetbridge_core::{Change, Entry, Error, ErrorKind, Key, Result, Revision, StoreTime};

use crate::api::Stored;
use crate::{headers, time};

/// Values up to this size are copied out of the read buffer, of which they would otherwise hold
/// 64 KiB for as long as the caller holds them.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// A TTL beyond this is as good as none; a server counts in nanoseconds and overflows after 292
/// years.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The last that is known of a key.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) revision: Revision,
    pub(crate) written: SystemTime,
    /// When its own TTL ends.
    pub(crate) expires: Option<SystemTime>,
    /// `None` is a deletion.
    pub(crate) value: Option<Value>,
}

/// A value and its writer's headers.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    headers: HeaderMap,
}

impl Record {
    /// What `stored` says of `key`.
    pub(crate) fn new(key: Key, stored: Stored) -> Self {
        let expires = expiry(&stored);
        let value = if is_deletion(&stored) {
            None
        } else {
            Some(Value { bytes: owned(stored.payload), headers: stored.headers })
        };
        let (revision, written) = (Revision(stored.sequence), stored.time);
        Self { key, revision, written, expires, value }
    }

    /// True if it has a value that has not surely expired at `now`; `max_age` is the bucket's.
    pub(crate) fn is_live(&self, now: StoreTime, max_age: Option<Duration>) -> bool {
        self.value.is_some() && self.due(max_age).is_none_or(|due| !has_passed(due, now))
    }

    /// When it goes.
    pub(crate) fn due(&self, max_age: Option<Duration>) -> Option<SystemTime> {
        let aged = max_age.and_then(|age| self.written.checked_add(age));
        [self.expires, aged].into_iter().flatten().min()
    }

    /// The entry; `None` if this is a deletion.
    pub(crate) fn into_entry(self) -> Option<Entry> {
        let value = self.value?;
        let mut entry = Entry::new(self.key, value.bytes, self.revision, self.written);
        entry.expires = self.expires;
        entry.headers = headers::from_wire(Some(&value.headers));
        Some(entry)
    }

    /// The change that it was.
    pub(crate) fn into_change(self) -> Change {
        let (key, revision, at) = (self.key.clone(), self.revision, self.written);
        match self.into_entry() {
            Some(entry) => Change::Put(entry),
            None => Change::Delete { key, revision, at },
        }
    }
}

/// True once `due` has surely passed.
pub(crate) fn has_passed(due: SystemTime, now: StoreTime) -> bool {
    now.now.checked_sub(now.error).is_some_and(|surely| surely >= due)
}

fn is_deletion(stored: &Stored) -> bool {
    // A marker is of the server's making: it placed it where a value expired.
    stored.header(headers::MARKER_REASON).is_some()
        || matches!(stored.header(headers::KV_OPERATION), Some("DEL" | "PURGE"))
}

fn expiry(stored: &Stored) -> Option<SystemTime> {
    if let Some(ms) = stored.header(headers::EXPIRES).and_then(|text| text.parse().ok()) {
        return Some(time::from_unix_ms(ms));
    }
    let ttl = time::parse_duration(stored.header(headers::TTL)?)?;
    if is_deletion(stored) { None } else { stored.time.checked_add(ttl) }
}

fn owned(payload: Bytes) -> Bytes {
    if payload.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&payload) } else { payload }
}

/// The instant at which a value written now with `ttl` has surely lived that long.
pub(crate) fn expires_at(ttl: Duration, now: StoreTime) -> Result<SystemTime> {
    let bad = |why: &str| {
        Err(Error::new(ErrorKind::InvalidInput, "kv.put")
            .because(why)
            .with("ttl_ms", ttl.as_millis()))
    };
    if ttl.is_zero() {
        return bad("a TTL is longer than nothing");
    }
    if ttl > TTL_MAX {
        return bad("a TTL of more than a century is as good as none: leave it out");
    }
    // Milliseconds are rounded up: a value must not go before its time.
    let unix_ms = time::to_unix_ms(now.now + now.error + ttl).saturating_add(1);
    Ok(time::from_unix_ms(unix_ms))
}

/// Whole seconds that last at least as long as `ttl`, as servers count them.
pub(crate) fn ttl_seconds(ttl: Duration) -> HeaderValue {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    HeaderValue::from(seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(fields: &[(&str, &str)]) -> Stored {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.insert(*name, *value);
        }
        let payload = Bytes::from_static(b"v");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        Stored { subject: "$KV.b.k".into(), sequence: 7, time, headers: map, payload }
    }

    fn record(fields: &[(&str, &str)]) -> Record {
        Record::new(Key::parse("k").unwrap(), stored(fields))
    }

    fn at(ms: u64) -> StoreTime {
        StoreTime { now: time::from_unix_ms(ms), error: Duration::from_millis(1) }
    }

    #[test]
    fn tombstones_and_markers_are_deletions() {
        assert!(record(&[]).value.is_some());
        for field in [("KV-Operation", "DEL"), ("KV-Operation", "PURGE")] {
            assert!(record(&[field]).value.is_none());
        }
        assert!(record(&[("Nats-Marker-Reason", "MaxAge"), ("Nats-TTL", "2m0s")]).value.is_none());
    }

    #[test]
    fn a_value_is_live_until_its_time_has_surely_come() {
        let brief = record(&[("Jetbridge-Expires", "12000"), ("Nats-TTL", "3")]);
        assert!(brief.is_live(at(12_000), None), "it may be a millisecond earlier there");
        assert!(!brief.is_live(at(12_001), None));
        assert!(!record(&[]).is_live(at(11_001), Some(Duration::from_secs(1))), "the bucket's age");
    }

    #[test]
    fn another_clients_ttl_counts_from_the_write() {
        for (text, ms) in [("5", 15_000), ("5s", 15_000), ("1m30s", 100_000), ("1.5s", 11_500)] {
            assert_eq!(record(&[("Nats-TTL", text)]).expires, Some(time::from_unix_ms(ms)));
        }
        assert_eq!(record(&[("Nats-TTL", "never")]).expires, None);
    }

    #[test]
    fn a_ttl_is_rounded_up_never_down() {
        let seconds = |ms| ttl_seconds(Duration::from_millis(ms)).as_str().to_owned();
        assert_eq!(
            (seconds(1), seconds(1000), seconds(1001)),
            ("1".into(), "1".into(), "2".into())
        );
        let expires = expires_at(Duration::from_micros(1500), at(1000)).unwrap();
        assert!(expires >= time::from_unix_ms(1003));
        for absurd in [Duration::ZERO, Duration::MAX] {
            assert!(expires_at(absurd, at(0)).is_err());
        }
    }
}
