//! Many keys in one call: positional, not atomic, and never a failure reported as success.

use std::collections::HashMap;
use std::future::Future;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{Key, PutOpts};

use crate::bucket::Bucket;
use crate::fault::{Answer, Fault};

/// Writes, or reads of counters, under way at once: enough to fill a connection, few enough to leave it to others.
const WRITES_MAX: usize = 64;
/// Keys read at once at most, and to begin with: what a call holds in memory before the limit on
/// its result is looked at depends on how large values are, which only reading some tells.
const READS_MAX: usize = 512;
const READS_FIRST: usize = 16;

impl Bucket {
    /// The values of `keys`: each answer is at the place of its key.
    pub(crate) async fn get_many(&self, keys: Vec<String>) -> Answer<Vec<(String, Option<Bytes>)>> {
        let parsed = keys.iter().map(Key::parse).collect::<Result<Vec<_>, _>>()?;
        if let Some(counters) = self.counters()? {
            let mut reads = Vec::with_capacity(parsed.len());
            for key in &parsed {
                reads.push(self.counter(counters, key));
            }
            let reads = stream::iter(reads).buffered(WRITES_MAX);
            let values: Vec<_> = reads.try_collect().await?;
            return Ok(keys.into_iter().zip(values).collect());
        }
        let mut values = Vec::with_capacity(keys.len());
        let (mut bytes, mut largest, mut rest) = (0, 1, parsed.as_slice());
        let mut reads = READS_FIRST;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(reads.min(rest.len()));
            let snapshot = self.kv()?.get_many(part, self.consistency()).await;
            for entry in self.settle(snapshot).await?.entries {
                let value = entry.map(|entry| entry.value);
                let length = value.as_ref().map_or(0, Bytes::len);
                (bytes, largest) = (bytes + length, largest.max(length));
                values.push(value);
            }
            self.check_bytes(bytes)?;
            reads = reads_next(self.bytes_max() - bytes, largest);
            rest = behind;
        }
        if values.len() != keys.len() {
            let (keys, values) = (keys.len(), values.len());
            return Err(Fault::Other(format!("the store answered {values} of {keys} keys")));
        }
        Ok(keys.into_iter().zip(values).collect())
    }

    /// Writes all pairs; of pairs with one key the last one counts. Every write is attempted.
    pub(crate) async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Answer<()> {
        let mut last = HashMap::with_capacity(pairs.len());
        for (key, value) in pairs {
            last.insert(Key::parse(key)?, value);
        }
        let writes = last.into_iter().map(|(key, value)| async move {
            let written = self.kv()?.put(&key, value, PutOpts::new()).await;
            self.settle(written).await.map(drop)
        });
        all("set", writes).await
    }

    /// Deletes all keys, and skips those that are not there. Every deletion is attempted.
    pub(crate) async fn delete_many(&self, keys: Vec<String>) -> Answer<()> {
        let keys = keys.into_iter().map(Key::parse).collect::<Result<Vec<_>, _>>()?;
        all("deleted", keys.into_iter().map(|key| async move { self.remove(&key).await })).await
    }
}

/// How many keys to read next, of values as large as the largest so far, to stay in what is left.
fn reads_next(bytes_left: usize, largest: usize) -> usize {
    (bytes_left / largest.max(1)).clamp(1, READS_MAX)
}

/// Does them all, however many fail; the first failure says how many did.
async fn all<F>(what: &str, writes: impl ExactSizeIterator<Item = F>) -> Answer<()>
where
    F: Future<Output = Answer<()>>,
{
    let total = writes.len();
    let results: Vec<_> = stream::iter(writes).buffer_unordered(WRITES_MAX).collect().await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    let Some(first) = results.into_iter().find_map(Result::err) else { return Ok(()) };
    let told = |text: String| format!("{} of {total} keys were {what}: {text}", total - failed);
    Err(match first {
        Fault::InvalidArgument(text) => Fault::InvalidArgument(told(text)),
        Fault::Unavailable(text) => Fault::Unavailable(told(text)),
        Fault::Quota(text) => Fault::Quota(told(text)),
        Fault::Other(text) => Fault::Other(told(text)),
        fault @ (Fault::NoSuchStore | Fault::AccessDenied | Fault::PreconditionFailed) => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_are_read_few_at_once() {
        const MIB: usize = 1 << 20;
        assert_eq!(reads_next(64 * MIB, 100), READS_MAX);
        assert_eq!(reads_next(48 * MIB, MIB), 48);
        assert_eq!(reads_next(MIB / 2, MIB), 1, "the limit is met by reading one more");
        assert_eq!(reads_next(MIB, 0), READS_MAX);
    }
}
