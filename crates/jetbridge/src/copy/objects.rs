//! Buckets of objects. The digest that the destination computes while it stores a body is what
//! the next pass compares with the source's.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::future::ready;
use jetbridge_core::{
    BucketInfo, ErrorKind, Expect, ObjectInfo, ObjectPut, Objects, Open, Result, Scope,
};

use super::age::{Clocks, Write, fields, is_copy_of, marked};
use super::report::{CopyReport, Settled, Step, Tally};
use super::{PASSES_MAX, Stores, into, out_of};

/// Objects under way at once: small ones wait for round trips, and large ones have a window of
/// their own each.
const OBJECTS: usize = 4;

pub(super) async fn copy(
    stores: &Stores,
    info: &BucketInfo,
    seen: &(dyn Fn(Step) + Send + Sync),
) -> Result<CopyReport> {
    let mut report = CopyReport::default();
    stores.ensure_bucket(info, &mut report).await?;
    let objects = Copier {
        stores,
        source: stores.from.objects(&info.name, Open::existing()).await.map_err(out_of)?,
        target: stores.to.objects(&info.name, Open::existing()).await.map_err(into)?,
        seen,
    };
    for pass in 0..PASSES_MAX {
        let is_first = pass == 0;
        report.add(objects.pass(is_first).await?);
        if report.verified {
            break;
        }
    }
    if info.sealed && report.is_complete() {
        objects.target.seal().await.map_err(into)?;
    }
    Ok(report)
}

struct Copier<'a> {
    stores: &'a Stores,
    source: Arc<dyn Objects>,
    target: Arc<dyn Objects>,
    seen: &'a (dyn Fn(Step) + Send + Sync),
}

impl Copier<'_> {
    async fn pass(&self, is_first: bool) -> Result<Tally> {
        let clocks = Clocks::of(self.stores).await?;
        let listed = self.source.list(Scope::All).map_err(out_of);
        listed
            .map_ok(|info| self.one(info, clocks, is_first))
            .try_buffer_unordered(OBJECTS)
            .try_fold(Tally::default(), |mut tally, settled| {
                tally.count(settled);
                ready(Ok(tally))
            })
            .await
    }

    async fn one(&self, info: ObjectInfo, clocks: Clocks, is_first: bool) -> Result<Settled> {
        let there = self.target.info(&info.name).await.map_err(into)?;
        let settled = match &there {
            Some(there) if is_same(&info, there, clocks) => Ok(Settled::Unchanged),
            Some(there) if clocks.is_kept(write(there), write(&info)) => {
                Ok(Settled::Kept(info.name.to_string()))
            }
            _ => {
                let expect = there.map_or(Expect::Absent, |it| Expect::Exactly(it.revision));
                self.write(&info, expect, is_first).await
            }
        };
        match settled {
            // Somebody replaced it, here or there: the next pass looks again.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Settled::Moved),
            Ok(settled) if is_first => {
                let told = matches!(settled, Settled::Copied(_)) && info.link.is_none();
                let bytes = if told { 0 } else { info.size };
                (self.seen)(Step { items: 1, bytes });
                Ok(settled)
            }
            settled => settled,
        }
    }

    async fn write(&self, info: &ObjectInfo, expect: Expect, tell: bool) -> Result<Settled> {
        if let Some(link) = &info.link {
            self.target.link(&info.name, link.clone()).await.map_err(into)?;
            return Ok(Settled::Copied(0));
        }
        let Some(object) = self.source.get(&info.name, None).await.map_err(out_of)? else {
            return Ok(Settled::Moved);
        };
        let headers = marked(&object.info.headers, object.info.revision)?;
        let mut opts = ObjectPut::new().expect(expect).headers(headers);
        opts.description.clone_from(&object.info.description);
        // The body of a put outlives the borrow of `seen`, so its size is told when it is stored.
        let stored = self.target.put(&info.name, object.body, opts).await.map_err(into)?;
        if tell {
            (self.seen)(Step::bytes(usize::try_from(stored.size).unwrap_or(usize::MAX)));
        }
        Ok(Settled::Copied(stored.size))
    }
}

fn write(info: &ObjectInfo) -> Write {
    Write::new(info.modified, &info.headers)
}

/// Equal but for what no copy can carry over: revision, time and chunks. Where a foreign writer
/// left no digest, the size and the order of the writes decide.
fn is_same(source: &ObjectInfo, target: &ObjectInfo, clocks: Clocks) -> bool {
    let body = match (source.digest, target.digest) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ if source.link.is_some() || is_copy_of(&target.headers, source.revision) => true,
        _ => clocks.is_kept(write(target), write(source)),
    };
    body && source.size == target.size
        && source.link == target.link
        && fields(&source.headers) == fields(&target.headers)
        && source.description == target.description
}
