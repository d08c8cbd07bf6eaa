//! When commits are durable: the server tells of each file of level 0, and the file holds the
//! page with the number of the newest commit in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jetbridge::sqlite::ltx::Decoder;
use jetbridge_core::{ObjectChange, ObjectInfo, Objects, ObjectsExt as _, Result, Scope, Start};

use super::database::number_in;
use crate::Outcome;

/// Files of level 0, where every commit goes.
const CAPTURED: &str = "ltx/0/";
/// Bytes of a file that is read for its number.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What arrives in a bucket.
pub(super) struct Arrivals {
    objects: Arc<dyn Objects>,
    changes: BoxStream<'static, Result<ObjectChange>>,
}

impl Arrivals {
    /// Looks from now on.
    pub(super) fn of(objects: &Arc<dyn Objects>) -> Self {
        let changes = objects.watch(Scope::prefix(CAPTURED), Start::Now);
        Self { objects: Arc::clone(objects), changes }
    }

    /// The next file, and when it was told of; `None` if none comes for `patience`.
    pub(super) async fn next(
        &mut self,
        patience: Duration,
    ) -> Outcome<Option<(Instant, ObjectInfo)>> {
        loop {
            match tokio::time::timeout(patience, self.changes.next()).await {
                Err(_elapsed) => return Ok(None),
                Ok(None) => return Err("the watch ended".into()),
                Ok(Some(change)) => {
                    if let ObjectChange::Put(info) = change? {
                        return Ok(Some((Instant::now(), info)));
                    }
                }
            }
        }
    }

    /// Waits for the next file.
    pub(super) async fn first(&mut self, patience: Duration) -> Outcome<Instant> {
        let arrived = self.next(patience).await?;
        Ok(arrived.ok_or("the replicator stores nothing")?.0)
    }

    /// The number of the newest commit in a file; `None` if it holds none, or is gone.
    pub(super) async fn number(&mut self, info: &ObjectInfo) -> Outcome<Option<u64>> {
        let Some(bytes) = self.objects.get_bytes(&info.name, FILE_BYTES_MAX).await? else {
            return Ok(None);
        };
        let mut decoder = Decoder::new(&bytes[..])?.partial();
        let mut page = vec![0; decoder.header().page_size.bytes()];
        let mut newest = None;
        while decoder.page(&mut page)?.is_some() {
            newest = newest.max(number_in(&page));
        }
        Ok(newest)
    }
}
