//! What is known of the stream behind a bucket of keys, as its server echoes it.
//!
//! A user may be allowed to read keys and nothing else; then the facts are [unknown]
//! (Facts::unknown), and whatever depends on them takes the way that is right in any case.

use std::time::Duration;

use serde_json::Value;

use crate::keyspace::Keyspace;
use crate::probe::{LEVEL_TTL, stream_level};
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
    /// Whether copies may be asked at all.
    pub(crate) direct: bool,
    /// Who surely knows the last write.
    pub(crate) authority: Authority,
    /// Whether there may be mirrors that nobody tells of: a server without a cluster does not.
    pub(crate) hides_mirrors: bool,
    /// When the stream was made, which tells it from another of the same name.
    pub(crate) created: Option<String>,
}

/// Who surely knows the last write of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Authority {
    /// The only copy there is, which answers direct gets.
    OnlyCopy,
    /// The leader of this stream, behind this API prefix if it is not the usual one.
    Leader { stream: String, prefix: Option<String> },
}

impl Facts {
    /// Nothing is known: a leader must be asked, expiry is not counted on.
    pub(crate) fn unknown(bucket: &str, stream: &str) -> Self {
        Self {
            known: false,
            keyspace: Keyspace::plain(bucket),
            history: None,
            max_age: None,
            ttl: true,
            marker_ttl: None,
            many: false,
            message_bytes_max: None,
            remembers: Duration::ZERO,
            direct: true,
            authority: Authority::Leader { stream: stream.to_owned(), prefix: None },
            hides_mirrors: true,
            created: None,
        }
    }

    /// What a stream's information says.
    pub(crate) fn of(bucket: &str, info: &StreamInfo) -> Self {
        let config = &info.config;
        let marker_ttl = Duration::from_nanos(config.subject_delete_marker_ttl);
        Self {
            known: true,
            keyspace: Keyspace::of(bucket, config),
            history: Some(config.max_msgs_per_subject),
            max_age: Some(Duration::from_nanos(config.max_age)).filter(|age| !age.is_zero()),
            ttl: config.allow_msg_ttl,
            marker_ttl: Some(marker_ttl).filter(|ttl| config.allow_msg_ttl && !ttl.is_zero()),
            many: stream_level(config).is_some_and(|level| level >= LEVEL_TTL),
            message_bytes_max: usize::try_from(config.max_msg_size).ok().filter(|max| *max > 0),
            remembers: Duration::from_nanos(config.duplicate_window),
            direct: config.allow_direct,
            authority: authority(info),
            hides_mirrors: info.cluster.as_ref().is_none_or(|cluster| cluster.name.is_none()),
            created: Some(info.created.clone()),
        }
    }

    /// True if a copy that answers is the only one.
    pub(crate) fn is_only_copy(&self) -> bool {
        self.authority == Authority::OnlyCopy
    }

    /// True if an older value may lie under the last one.
    pub(crate) fn keeps_history(&self) -> bool {
        self.history != Some(1)
    }
}

fn authority(info: &StreamInfo) -> Authority {
    let config = &info.config;
    if let Some((stream, prefix)) = config.mirror.as_ref().and_then(origin) {
        return Authority::Leader { stream, prefix };
    }
    // Mirrors answer direct gets for the stream they mirror, and may lag behind it.
    let mirrored = info.alternates.as_ref().is_some_and(|others| others.len() > 1);
    if config.num_replicas > 1 || mirrored || !config.allow_direct {
        return Authority::Leader { stream: config.name.clone(), prefix: None };
    }
    Authority::OnlyCopy
}

/// The stream that a mirror mirrors, and the prefix of the API it is behind.
pub(crate) fn origin(mirror: &Value) -> Option<(String, Option<String>)> {
    let stream = mirror.get("name")?.as_str()?.to_owned();
    let prefix = mirror.get("external").and_then(|external| external.get("api")?.as_str());
    Some((stream, prefix.map(str::to_owned)))
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
        Facts::of("b", &info)
    }

    fn leader(stream: &str) -> Authority {
        Authority::Leader { stream: stream.to_owned(), prefix: None }
    }

    #[test]
    fn only_a_single_unmirrored_copy_may_answer_for_the_last_write() {
        assert_eq!(info(|_| {}).authority, Authority::OnlyCopy);
        assert_eq!(info(|it| it.config.num_replicas = 3).authority, leader("KV_b"));
        let two = Some(vec![json!({}), json!({})]);
        assert_eq!(info(|it| it.alternates = two).authority, leader("KV_b"));
        assert_eq!(info(|it| it.config.allow_direct = false).authority, leader("KV_b"));
        let mirror = Some(json!({ "name": "KV_o" }));
        assert_eq!(info(|it| it.config.mirror = mirror).authority, leader("KV_o"));
        assert_eq!(Facts::unknown("b", "KV_b").authority, leader("KV_b"));
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
