//! Buckets as streams: from a [`BucketSpec`] to the configuration that every NATS client
//! understands (ADR-8 for keys, ADR-20 for objects), and back.
//!
//! A new bucket of keys asks for the expiry of single keys and for markers. A server that cannot
//! do it drops what it does not know and says nothing, so what a bucket can do is read off the
//! configuration that comes back, never off the absence of an error.

use std::time::{Duration, SystemTime};

use jetbridge_core::{
    BucketInfo, BucketKind, BucketName, BucketSpec, Error, ErrorKind, HISTORY_MAX, Placement,
    Result, Storage, Support,
};

use crate::time;
use crate::wire::{self, Discard, StreamConfig, StreamInfo};

/// How long a deletion is remembered where deletions can be forgotten: at least as long as a
/// watch may be cut off without missing one.
pub(crate) const MARKER_TTL: Duration = Duration::from_secs(120);
/// How long a stream remembers message ids, unless its messages live shorter than that.
const DUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(120);
/// The server takes no shorter age.
const AGE_MIN: Duration = Duration::from_millis(100);

/// The stream behind a bucket.
pub(crate) fn stream_name(kind: BucketKind, bucket: &str) -> String {
    format!("{}{bucket}", stream_prefix(kind))
}

fn stream_prefix(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::Kv => "KV_",
        BucketKind::Object => "OBJ_",
    }
}

/// The pattern over all subjects of buckets of one kind.
pub(crate) fn subjects_of(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::Kv => "$KV.>",
        BucketKind::Object => "$O.>",
    }
}

/// The bucket that a stream is, if it is one of this kind.
pub(crate) fn bucket_of(kind: BucketKind, stream: &str) -> Option<BucketName> {
    BucketName::parse(stream.strip_prefix(stream_prefix(kind))?).ok()
}

/// The stream to make for a bucket.
pub(crate) fn config(
    kind: BucketKind,
    bucket: &BucketName,
    spec: &BucketSpec,
) -> Result<StreamConfig> {
    check(kind, bucket, spec)?;
    let subjects = match kind {
        BucketKind::Kv => vec![format!("$KV.{bucket}.>")],
        BucketKind::Object => vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
    };
    let mut config = StreamConfig::new(stream_name(kind, bucket.as_str()), subjects);
    config.discard = Discard::New;
    config.allow_rollup_hdrs = true;
    config.allow_direct = true;
    config.storage = match spec.storage {
        Storage::File => wire::Storage::File,
        Storage::Memory => wire::Storage::Memory,
    };
    if kind == BucketKind::Kv {
        config.deny_delete = true;
        config.allow_msg_ttl = true;
        config.subject_delete_marker_ttl = time::to_nanos(MARKER_TTL);
    }
    apply(kind, spec, &mut config);
    Ok(config)
}

/// Sets what may be changed of a bucket.
pub(crate) fn apply(kind: BucketKind, spec: &BucketSpec, config: &mut StreamConfig) {
    if kind == BucketKind::Kv {
        config.max_msgs_per_subject = i64::from(spec.history);
        config.max_msg_size = spec.max_value_bytes.map_or(-1, i64::from);
    }
    config.max_age = spec.max_age.map_or(0, time::to_nanos);
    let window = spec.max_age.unwrap_or(DUPLICATE_WINDOW_MAX).min(DUPLICATE_WINDOW_MAX);
    config.duplicate_window = time::to_nanos(window);
    config.max_bytes = spec.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    config.num_replicas = spec.replicas.max(1);
    config.placement = spec.placement.as_ref().map(|placement| wire::Placement {
        cluster: placement.cluster.clone(),
        tags: placement.tags.clone(),
    });
    config.compression = match (spec.compression, &config.compression) {
        (true, _) => Some("s2".to_owned()),
        (false, Some(_)) => Some("none".to_owned()),
        (false, None) => None,
    };
    config.description.clone_from(&spec.description);
    config.metadata.retain(|name, _| name.starts_with("_nats."));
    config.metadata.extend(spec.metadata.clone());
}

fn check(kind: BucketKind, bucket: &BucketName, spec: &BucketSpec) -> Result<()> {
    let bad = |why: String| {
        Err(Error::new(ErrorKind::InvalidInput, "bucket.create")
            .because(why)
            .with("bucket", bucket))
    };
    if kind == BucketKind::Kv && !(1..=HISTORY_MAX).contains(&spec.history) {
        return bad(format!("a bucket keeps 1 to {HISTORY_MAX} revisions, not {}", spec.history));
    }
    match spec.max_age {
        Some(age) if age < AGE_MIN => {
            bad(format!("the shortest age is {} ms", AGE_MIN.as_millis()))
        }
        Some(age) if i64::try_from(age.as_nanos()).is_err() => {
            bad("an age of centuries is as good as none: leave it out".to_owned())
        }
        _ => Ok(()),
    }
}

