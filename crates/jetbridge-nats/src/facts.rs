//! What is known of the stream behind a bucket of keys, as its server echoes it.
//!
//! A user may be allowed to read keys and nothing else; then the facts are [unknown]
//! (Facts::unknown), and whatever depends on them takes the way that is right in any case.

use std::time::{Duration, SystemTime};

use jetbridge_core::{BucketKind, BucketName};
use tokio::time::Instant;

use crate::copies::Copies;
use crate::keyspace::Keyspace;
use crate::probe::{LEVEL_TTL, stream_level};
use crate::time;
use crate::wire::StreamInfo;

/// The facts of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Whether the server was asked and has answered.
    pub(crate) known: bool,
    pub(crate) keyspace: Keyspace,
    /// Revisions kept of each key.
    pub(crate) history: Option<i64>,
    pub(crate) max_age: Option<Duration>,
    /// Whether the server removes single messages that have expired.
    pub(crate) ttl: bool,
    /// How long a deletion is remembered; `None` is for ever.
    pub(crate) marker_ttl: Option<Duration>,
    /// Whether the server can answer for many keys at once.
    pub(crate) many: bool,
    /// Bytes of one message at most, headers included.
    pub(crate) message_bytes_max: Option<usize>,
    /// How long message ids are remembered.
    pub(crate) remembers: Duration,
    /// Whom to ask for what.
    pub(crate) copies: Copies,
    /// When the stream was made, which tells it from another of the same name.
    pub(crate) created: Option<String>,
    /// Its last message.
    pub(crate) last: Option<Last>,
}

/// A stream's last message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) sequence: u64,
    pub(crate) written: SystemTime,
    /// When the stream said so.
    pub(crate) told: Instant,
}

impl Last {
    fn of(info: &StreamInfo) -> Option<Self> {
        let written = time::parse(&info.state.last_ts)?;
        Some(Self { sequence: info.state.last_seq, written, told: Instant::now() })
    }
}

impl Facts {
    /// Nothing is known: a leader must be asked, expiry is not counted on.
    pub(crate) fn unknown(bucket: &BucketName) -> Self {
        Self {
            known: false,
            keyspace: Keyspace::plain(bucket.as_str()),
            history: None,
            max_age: None,
            ttl: true,
            marker_ttl: None,
            many: false,
            message_bytes_max: None,
            remembers: Duration::ZERO,
            copies: Copies::unknown(BucketKind::Kv, bucket.clone()),
            created: None,
            last: None,
        }
    }

    /// What a stream's information says.
    pub(crate) fn of(bucket: &BucketName, info: &StreamInfo) -> Self {
        let config = &info.config;
        let marker_ttl = Duration::from_nanos(config.subject_delete_marker_ttl);
        Self {
            known: true,
            keyspace: Keyspace::of(bucket.as_str(), config),
            history: Some(config.max_msgs_per_subject),
            max_age: Some(Duration::from_nanos(config.max_age)).filter(|age| !age.is_zero()),
            ttl: config.allow_msg_ttl,
            marker_ttl: Some(marker_ttl).filter(|ttl| config.allow_msg_ttl && !ttl.is_zero()),
            many: stream_level(config).is_some_and(|level| level >= LEVEL_TTL),
            message_bytes_max: usize::try_from(config.max_msg_size).ok().filter(|max| *max > 0),
            remembers: Duration::from_nanos(config.duplicate_window),
            copies: Copies::of(BucketKind::Kv, bucket.clone(), info),
            created: Some(info.created.clone()),
            last: Last::of(info),
        }
    }

    /// True if an older value may lie under the last one.
    pub(crate) fn keeps_history(&self) -> bool {
        self.history != Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StreamConfig;
    use serde_json::json;

    fn info(change: impl FnOnce(&mut StreamInfo)) -> Facts {
        let mut config = StreamConfig::new("KV_b", vec!["$KV.b.>".to_owned()]);
        config.allow_direct = true;
        let mut info: StreamInfo =
            serde_json::from_value(json!({ "config": serde_json::to_value(config).unwrap() }))
                .unwrap();
        change(&mut info);
        Facts::of(&BucketName::parse("b").unwrap(), &info)
    }

    #[test]
    fn expiry_is_what_the_server_echoes() {
        assert!(!info(|_| {}).ttl);
        let facts = info(|it| {
            it.config.allow_msg_ttl = true;
            it.config.subject_delete_marker_ttl = 1_000_000_000;
        });
        assert_eq!((facts.ttl, facts.marker_ttl), (true, Some(Duration::from_secs(1))));
    }
}
