//! From what the server and `async_nats` say to [`Error`]: one table, used by every module.
//!
//! The server names its refusals by an `err_code`, which is stable over versions, or by a status;
//! its words are kept as the message. Nothing else in this crate decides an [`ErrorKind`] from a
//! reply.

use serde::Deserialize;

use jetbridge_core::{Error, ErrorKind};

/// The `error` object of a JetStream reply.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ApiError {
    /// Like an HTTP status.
    #[serde(default)]
    pub(crate) code: u16,
    /// Which refusal it is.
    #[serde(default)]
    pub(crate) err_code: u32,
    /// The server's words.
    #[serde(default)]
    pub(crate) description: String,
}

/// The refusals that code branches on.
pub(crate) mod code {
    pub(crate) const CONSUMER_NOT_FOUND: u32 = 10014;
    pub(crate) const MESSAGE_NOT_FOUND: u32 = 10037;
    pub(crate) const STREAM_NAME_IN_USE: u32 = 10058;
    pub(crate) const STREAM_NOT_FOUND: u32 = 10059;
    pub(crate) const WRONG_LAST_SEQUENCE: u32 = 10071;
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10164;
    pub(crate) const TTL_DISABLED: u32 = 10166;
    /// As an error's fact: there is no room.
    pub(crate) const STORE_REFUSED: &str = "10077";
}

/// What each refusal means for the caller, in ascending order of codes.
const TABLE: &[(u32, ErrorKind)] = &[
    (10002, ErrorKind::LimitExceeded), // account resources
    (10003, ErrorKind::InvalidInput),
    (10005, ErrorKind::LimitExceeded), // no peers that could take the copies
    (10008, ErrorKind::Unavailable),   // no cluster leader
    (10013, ErrorKind::AlreadyExists), // consumer name in use
    (10014, ErrorKind::NotFound),      // consumer
    (10023, ErrorKind::LimitExceeded), // resources
    (10025, ErrorKind::Unsupported),   // a field this server does not know
    (10026, ErrorKind::LimitExceeded), // consumers
    (10027, ErrorKind::LimitExceeded), // streams
    (10028, ErrorKind::LimitExceeded), // memory
    (10037, ErrorKind::NotFound),      // message
    (10039, ErrorKind::Unsupported),   // JetStream is off for the account
    (10043, ErrorKind::NotFound),      // sequence
    (10047, ErrorKind::LimitExceeded), // storage
    (10052, ErrorKind::InvalidInput),  // stream configuration
    (10053, ErrorKind::LimitExceeded), // stream limits
    (10054, ErrorKind::LimitExceeded), // message size
    (10058, ErrorKind::AlreadyExists), // stream
    (10059, ErrorKind::NotFound),      // stream
    (10060, ErrorKind::Conflict),      // another stream keeps the subject
    (10065, ErrorKind::AlreadyExists), // subjects overlap
    (10070, ErrorKind::Conflict),      // last message id
    (10071, ErrorKind::Conflict),      // last sequence
    (10074, ErrorKind::Unsupported),   // copies on a server without a cluster
    (10076, ErrorKind::Unsupported),   // JetStream is off
    (10077, ErrorKind::LimitExceeded), // the store refused: bytes or messages
    (10097, ErrorKind::LimitExceeded), // header size
    (10105, ErrorKind::AlreadyExists), // consumer in use
    (10109, ErrorKind::InvalidInput),  // sealed
    (10113, ErrorKind::InvalidInput),  // the account wants max_bytes
    (10118, ErrorKind::Unavailable),   // stream offline
    (10119, ErrorKind::Unavailable),   // consumer offline
    (10122, ErrorKind::LimitExceeded), // stream bytes
    (10148, ErrorKind::AlreadyExists), // consumer
    (10149, ErrorKind::NotFound),      // consumer
    (10163, ErrorKind::Unavailable),   // sequence by subject not ready
    (10164, ErrorKind::Conflict),      // last sequence
    (10165, ErrorKind::InvalidInput),  // TTL
    (10166, ErrorKind::Unsupported),   // TTL is off
    (10167, ErrorKind::Unavailable),   // too many requests
    (10168, ErrorKind::Unsupported),   // counters are off
    (10174, ErrorKind::Unsupported),   // atomic batches are off
    (10185, ErrorKind::Unsupported),   // API level
    (10194, ErrorKind::Unavailable),   // stream offline
    (10195, ErrorKind::Unavailable),   // consumer offline
];

impl ApiError {
    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        if let Ok(found) = TABLE.binary_search_by_key(&self.err_code, |(code, _)| *code) {
            return TABLE[found].1;
        }
        match self.code {
            400 => ErrorKind::InvalidInput,
            403 => ErrorKind::PermissionDenied,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            412 => ErrorKind::Unsupported,
            413 => ErrorKind::LimitExceeded,
            408 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }

    /// The error of `operation` that this refusal is: the server has answered, so nothing was
    /// applied.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let error = Error::new(self.kind(), operation)
            .because(self.description)
            .with("err_code", self.err_code);
        match hint(self.err_code) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// True if an optimistic write lost.
    pub(crate) fn is_wrong_last_sequence(&self) -> bool {
        matches!(self.err_code, code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_CONSTANT)
    }

    /// The sequence that [`code::WRONG_LAST_SEQUENCE`] names in its words.
    pub(crate) fn present_sequence(&self) -> Option<u64> {
        if self.err_code != code::WRONG_LAST_SEQUENCE {
            return None;
        }
        self.description.rsplit(' ').next()?.parse().ok()
    }
}

fn hint(err_code: u32) -> Option<&'static str> {
    Some(match err_code {
        10002 | 10028 | 10047 => "raise the account's JetStream limits, or free space",
        10023 => {
            "the server's store is full: free space, or raise `max_file_store`, `max_memory_store`"
        }
        10005 | 10074 => "ask for fewer replicas, or run a cluster that can place them",
        10026 => "raise `max_consumers`; fewer watches on one bucket help too",
        10039 | 10076 => "enable JetStream: `jetstream {}` in the server's configuration",
        10077 => "raise the bucket's limit, or delete what is not needed",
        10113 => "set `max_bytes`: the account demands it",
        10166 => "recreate the bucket, so that it allows TTLs",
        _ => return None,
    })
}

/// A connection that is gone, or an answer that never came, for a request that may have left.
pub(crate) fn lost(operation: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(why).outcome_unknown()
}

/// As [`lost`], for a request that surely has not left.
pub(crate) fn not_sent(operation: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(why)
}

/// A reply that is not what the protocol says.
pub(crate) fn malformed(
    operation: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Internal, operation)
        .because("the server's answer is not what the protocol says")
        .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_lost_race_names_the_present_sequence() {
        let refused = ApiError {
            code: 400,
            err_code: 10071,
            description: "wrong last sequence: 17".to_owned(),
        };
        assert_eq!(refused.present_sequence(), Some(17));
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }

    #[test]
    fn an_unknown_code_falls_back_to_its_status() {
        let refused = ApiError { code: 503, err_code: 19999, description: String::new() };
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
}