/// A bucket's settings as its stream has them.
pub(crate) fn spec(config: &StreamConfig) -> BucketSpec {
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let mut spec = BucketSpec::default();
    spec.history = positive(config.max_msgs_per_subject)
        .map_or(1, |history| u8::try_from(history).unwrap_or(u8::MAX));
    spec.max_age = Some(Duration::from_nanos(config.max_age)).filter(|age| !age.is_zero());
    spec.max_bytes = positive(config.max_bytes);
    spec.max_value_bytes =
        positive(config.max_msg_size).map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    spec.replicas = config.num_replicas.max(1);
    spec.storage = match config.storage {
        wire::Storage::File => Storage::File,
        wire::Storage::Memory => Storage::Memory,
    };
    spec.placement = config.placement.as_ref().map(|placement| Placement {
        cluster: placement.cluster.clone(),
        tags: placement.tags.clone(),
    });
    spec.compression = config.compression.as_deref() == Some("s2");
    spec.description = config.description.clone().filter(|text| !text.is_empty());
    spec.metadata = config
        .metadata
        .iter()
        .filter(|(name, _)| !name.starts_with("_nats."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    spec
}

/// A bucket as its stream tells.
pub(crate) fn info(kind: BucketKind, name: BucketName, stream: &StreamInfo) -> BucketInfo {
    let created = time::parse(&stream.created).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut info = BucketInfo::new(name, kind, spec(&stream.config), created);
    info.messages = stream.state.messages;
    info.bytes = stream.state.bytes;
    info.last_revision = stream.state.last_seq;
    info.sealed = stream.config.sealed;
    info.key_ttl = match kind {
        BucketKind::Object => Support::No,
        BucketKind::Kv if stream.config.allow_msg_ttl => Support::Native,
        BucketKind::Kv => Support::Emulated,
    };
    info
}

/// In what a bucket that is there differs from what is wanted, in words; empty if in nothing.
/// `metadata` and `compression` are wishes, which old servers drop.
pub(crate) fn differences(
    kind: BucketKind,
    present: &StreamConfig,
    wanted: &StreamConfig,
) -> Vec<String> {
    let (is, want) = (spec(present), spec(wanted));
    let mut found = Vec::new();
    let mut compare = |name: &str, is: String, want: String| {
        if is != want {
            found.push(format!("{name} is {is}, not {want}"));
        }
    };
    if kind == BucketKind::Kv {
        compare("history", is.history.to_string(), want.history.to_string());
        compare("max_value_bytes", show(&is.max_value_bytes), show(&want.max_value_bytes));
    }
    compare("max_age", show(&is.max_age), show(&want.max_age));
    compare("max_bytes", show(&is.max_bytes), show(&want.max_bytes));
    compare("replicas", is.replicas.to_string(), want.replicas.to_string());
    compare("storage", format!("{:?}", is.storage), format!("{:?}", want.storage));
    compare("description", show(&is.description), show(&want.description));
    if want.placement.is_some() {
        compare("placement", show(&is.placement), show(&want.placement));
    }
    if present.compression.is_some() {
        compare("compression", is.compression.to_string(), want.compression.to_string());
    }
    if !want.metadata.is_empty() && !is.metadata.is_empty() {
        compare("metadata", format!("{:?}", is.metadata), format!("{:?}", want.metadata));
    }
    found
}

fn show<T: std::fmt::Debug>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> BucketName {
        BucketName::parse("b").unwrap()
    }

    #[test]
    fn a_spec_survives_the_way_to_the_server_and_back() {
        let mut wanted = BucketSpec::default();
        wanted.history = 5;
        wanted.max_age = Some(Duration::from_secs(60));
        wanted.max_bytes = Some(1 << 20);
        wanted.max_value_bytes = Some(1000);
        wanted.compression = true;
        wanted.description = Some("d".to_owned());
        wanted.metadata.insert("a".to_owned(), "1".to_owned());
        let config = config(BucketKind::Kv, &bucket(), &wanted).unwrap();
        assert_eq!(spec(&config), wanted);
        assert_eq!(config.duplicate_window, 60_000_000_000, "no longer than messages live");
    }

    #[test]
    fn differences_name_what_differs() {
        let present = config(BucketKind::Kv, &bucket(), &BucketSpec::default()).unwrap();
        let mut wanted = BucketSpec::default();
        wanted.history = 5;
        let wanted = config(BucketKind::Kv, &bucket(), &wanted).unwrap();
        assert_eq!(differences(BucketKind::Kv, &present, &present), Vec::<String>::new());
        assert_eq!(differences(BucketKind::Kv, &present, &wanted), ["history is 1, not 5"]);
    }

    #[test]
    fn what_no_server_takes_is_refused_before_it_is_sent() {
        for history in [0, 65] {
            let mut spec = BucketSpec::default();
            spec.history = history;
            assert!(config(BucketKind::Kv, &bucket(), &spec).is_err(), "{history}");
        }
        let mut spec = BucketSpec::default();
        spec.max_age = Some(Duration::from_millis(1));
        assert!(config(BucketKind::Kv, &bucket(), &spec).is_err());
    }
}
