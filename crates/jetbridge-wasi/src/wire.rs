//! The types that cross into a guest, as the interfaces of each dialect spell them.

use bytes::Bytes;
use jetbridge_core::Entry;
use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use crate::bucket::Cas;
use crate::fault::Fault;
use crate::swap::version;

/// `error` of the two drafts: what has no case goes out as text.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
pub(crate) enum DraftError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Fault> for DraftError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSuchStore => Self::NoSuchStore,
            Fault::AccessDenied => Self::AccessDenied,
            Fault::PreconditionFailed => Self::Other("the key was written meanwhile".to_owned()),
            Fault::InvalidArgument(text)
            | Fault::Unavailable(text)
            | Fault::Quota(text)
            | Fault::Other(text) => Self::Other(text),
        }
    }
}

/// `types.error` of `wasmcloud:keyvalue`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "a variant's cases are fixed by its interface")]
pub(crate) enum CloudError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "precondition-failed")]
    PreconditionFailed,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "store-unavailable")]
    StoreUnavailable,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "other")]
    Other(String),
}

impl From<Fault> for CloudError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSuchStore => Self::NoSuchStore,
            Fault::AccessDenied => Self::AccessDenied,
            Fault::InvalidArgument(_) => Self::InvalidArgument,
            Fault::PreconditionFailed => Self::PreconditionFailed,
            Fault::Unavailable(_) => Self::StoreUnavailable,
            Fault::Quota(_) => Self::QuotaExceeded,
            Fault::Other(text) => Self::Other(text),
        }
    }
}

/// `key-response` of the first draft.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
pub(crate) struct NumberedKeys {
    pub(crate) keys: Vec<String>,
    pub(crate) cursor: Option<u64>,
}

/// `key-response` of every later dialect.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
pub(crate) struct KeyPage {
    pub(crate) keys: Vec<String>,
    pub(crate) cursor: Option<String>,
}

/// `cas-error` of the second draft.
#[derive(ComponentType, Lower)]
#[component(variant)]
pub(crate) enum CasError {
    #[component(name = "store-error")]
    StoreError(DraftError),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// `set-options` of `wasmcloud:keyvalue`.
#[derive(Clone, Copy, ComponentType, Debug, Lift)]
#[component(record)]
pub(crate) struct SetOptions {
    #[component(name = "ttl-ms")]
    pub(crate) ttl_ms: Option<u64>,
    #[component(name = "if-not-exists")]
    pub(crate) if_not_exists: bool,
}

/// `entry` of `wasmcloud:keyvalue/cas`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
pub(crate) struct CasEntry {
    pub(crate) value: Bytes,
    pub(crate) version: String,
}

impl From<Entry> for CasEntry {
    fn from(entry: Entry) -> Self {
        Self { version: version(entry.revision), value: entry.value }
    }
}

/// `cas-options` of `wasmcloud:keyvalue/cas`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(crate) struct CasOptions {
    #[component(name = "require-version")]
    pub(crate) require_version: Option<String>,
    #[component(name = "require-value")]
    pub(crate) require_value: Option<Bytes>,
}

/// `cas-result` of `wasmcloud:keyvalue/cas`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
pub(crate) enum CasResult {
    #[component(name = "swapped")]
    Swapped,
    #[component(name = "stale")]
    Stale(Option<CasEntry>),
}
