//! The settings of a bucket as they are stored, compared and described.

use std::collections::BTreeMap;
use std::time::Duration;

use jetbridge_core::{BucketKind, BucketSpec, Error, ErrorKind, HISTORY_MAX, Result, Storage};
use serde::{Deserialize, Serialize};

use super::rows;

/// The settings in force at one version of them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// [`State::settings`](crate::db::State::settings) at which they were read.
    pub(crate) version: u64,
    pub(crate) created: i64,
    pub(crate) spec: BucketSpec,
}

impl Settings {
    /// When a row written at `now` with this time to live is due.
    pub(crate) fn due(&self, expires: Option<i64>, now: i64) -> Option<i64> {
        let aged = self.spec.max_age.map(|age| rows::later(now, age));
        [expires, aged].into_iter().flatten().min()
    }
}

/// Bytes at rest: see `docs/formats/local.md`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StoredSpec {
    history: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_value_bytes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

/// `spec` as it is stored.
pub(crate) fn to_json(spec: &BucketSpec) -> Result<String> {
    let age = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    let stored = StoredSpec {
        history: spec.history,
        max_age_ns: spec.max_age.map(age),
        max_bytes: spec.max_bytes,
        max_value_bytes: spec.max_value_bytes,
        description: spec.description.clone(),
        metadata: spec.metadata.clone(),
    };
    serde_json::to_string(&stored)
        .map_err(|error| Error::new(ErrorKind::Internal, "bucket.create").caused_by(error))
}

/// The inverse of [`to_json`].
pub(crate) fn from_json(text: &str) -> Result<BucketSpec> {
    let stored: StoredSpec = serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "bucket.open")
            .because("the bucket's settings cannot be read")
            .caused_by(error)
    })?;
    let mut spec = BucketSpec::default();
    spec.history = stored.history;
    spec.max_age = stored.max_age_ns.map(Duration::from_nanos);
    spec.max_bytes = stored.max_bytes;
    spec.max_value_bytes = stored.max_value_bytes;
    spec.description = stored.description;
    spec.metadata = stored.metadata;
    Ok(spec)
}

/// Checks `spec` and replaces wishes by what this store does: one copy, in files.
pub(crate) fn normalised(kind: BucketKind, spec: &BucketSpec) -> Result<BucketSpec> {
    if kind == BucketKind::Kv && !(1..=HISTORY_MAX).contains(&spec.history) {
        return Err(Error::new(ErrorKind::InvalidInput, "bucket.create")
            .because(format!("a bucket keeps 1 to {HISTORY_MAX} revisions of a key"))
            .with("history", spec.history));
    }
    let mut spec = spec.clone();
    if kind == BucketKind::Object {
        spec.history = 1;
    }
    spec.replicas = 1;
    spec.storage = Storage::File;
    spec.placement = None;
    spec.compression = false;
    Ok(spec)
}

/// The names of the settings in which two buckets differ.
pub(crate) fn differences(wanted: &BucketSpec, present: &BucketSpec) -> Vec<&'static str> {
    let fields = [
        ("history", wanted.history != present.history),
        ("max_age", wanted.max_age != present.max_age),
        ("max_bytes", wanted.max_bytes != present.max_bytes),
        ("max_value_bytes", wanted.max_value_bytes != present.max_value_bytes),
        ("description", wanted.description != present.description),
        ("metadata", wanted.metadata != present.metadata),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
