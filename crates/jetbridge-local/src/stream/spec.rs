//! The settings of a stream: what is refused, what counts as the same, and how they are stored.

use std::time::Duration;

use jetbridge_core::{
    Discard, Error, ErrorKind, Pattern, Result, Retention, Storage, StreamName, StreamSpec,
};
use serde::{Deserialize, Serialize};

/// Checks `spec` and replaces wishes by what this store does: one copy in a file. No subject
/// stands for the stream's own name.
pub(super) fn normalised(spec: &StreamSpec, operation: &'static str) -> Result<StreamSpec> {
    let mut spec = spec.clone();
    if spec.subjects.is_empty() {
        spec.subjects.push(Pattern::parse(spec.name.as_str())?);
    }
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::InvalidInput, operation).because(why).with("stream", &spec.name))
    };
    let mut others = spec.subjects.iter().enumerate();
    if others.any(|(at, one)| spec.subjects[..at].iter().any(|other| other.overlaps(one))) {
        return refuse("two subjects of the stream overlap");
    }
    let zeros = [
        ("max_age is zero", spec.max_age.is_some_and(|age| age.is_zero())),
        ("max_messages_per_subject is zero", spec.max_messages_per_subject == Some(0)),
    ];
    if let Some((what, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
        return refuse(&format!("{what}: nothing would ever be kept"));
    }
    spec.replicas = 1;
    spec.storage = Storage::File;
    spec.placement = None;
    Ok(spec)
}

/// What is different between two settings, by name.
pub(super) fn differences(wanted: &StreamSpec, present: &StreamSpec) -> Vec<&'static str> {
    let per_subject = wanted.max_messages_per_subject != present.max_messages_per_subject;
    let fields = [
        ("subjects", wanted.subjects != present.subjects),
        ("retention", wanted.retention != present.retention),
        ("discard", wanted.discard != present.discard),
        ("max_age", wanted.max_age != present.max_age),
        ("max_bytes", wanted.max_bytes != present.max_bytes),
        ("max_messages", wanted.max_messages != present.max_messages),
        ("max_messages_per_subject", per_subject),
        ("max_message_bytes", wanted.max_message_bytes != present.max_message_bytes),
        ("duplicate_window", !wanted.remembers_as(present)),
        ("description", wanted.description != present.description),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// A work queue stays one, and nothing else becomes one: its messages are promised to somebody.
pub(super) fn check_update(wanted: &StreamSpec, present: &StreamSpec) -> Result<()> {
    let queue = Retention::WorkQueue;
    if wanted.retention == present.retention
        || (wanted.retention != queue && present.retention != queue)
    {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "stream.update")
        .because("a stream cannot become a work queue, nor cease to be one")
        .with("stream", &wanted.name)
        .hint("make another stream and copy the messages"))
}

/// True if some subject is kept by both.
pub(super) fn overlaps(one: &StreamSpec, other: &StreamSpec) -> bool {
    one.subjects.iter().any(|mine| other.subjects.iter().any(|theirs| mine.overlaps(theirs)))
}

/// Settings as they are stored: JSON, durations in nanoseconds, what is not limited left out.
#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    subjects: Vec<String>,
    retention: StoredRetention,
    discard_new: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_messages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_messages_per_subject: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_message_bytes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duplicate_window_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum StoredRetention {
    Interest,
    Limits,
    WorkQueue,
}

/// `spec` as it is stored.
pub(super) fn to_json(spec: &StreamSpec) -> Result<String> {
    let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
    let stored = Stored {
        subjects: spec.subjects.iter().map(ToString::to_string).collect(),
        retention: match spec.retention {
            Retention::Interest => StoredRetention::Interest,
            Retention::Limits => StoredRetention::Limits,
            Retention::WorkQueue => StoredRetention::WorkQueue,
        },
        discard_new: spec.discard == Discard::New,
        max_age_ns: spec.max_age.map(nanos),
        max_bytes: spec.max_bytes,
        max_messages: spec.max_messages,
        max_messages_per_subject: spec.max_messages_per_subject,
        max_message_bytes: spec.max_message_bytes,
        duplicate_window_ns: spec.duplicate_window.map(nanos),
        description: spec.description.clone(),
    };
    serde_json::to_string(&stored)
        .map_err(|cause| Error::new(ErrorKind::Internal, "stream.create").caused_by(cause))
}

/// The inverse of [`to_json`].
pub(super) fn from_json(name: &StreamName, json: &str) -> Result<StreamSpec> {
    let stored: Stored = serde_json::from_str(json).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "stream.open")
            .because("the stored settings do not parse")
            .with("stream", name)
            .caused_by(cause)
    })?;
    let subjects = stored.subjects.iter().map(Pattern::parse).collect::<Result<_>>()?;
    let mut spec = StreamSpec::new(name.clone(), subjects);
    spec.retention = match stored.retention {
        StoredRetention::Interest => Retention::Interest,
        StoredRetention::Limits => Retention::Limits,
        StoredRetention::WorkQueue => Retention::WorkQueue,
    };
    spec.discard = if stored.discard_new { Discard::New } else { Discard::Old };
    spec.max_age = stored.max_age_ns.map(Duration::from_nanos);
    spec.max_bytes = stored.max_bytes;
    spec.max_messages = stored.max_messages;
    spec.max_messages_per_subject = stored.max_messages_per_subject;
    spec.max_message_bytes = stored.max_message_bytes;
    spec.duplicate_window = stored.duplicate_window_ns.map(Duration::from_nanos);
    spec.description = stored.description;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subjects: &[&str]) -> StreamSpec {
        let subjects = subjects.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        StreamSpec::new(StreamName::parse("S").unwrap(), subjects)
    }

    #[test]
    fn settings_come_back_as_they_were() {
        let bare = normalised(&spec(&["a.>"]), "t").unwrap();
        let mut full = normalised(&spec(&["a.*", "b"]), "t").unwrap();
        full.retention = Retention::WorkQueue;
        full.discard = Discard::New;
        full.max_age = Some(Duration::from_nanos(1));
        full.max_bytes = Some(2);
        full.max_messages = Some(3);
        full.max_messages_per_subject = Some(4);
        full.max_message_bytes = Some(5);
        full.duplicate_window = Some(Duration::from_secs(6));
        full.description = Some("seven".to_owned());
        for spec in [bare, full] {
            let json = to_json(&spec).unwrap();
            assert_eq!(from_json(&spec.name, &json).unwrap(), spec, "{json}");
        }
        let corrupt = from_json(&StreamName::parse("S").unwrap(), "{").unwrap_err();
        assert_eq!(corrupt.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_wishes_are_settled() {
        assert!(normalised(&spec(&["a.>", "a.b"]), "t").is_err());
        let mut aged = spec(&["a"]);
        aged.max_age = Some(Duration::ZERO);
        assert!(normalised(&aged, "t").is_err());
        let mut wishes = spec(&[]);
        (wishes.replicas, wishes.storage) = (3, Storage::Memory);
        let settled = normalised(&wishes, "t").unwrap();
        assert_eq!((settled.replicas, settled.storage), (1, Storage::File));
        assert_eq!(settled.subjects, spec(&["S"]).subjects);
    }
}
