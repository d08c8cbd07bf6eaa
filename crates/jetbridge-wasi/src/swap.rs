//! Compare-and-set without a handle, as `wasmcloud:keyvalue/cas` has it: the call carries its
//! conditions, and is answered with what is there now if they do not hold.

use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{Backoff, Entry, ErrorKind, Key, PutOpts, Revision};
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::fault::{Answer, Fault};

/// How long a swap on a value alone competes with writers that leave the value as it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// What must hold for a swap.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) version: Option<String>,
    pub(crate) value: Option<Bytes>,
}

impl Conditions {
    fn hold(&self, entry: &Entry) -> bool {
        let version = self.version.as_ref().is_none_or(|it| *it == version(entry.revision));
        version && self.value.as_ref().is_none_or(|it| *it == entry.value)
    }
}

/// A revision as guests see it.
pub(crate) fn version(revision: Revision) -> String {
    revision.to_string()
}

impl Bucket {
    /// Writes if all of `conditions` hold; else says what is there, and has written nothing.
    pub(crate) async fn swap(
        &self,
        key: &str,
        value: Bytes,
        conditions: Conditions,
    ) -> Answer<Result<(), Option<Entry>>> {
        let key = Key::parse(key)?;
        if conditions.version.is_none() && conditions.value.is_none() {
            return Err(Fault::InvalidArgument("a swap needs a condition".to_owned()));
        }
        let deadline = Instant::now() + DEADLINE;
        let mut backoff = Backoff::contention();
        loop {
            let present = self.fresh(&key).await?;
            let revision = match &present {
                Some(entry) if conditions.hold(entry) => entry.revision,
                _ => return Ok(Err(present)),
            };
            match self.kv()?.put(&key, value.clone(), PutOpts::over(revision)).await {
                Err(lost) if lost.kind() == ErrorKind::Conflict && Instant::now() < deadline => {
                    backoff.wait().await;
                }
                written => return self.settle(written).await.map(|_written| Ok(())),
            }
        }
    }
}
