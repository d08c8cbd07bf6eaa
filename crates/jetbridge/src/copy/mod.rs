//! Moves what one store keeps into another: buckets of keys and of objects, streams, counters.
//! It is the way out of one machine, and back.
//!
//! A copy goes over everything again until there is nothing left to do: that is how it resumes
//! what was cut short, how it catches up with a source that is still written to, and how it knows
//! in the end that both hold the same. Nothing is deleted, except keys that the source says were
//! deleted; what is newer in the destination stays there, and is reported.
//!
//! Knows the seam only: which kinds of store these are makes no difference.

mod age;
mod counters;
mod keys;
mod objects;
mod report;
mod stream;

use std::sync::Arc;

use jetbridge_core::{
    Backend, BucketInfo, BucketKind, BucketName, Error, ErrorKind, Result, StreamInfo, StreamName,
};

pub use self::report::{CopyReport, KEPT_NAMES_MAX, Step};
use self::stream::PROGRESS_BUCKET;

/// Goes over a part that is still written to at most so often: once to copy, once to see that
/// nothing is left, and twice more for what was written meanwhile.
const PASSES_MAX: u32 = 4;

/// A copy of one store into another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// use jetbridge::Copy;
/// use jetbridge::core::{BucketName, BucketSpec, Key, Open, PutOpts, Read};
///
/// let (old, new) = (jetbridge::connect("memory:").await?, jetbridge::connect("memory:").await?);
/// let (bucket, key) = (BucketName::parse("config")?, Key::parse("app.port")?);
/// let config = old.kv(&bucket, Open::ensure(BucketSpec::default())).await?;
/// config.put(&key, "8080".into(), PutOpts::new()).await?;
///
/// let copy = Copy::new(old, new.clone());
/// for part in copy.parts().await? {
///     let report = copy.run(&part, &|_step| {}).await?;
///     assert!((report.copied, report.is_complete()) == (1, true));
/// }
/// let config = new.kv(&bucket, Open::existing()).await?;
/// assert_eq!(config.get(&key, Read::Fresh).await?.unwrap().value, "8080");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Copy {
    stores: Stores,
    selection: Selection,
}

/// What is to be copied.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Selection {
    /// Only these buckets, of either kind, and [`Selection::streams`]; everything if both are
    /// empty.
    pub buckets: Vec<BucketName>,
    /// Only these streams, and [`Selection::buckets`].
    pub streams: Vec<StreamName>,
    /// Buckets of keys whose numbers become a bucket of counters of the destination.
    pub counters: Vec<BucketName>,
}

/// The two stores.
#[derive(Clone, Debug)]
struct Stores {
    from: Arc<dyn Backend>,
    to: Arc<dyn Backend>,
}

/// One bucket or stream to be copied.
#[derive(Clone, Debug)]
pub struct Part(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Counters(BucketInfo),
    Keys(BucketInfo),
    Objects(BucketInfo),
    Stream(StreamInfo),
}

impl Part {
    /// `counters`, `kv`, `object` or `stream`.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Kind::Counters(_) => "counters",
            Kind::Keys(_) => "kv",
            Kind::Objects(_) => "object",
            Kind::Stream(_) => "stream",
        }
    }

    /// The bucket's or stream's name.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Counters(info) | Kind::Keys(info) | Kind::Objects(info) => info.name.as_str(),
            Kind::Stream(info) => info.spec.name.as_str(),
        }
    }

    /// Messages the source keeps for it: about the number of keys or messages; for objects, chunks
    /// are counted too.
    pub fn messages(&self) -> u64 {
        match &self.0 {
            Kind::Counters(info) | Kind::Keys(info) | Kind::Objects(info) => info.messages,
            Kind::Stream(info) => info.messages,
        }
    }

    /// Bytes the source keeps for it.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::Counters(info) | Kind::Keys(info) | Kind::Objects(info) => info.bytes,
            Kind::Stream(info) => info.bytes,
        }
    }
}

impl Copy {
    /// A copy of everything in `from` into `to`.
    pub fn new(from: Arc<dyn Backend>, to: Arc<dyn Backend>) -> Self {
        Self { stores: Stores { from, to }, selection: Selection::default() }
    }

