//! JetStream's JSON, as far as this crate reads or writes it.
//!
//! Fields that are left out are the server's defaults. What a configuration holds beyond these
//! fields is kept, so that changing one thing of a stream changes nothing else. Durations are
//! nanoseconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn unlimited() -> i64 {
    -1
}

/// A stream's configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct StreamConfig {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) subjects: Vec<String>,
    #[serde(default)]
    pub(crate) retention: Retention,
    #[serde(default = "unlimited")]
    pub(crate) max_consumers: i64,
    #[serde(default = "unlimited")]
    pub(crate) max_msgs: i64,
    #[serde(default = "unlimited")]
    pub(crate) max_bytes: i64,
    #[serde(default)]
    pub(crate) max_age: u64,
    #[serde(default = "unlimited")]
    pub(crate) max_msgs_per_subject: i64,
    #[serde(default = "unlimited")]
    pub(crate) max_msg_size: i64,
    #[serde(default)]
    pub(crate) discard: Discard,
    #[serde(default)]
    pub(crate) storage: Storage,
    #[serde(default)]
    pub(crate) num_replicas: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) duplicate_window: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<Placement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) sources: Vec<Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) sealed: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) deny_delete: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) allow_rollup_hdrs: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) allow_direct: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) mirror_direct: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) allow_msg_ttl: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) subject_delete_marker_ttl: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) allow_msg_counter: bool,
    /// What else the server has.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

impl StreamConfig {
    /// A stream of `subjects` with the server's defaults.
    pub(crate) fn new(name: impl Into<String>, subjects: Vec<String>) -> Self {
        Self {
            name: name.into(),
            description: None,
            subjects,
            retention: Retention::Limits,
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_age: 0,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            discard: Discard::Old,
            storage: Storage::File,
            num_replicas: 1,
            duplicate_window: 0,
            placement: None,
            mirror: None,
            sources: Vec::new(),
            sealed: false,
            deny_delete: false,
            allow_rollup_hdrs: false,
            allow_direct: false,
            mirror_direct: false,
            compression: None,
            metadata: BTreeMap::new(),
            allow_msg_ttl: false,
            subject_delete_marker_ttl: 0,
            allow_msg_counter: false,
            rest: Map::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Retention {
    #[default]
    Limits,
    Interest,
    WorkQueue,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Discard {
    #[default]
    Old,
    New,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Storage {
    #[default]
    File,
    Memory,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Placement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) tags: Vec<String>,
}

/// A stream.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: StreamConfig,
    #[serde(default)]
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) state: StreamState,
    #[serde(default)]
    pub(crate) cluster: Option<ClusterInfo>,
    /// This stream and its mirrors; absent if there are none.
    #[serde(default)]
    pub(crate) alternates: Option<Vec<Value>>,
    /// The server's time of the answer; since 2.10.
    #[serde(default)]
    pub(crate) ts: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct StreamState {
    #[serde(default)]
    pub(crate) messages: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    #[serde(default)]
    pub(crate) first_seq: u64,
    #[serde(default)]
    pub(crate) last_seq: u64,
    /// When the last message was written.
    #[serde(default)]
    pub(crate) last_ts: String,
    #[serde(default)]
    pub(crate) consumer_count: u64,
}

/// Who keeps a stream's copies.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ClusterInfo {
    /// The cluster; absent for a server that is none.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// A consumer's configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct ConsumerConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) durable_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deliver_subject: Option<String>,
    #[serde(default)]
    pub(crate) deliver_policy: DeliverPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) opt_start_seq: u64,
    #[serde(default)]
    pub(crate) ack_policy: AckPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ack_wait: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) max_deliver: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) max_ack_pending: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter_subject: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) filter_subjects: Vec<String>,
    #[serde(default)]
    pub(crate) replay_policy: ReplayPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) flow_control: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) idle_heartbeat: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) headers_only: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) inactive_threshold: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) num_replicas: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) mem_storage: bool,
    /// What else others have set.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliverPolicy {
    #[default]
    All,
    Last,
    New,
    ByStartSequence,
    ByStartTime,
    LastPerSubject,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckPolicy {
    #[default]
    None,
    All,
    Explicit,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplayPolicy {
    #[default]
    Instant,
    Original,
}

/// A consumer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConsumerInfo {
    #[serde(default)]
    pub(crate) created: String,
    pub(crate) config: ConsumerConfig,
    #[serde(default)]
    pub(crate) num_pending: u64,
    #[serde(default)]
    pub(crate) delivered: DeliveredState,
    #[serde(default)]
    pub(crate) cluster: Option<ClusterInfo>,
}

/// How far a consumer has come.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct DeliveredState {
    /// How many messages it has delivered.
    #[serde(default)]
    pub(crate) consumer_seq: u64,
    /// The last sequence it has passed in the stream.
    #[serde(default)]
    pub(crate) stream_seq: u64,
}

/// Every answer of the API: an error, or what was asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) error: Option<ApiError>,
}

/// The answer to a message that a stream took.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PubAck {
    #[serde(default)]
    pub(crate) error: Option<ApiError>,
    #[serde(default)]
    pub(crate) stream: String,
    #[serde(default)]
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) duplicate: bool,
    /// The sum, of a message that counts.
    #[serde(default)]
    pub(crate) val: Option<String>,
}

/// What an account may use and uses.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AccountInfo {
    #[serde(default)]
    pub(crate) memory: u64,
    #[serde(default)]
    pub(crate) storage: u64,
    #[serde(default)]
    pub(crate) streams: u64,
    #[serde(default)]
    pub(crate) consumers: u64,
    #[serde(default)]
    pub(crate) limits: AccountLimits,
    #[serde(default)]
    pub(crate) api: ApiStats,
    #[serde(default)]
    pub(crate) domain: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AccountLimits {
    #[serde(default)]
    pub(crate) max_memory: i64,
    #[serde(default)]
    pub(crate) max_storage: i64,
    #[serde(default)]
    pub(crate) max_streams: i64,
    #[serde(default)]
    pub(crate) max_consumers: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ApiStats {
    /// The API's level; absent before 2.11.
    #[serde(default)]
    pub(crate) level: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_configuration_is_kept() {
        let text =
            r#"{"name":"S","subjects":["a"],"retention":"workqueue","republish":{"src":">"}}"#;
        let config: StreamConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.retention, Retention::WorkQueue);
        let back = serde_json::to_value(&config).unwrap();
        assert_eq!(back["republish"]["src"], ">");
    }
}
