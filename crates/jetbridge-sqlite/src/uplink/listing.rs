//! What is in a bucket, listed once for all who ask at the same time.
//!
//! A store cannot be asked for the objects of one replica alone: to list them is to list the
//! bucket. When a process begins with a thousand replicas of one bucket, each needs a list that
//! was begun after its claim; one list serves all whose claims were there when it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::TryStreamExt as _;
use jetbridge_core::{ObjectInfo, Result, Scope};
use tokio::sync::Mutex;

use super::pulse::DIRECTORY;
use crate::store::{Manifest, Replica, is_file};

/// Lists of a bucket.
#[derive(Debug, Default)]
pub(super) struct Listings {
    /// How many were begun.
    begun: AtomicU64,
    /// Who asks now.
    asking: AtomicUsize,
    /// The last one, and how many were begun before it; kept while somebody asks.
    last: Mutex<Option<(u64, Arc<[ObjectInfo]>)>>,
}

impl Listings {
    /// The files of a replica, as of a list that was begun after this call.
    pub(super) async fn manifest(&self, replica: &Replica) -> Result<Manifest> {
        let objects = self.objects(replica).await?;
        let mut manifest = Manifest::default();
        for file in objects.iter().filter_map(|info| replica.file_of(info)) {
            manifest.insert(file);
        }
        Ok(manifest)
    }

    /// The files of all replicas, and what lies beside them, as of a list that was begun after
    /// this call. What else is in the bucket is not held.
    pub(super) async fn objects(&self, replica: &Replica) -> Result<Arc<[ObjectInfo]>> {
        let asks = Asks::new(&self.asking);
        let earliest = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let objects = match &*last {
            Some((begun, objects)) if *begun >= earliest => Arc::clone(objects),
            _ => {
                *last = None;
                let begun = self.begun.fetch_add(1, Ordering::SeqCst);
                let objects = list(replica).await?;
                *last = Some((begun, Arc::clone(&objects)));
                objects
            }
        };
        drop(asks);
        if self.asking.load(Ordering::SeqCst) == 0 {
            *last = None;
        }
        Ok(objects)
    }
}

async fn list(replica: &Replica) -> Result<Arc<[ObjectInfo]>> {
    let mut listing = replica.objects().list(Scope::All);
    let mut objects = Vec::new();
    while let Some(info) = replica.in_time("sqlite.list", listing.try_next()).await? {
        let name = info.name.as_str();
        if name.starts_with(DIRECTORY) || is_file(name) {
            objects.push(info);
        }
    }
    Ok(objects.into())
}

/// Counts for as long as it lives: a call may be given up.
struct Asks<'a>(&'a AtomicUsize);

impl<'a> Asks<'a> {
    fn new(asking: &'a AtomicUsize) -> Self {
        asking.fetch_add(1, Ordering::SeqCst);
        Self(asking)
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::future::{join, join_all};
    use jetbridge_core::{Backend as _, BucketName, BucketSpec, MemoryBackend, Objects, Open};

    use super::*;
    use crate::store::{Level, Put};
    use crate::{Txid, TxidRange};

    async fn put(replica: &Replica, txid: u64) {
        let (range, time) = (TxidRange::one(Txid(txid)).unwrap(), SystemTime::UNIX_EPOCH);
        let put = Put { level: Level::CAPTURED, range, time, base: None };
        replica.put(put, b"a file".as_slice().into()).await.unwrap();
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_a_list_and_each_sees_its_own() {
        let name = BucketName::parse("b").unwrap();
        let open = Open::ensure(BucketSpec::default());
        let bucket: Arc<dyn Objects> = MemoryBackend::new().objects(&name, open).await.unwrap();
        let replicas: Vec<_> = (1..=50)
            .map(|number| Replica::new(Arc::clone(&bucket), &format!("r{number}")))
            .collect();
        for (txid, replica) in (1..).zip(&replicas) {
            put(replica, txid).await;
        }
        let listings = Listings::default();
        // None is answered before all have asked.
        let held = listings.last.lock().await;
        let asking = join_all(replicas.iter().map(|it| listings.manifest(it)));
        let (all, ()) = join(asking, async {
            while listings.asking.load(Ordering::SeqCst) < replicas.len() {
                tokio::task::yield_now().await;
            }
            drop(held);
        })
        .await;
        for (txid, manifest) in (1..).zip(all) {
            let found: Vec<_> = manifest.unwrap().files().map(|it| it.range.max()).collect();
            assert_eq!(found, [Txid(txid)]);
        }
        assert!(listings.begun.load(Ordering::SeqCst) < 5);
        assert!(listings.last.lock().await.is_none(), "it is kept for nobody");
        // What was put before the call is in the list.
        put(&replicas[0], 2).await;
        assert_eq!(listings.manifest(&replicas[0]).await.unwrap().len(), 2);
    }
}