    /// Copies only what `selection` names.
    #[must_use]
    pub fn only(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// What there is to copy, in the order in which it is best copied: keys, counters, objects,
    /// streams. A name that the source does not have is [`NotFound`](ErrorKind::NotFound).
    pub async fn parts(&self) -> Result<Vec<Part>> {
        let from = &self.stores.from;
        let keys = from.buckets(BucketKind::Kv).await?;
        let objects = from.buckets(BucketKind::Object).await?;
        let streams = from.bus().streams().await?;
        let mut parts = Vec::new();
        for info in keys.into_iter().filter(|info| info.name.as_str() != PROGRESS_BUCKET) {
            if self.selection.counters.contains(&info.name) {
                parts.push(Part(Kind::Counters(info)));
            } else if self.selection.has_bucket(&info.name) {
                parts.push(Part(Kind::Keys(info)));
            }
        }
        let chosen = objects.into_iter().filter(|info| self.selection.has_bucket(&info.name));
        parts.extend(chosen.map(|info| Part(Kind::Objects(info))));
        let chosen = streams.into_iter().filter(|info| self.selection.has_stream(&info.spec.name));
        parts.extend(chosen.map(|info| Part(Kind::Stream(info))));
        self.selection.check(&parts)?;
        Ok(parts)
    }

    /// Copies one part, and tells `seen` how far it is. Dropped in the middle, or ended by an
    /// error, it goes on where it was when it is run again.
    pub async fn run(
        &self,
        part: &Part,
        seen: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<CopyReport> {
        match &part.0 {
            Kind::Counters(info) => counters::copy(&self.stores, info, seen).await,
            Kind::Keys(info) => keys::copy(&self.stores, info, seen).await,
            Kind::Objects(info) => objects::copy(&self.stores, info, seen).await,
            Kind::Stream(info) => stream::copy(&self.stores, info, seen).await,
        }
    }
}

impl Selection {
    fn is_everything(&self) -> bool {
        self.buckets.is_empty() && self.streams.is_empty()
    }

    fn has_bucket(&self, name: &BucketName) -> bool {
        self.is_everything() || self.buckets.contains(name)
    }

    fn has_stream(&self, name: &StreamName) -> bool {
        self.is_everything() || self.streams.contains(name)
    }

    /// Refuses names that no part has: a typing error must not look like a finished copy.
    fn check(&self, parts: &[Part]) -> Result<()> {
        let absent = |what: &'static str, name: &str| {
            Err(Error::new(ErrorKind::NotFound, "copy.plan")
                .because("the source has nothing of that name")
                .with(what, name)
                .hint("look at what it has: `jetbridge --store SOURCE status`"))
        };
        for name in self.buckets.iter().chain(&self.counters) {
            if !parts.iter().any(|part| part.kind() != "stream" && part.name() == name.as_str()) {
                return absent("bucket", name.as_str());
            }
        }
        for name in &self.streams {
            if !parts.iter().any(|part| part.kind() == "stream" && part.name() == name.as_str()) {
                return absent("stream", name.as_str());
            }
        }
        Ok(())
    }
}

impl Stores {
    /// Makes `info`'s bucket in the destination if it is missing. One that is there is left as it
    /// is, and told apart in `report`. Says whether it is empty.
    async fn ensure_bucket(&self, info: &BucketInfo, report: &mut CopyReport) -> Result<bool> {
        let present = match self.to.bucket(info.kind, &info.name).await {
            Ok(present) => present,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.to.create_bucket(info.kind, &info.name, &info.spec).await.map_err(into)?
            }
            Err(error) => return Err(into(error)),
        };
        let (ours, theirs) = (&info.spec, &present.spec);
        let mut differs = |what: &str, differs: bool| {
            if differs {
                report.remark(format!("the destination's bucket has another {what}; it was left"));
            }
        };
        differs("history", ours.history != theirs.history);
        differs("max_age", ours.max_age != theirs.max_age);
        differs("max_bytes", ours.max_bytes != theirs.max_bytes);
        differs("max_value_bytes", ours.max_value_bytes != theirs.max_value_bytes);
        if theirs.replicas < ours.replicas {
            report.remark(format!(
                "the destination keeps {} of {} copies",
                theirs.replicas, ours.replicas
            ));
        }
        Ok(present.messages == 0)
    }
}

/// Says that an error is the source's.
fn out_of(error: Error) -> Error {
    error.with("side", "source")
}

/// Says that an error is the destination's.
fn into(error: Error) -> Error {
    error.with("side", "destination")
}
