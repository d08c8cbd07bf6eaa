//! `expire` and `ttl`.

use std::time::{Duration, SystemTime};

use jetbridge_core::{BucketKind, Entry, ErrorKind, Kv, PutOpts, Read, Result, Written};
use tokio::time::Instant;

use super::Words;
use crate::args::kv::{Expire, OneKey};
use crate::format;
use crate::report::Status;
use crate::view::entry::{TtlView, WrittenView};

impl Words<'_> {
    pub(super) async fn expire(&self, args: Expire) -> Result<Status> {
        let (bucket, key) = (&args.at.bucket, &args.at.key);
        let kv = self.open(bucket).await?;
        let deadline = Instant::now() + self.on.timeout;
        loop {
            let Some(entry) = kv.get(key, Read::Fresh).await? else {
                return Ok(self.absent(bucket, key));
            };
            match rewrite(&*kv, entry, args.after.0).await {
                // Somebody wrote in between: their value is the one that expires.
                Err(lost) if lost.kind() == ErrorKind::Conflict && Instant::now() < deadline => {}
                settled => {
                    self.on.printer.value(&WrittenView::of(bucket, key, settled?))?;
                    return Ok(Status::Done);
                }
            }
        }
    }

    pub(super) async fn ttl(&self, args: OneKey) -> Result<Status> {
        let (bucket, key) = (&args.bucket, &args.key);
        let kv = self.open(bucket).await?;
        let Some(entry) = kv.get(key, Read::Fresh).await? else {
            return Ok(self.absent(bucket, key));
        };
        let max_age = self.on.store.bucket(BucketKind::Kv, bucket).await?.spec.max_age;
        let expires = ends(&entry, max_age);
        let now = self.on.store.now().await?.now;
        let left = expires.map(|at| at.duration_since(now).unwrap_or_default());
        self.on.printer.value(&TtlView {
            bucket: bucket.to_string(),
            key: key.to_string(),
            ttl_ms: left.map(format::millis),
            expires: expires.map(format::exact_time),
            text: left.map_or_else(|| "never".to_owned(), |left| format::span(to_millis(left))),
        })?;
        Ok(Status::Done)
    }
}

async fn rewrite(kv: &dyn Kv, entry: Entry, ttl: Option<Duration>) -> Result<Written> {
    let mut opts = PutOpts::over(entry.revision).headers(entry.headers);
    opts.ttl = ttl;
    kv.put(&entry.key, entry.value, opts).await
}

/// When a value goes: by its own TTL or by its bucket's, whichever is first.
fn ends(entry: &Entry, max_age: Option<Duration>) -> Option<SystemTime> {
    let by_age = max_age.and_then(|age| entry.written.checked_add(age));
    entry.expires.into_iter().chain(by_age).min()
}

/// The estimate of the store's time is no better than this.
fn to_millis(span: Duration) -> Duration {
    Duration::from_millis(format::millis(span))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jetbridge_core::{Key, Revision};

    use super::*;

    #[test]
    fn the_first_of_two_ends_counts() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let key = Key::parse("k").unwrap();
        let mut entry = Entry::new(key, Bytes::new(), Revision(1), at(100));
        assert_eq!(ends(&entry, None), None);
        assert_eq!(ends(&entry, Some(Duration::from_secs(50))), Some(at(150)));
        entry.expires = Some(at(120));
        assert_eq!(ends(&entry, None), Some(at(120)));
        assert_eq!(ends(&entry, Some(Duration::from_secs(50))), Some(at(120)));
        assert_eq!(ends(&entry, Some(Duration::from_secs(10))), Some(at(110)));
    }
}
