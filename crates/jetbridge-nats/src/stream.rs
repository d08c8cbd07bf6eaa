//! Streams as the seam has them, and as JetStream has them.

use std::time::{Duration, SystemTime};

use jetbridge_core::{
    Discard, Error, ErrorKind, Pattern, Placement, Result, Retention, Storage, StreamInfo,
    StreamName, StreamSpec,
};

use crate::error::malformed;
use crate::{time, wire};

/// The configuration that makes the stream `spec` describes.
pub(crate) fn config(spec: &StreamSpec) -> wire::StreamConfig {
    let subjects = spec.subjects.iter().map(ToString::to_string).collect();
    let mut config = wire::StreamConfig::new(spec.name.as_str(), subjects);
    apply(spec, &mut config);
    config
}

/// Changes `config` to what `spec` describes; what the seam does not know stays as it is.
pub(crate) fn apply(spec: &StreamSpec, config: &mut wire::StreamConfig) {
    config.subjects = spec.subjects.iter().map(ToString::to_string).collect();
    config.description.clone_from(&spec.description);
    config.retention = match spec.retention {
        Retention::Interest => wire::Retention::Interest,
        Retention::Limits => wire::Retention::Limits,
        Retention::WorkQueue => wire::Retention::WorkQueue,
    };
    config.discard = match spec.discard {
        Discard::New => wire::Discard::New,
        Discard::Old => wire::Discard::Old,
    };
    config.storage = match spec.storage {
        Storage::File => wire::Storage::File,
        Storage::Memory => wire::Storage::Memory,
    };
    config.max_age = spec.max_age.map_or(0, time::to_nanos);
    config.max_bytes = limit(spec.max_bytes);
    config.max_msgs = limit(spec.max_messages);
    config.max_msgs_per_subject = limit(spec.max_messages_per_subject);
    config.max_msg_size = limit(spec.max_message_bytes.map(u64::from));
    config.num_replicas = spec.replicas;
    config.placement = spec.placement.as_ref().map(|placement| wire::Placement {
        cluster: placement.cluster.clone(),
        tags: placement.tags.clone(),
    });
    if spec.duplicate_window.is_some() || spec.max_age.is_some() {
        config.duplicate_window = time::to_nanos(spec.remembers());
    }
    // Single messages are then read without a consumer, from any copy.
    config.allow_direct = true;
}

fn limit(most: Option<u64>) -> i64 {
    most.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX))
}

/// What the seam knows of a stream that the server described.
pub(crate) fn info(wire: &wire::StreamInfo, operation: &'static str) -> Result<StreamInfo> {
    let bad = |cause: Error| malformed(operation, cause);
    let config = &wire.config;
    let name = StreamName::parse(&config.name).map_err(bad)?;
    let subjects =
        config.subjects.iter().map(Pattern::parse).collect::<Result<_>>().map_err(bad)?;
    let mut spec = StreamSpec::new(name, subjects);
    spec.description.clone_from(&config.description);
    spec.retention = match config.retention {
        wire::Retention::Interest => Retention::Interest,
        wire::Retention::Limits => Retention::Limits,
        wire::Retention::WorkQueue => Retention::WorkQueue,
    };
    spec.discard = match config.discard {
        wire::Discard::New => Discard::New,
        wire::Discard::Old => Discard::Old,
    };
    spec.storage = match config.storage {
        wire::Storage::File => Storage::File,
        wire::Storage::Memory => Storage::Memory,
    };
    spec.max_age = some_nanos(config.max_age);
    spec.max_bytes = some_limit(config.max_bytes);
    spec.max_messages = some_limit(config.max_msgs);
    spec.max_messages_per_subject = some_limit(config.max_msgs_per_subject);
    spec.max_message_bytes =
        some_limit(config.max_msg_size).and_then(|bytes| u32::try_from(bytes).ok());
    spec.duplicate_window = some_nanos(config.duplicate_window);
    spec.replicas = config.num_replicas.max(1);
    spec.placement = config.placement.as_ref().map(|placement| Placement {
        cluster: placement.cluster.clone(),
        tags: placement.tags.clone(),
    });
    let created = time::parse(&wire.created).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut info = StreamInfo::new(spec, created);
    info.messages = wire.state.messages;
    info.bytes = wire.state.bytes;
    info.first_sequence = wire.state.first_seq;
    info.last_sequence = wire.state.last_seq;
    info.consumers = wire.state.consumer_count;
    Ok(info)
}

fn some_limit(most: i64) -> Option<u64> {
    u64::try_from(most).ok().filter(|most| *most > 0)
}

fn some_nanos(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// The settings in which a stream that is there differs from `wanted`, as `name: is, not wanted`.
pub(crate) fn differences(wanted: &StreamSpec, present: &StreamSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, wanted: String, present: String| {
        if wanted != present {
            found.push(format!("{name} is {present}, not {wanted}"));
        }
    };
    macro_rules! fields {
        ($($field:ident),+) => {
            $(compare(
                stringify!($field),
                format!("{:?}", wanted.$field),
                format!("{:?}", present.$field),
            );)+
        };
    }
    fields!(
        subjects,
        retention,
        discard,
        max_age,
        max_bytes,
        max_messages,
        max_messages_per_subject,
        max_message_bytes,
        replicas,
        storage,
        placement,
        description
    );
    if wanted.duplicate_window.is_some() {
        let window = |spec: &StreamSpec| format!("{:?}", spec.duplicate_window);
        compare("duplicate_window", window(wanted), window(present));
    }
    found
}

/// The error of making a stream that is there with other settings.
pub(crate) fn exists(wanted: &StreamSpec, present: &StreamSpec) -> Error {
    let differences = differences(wanted, present).join("; ");
    Error::new(ErrorKind::AlreadyExists, "stream.create")
        .because("a stream of that name is there with other settings")
        .with("stream", &wanted.name)
        .with("differs", differences)
        .hint("open it as it is, change it with an update, or pick another name")
}
