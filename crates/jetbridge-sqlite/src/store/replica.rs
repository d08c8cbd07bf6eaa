//! The objects of one replica.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    Body, DeleteOpts, Digest, Error, ErrorKind, Expect, Headers, ObjectInfo, ObjectName, ObjectPut,
    Objects, Outcome, Result, Scope,
};
use tokio::time::timeout;

use super::fetch::{Fetch, Patience};
use super::level::Level;
use super::manifest::{LtxFile, Manifest};
use crate::TxidRange;

/// The header of an object that says when its last transaction was captured: RFC 3339.
pub const TIMESTAMP_HEADER: &str = "Litestream-Timestamp";
/// The header of a part of a base: the transactions that carry its parts, `<first>-<last>`.
pub const BASE_HEADER: &str = "Jetbridge-Base";
/// How long the store may be silent before a request is given up and made again. Litestream has
/// no limit here, and a server that was frozen leaves it stuck for ever.
const STALL: Duration = Duration::from_secs(30);
/// Bytes that are handed to the store at once: at 5 KB/s they are gone before it seems silent.
const PIECE_BYTES: usize = 128 << 10;
const DIRECTORY: &str = "ltx/";

/// One replica: a place in a bucket of objects. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    objects: Arc<dyn Objects>,
    /// Ends in `ltx/`.
    prefix: Arc<str>,
    patience: Patience,
}

/// What is stored beside a file.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "given by every writer")]
pub struct Put {
    /// How often it was merged.
    pub level: Level,
    /// The transactions it carries.
    pub range: TxidRange,
    /// When the last of them was captured.
    pub time: SystemTime,
    /// The transactions of the parts of the base that it is a part of.
    pub base: Option<TxidRange>,
}

impl Replica {
    /// The replica at `path` of a bucket; an empty one for the bucket as a whole.
    pub fn new(objects: Arc<dyn Objects>, path: &str) -> Self {
        let path = path.trim_matches('/');
        let slash = if path.is_empty() { "" } else { "/" };
        let prefix = format!("{path}{slash}{DIRECTORY}").into();
        Self { objects, prefix, patience: Patience::new(STALL) }
    }

    /// Sets how long the store may be silent.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The name of the object beside the files, such as a lease.
    pub(crate) fn beside(&self, name: &str) -> Result<ObjectName> {
        let path = self.prefix.strip_suffix(DIRECTORY).unwrap_or_default();
        ObjectName::parse(format!("{path}{name}"))
    }

    /// The bucket as a whole, with the same patience.
    pub(crate) fn whole_bucket(&self) -> Self {
        Self::new(Arc::clone(&self.objects), "").patience(self.patience)
    }

    /// What the names of all files begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The bucket.
    pub(crate) fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    /// Which files there are. Objects that are called otherwise are none of ours.
    ///
    /// # Errors
    /// Those of the store; [`Unavailable`](ErrorKind::Unavailable) if it is silent.
    pub async fn manifest(&self) -> Result<Manifest> {
        let mut manifest = Manifest::default();
        let mut listing = self.objects.list(Scope::prefix(&self.prefix));
        while let Some(info) = self.in_time("sqlite.list", listing.try_next()).await? {
            if let Some(file) = self.file_of(&info) {
                manifest.insert(file);
            }
        }
        Ok(manifest)
    }

    /// The file that an object is; `None` if it is none of this replica.
    pub fn file_of(&self, info: &ObjectInfo) -> Option<LtxFile> {
        let (level, range) = self.place_of(info.name.as_str())?;
        let stamp = info.headers.get(TIMESTAMP_HEADER);
        let time = stamp.and_then(|text| humantime::parse_rfc3339(text).ok());
        Some(LtxFile {
            level,
            range,
            bytes: info.size,
            time: time.unwrap_or(info.modified),
            digest: info.digest,
            base: info.headers.get(BASE_HEADER).and_then(range_of),
        })
    }

    /// The level and the transactions of the file called `name`; `None` if it is none of this
    /// replica.
    pub fn place_of(&self, name: &str) -> Option<(Level, TxidRange)> {
        let (level, name) = name.strip_prefix(&*self.prefix)?.split_once('/')?;
        Some((Level::from_name(level)?, TxidRange::from_file_name(name)?))
    }

    /// The name of the object of a file.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the path of the replica is too long.
    pub fn name(&self, level: Level, range: TxidRange) -> Result<ObjectName> {
        ObjectName::parse(format!("{}{level}/{}", self.prefix, range.file_name()))
    }

    /// Begins to read a file.
    ///
    /// # Errors
    /// As [`Replica::name`].
    pub fn fetch(&self, file: &LtxFile) -> Result<Fetch> {
        let name = self.name(file.level, file.range)?;
        Ok(Fetch::new(Arc::clone(&self.objects), name, file, self.patience))
    }

    /// A whole file in memory.
    ///
    /// # Errors
    /// As [`Fetch::next`].
    pub async fn bytes(&self, file: &LtxFile) -> Result<Bytes> {
        let mut fetch = self.fetch(file)?;
        let mut parts = Vec::with_capacity(usize::try_from(file.bytes).unwrap_or_default());
        while let Some(part) = fetch.next().await? {
            parts.extend_from_slice(&part);
        }
        Ok(parts.into())
    }

    /// The last `length` bytes of a file, or all if it is shorter. They are not verified: only
    /// the file as a whole can be.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if the object is not there as a whole.
    pub async fn tail(&self, file: &LtxFile, length: u64) -> Result<Bytes> {
        self.part(file, file.bytes.saturating_sub(length)..file.bytes).await
    }

    /// Some bytes of a file, as [`Replica::tail`].
    ///
    /// # Errors
    /// As [`Replica::tail`].
    pub async fn part(&self, file: &LtxFile, range: std::ops::Range<u64>) -> Result<Bytes> {
        let mut fetch = self.fetch(file)?.only(range);
        let mut parts = Vec::new();
        while let Some(part) = fetch.next().await? {
            parts.extend_from_slice(&part);
        }
        Ok(parts.into())
    }

    /// Stores a file from memory. One that is there with the same bytes is fine: the answer to
    /// an earlier attempt was lost.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if it is there with other bytes, which another writer
    /// has put there.
    pub async fn put(&self, put: Put, bytes: Bytes) -> Result<LtxFile> {
        self.put_told(put, bytes, || ()).await
    }

    /// As [`Replica::put`]; calls `moved` for each piece that the store takes.
    pub(crate) async fn put_told(
        &self,
        put: Put,
        bytes: Bytes,
        moved: impl Fn() + Send + 'static,
    ) -> Result<LtxFile> {
        let digest = Digest::of(&bytes);
        let name = self.name(put.level, put.range)?;
        match self.store(put, pieces(bytes).inspect(move |_piece| moved()).boxed()).await {
            Ok(file) => Ok(file),
            Err(error) if may_be_there(&error) => self.settle(&name, digest, error).await,
            Err(error) => Err(error),
        }
    }

    /// Stores a file once more at another level, as it is. One that is there with the same bytes
    /// is fine.
    ///
    /// # Errors
    /// As [`Replica::put`], and as [`Fetch::next`].
    pub(crate) async fn copy(&self, file: &LtxFile, level: Level) -> Result<LtxFile> {
        let put = Put { level, range: file.range, time: file.time, base: None };
        let name = self.name(level, file.range)?;
        let body = stream::try_unfold(self.fetch(file)?, |mut fetch| async move {
            Ok(fetch.next().await?.map(|part| (part, fetch)))
        });
        match (self.store(put, body.boxed()).await, file.digest) {
            (Err(error), Some(digest)) if may_be_there(&error) => {
                self.settle(&name, digest, error).await
            }
            (stored, _) => stored,
        }
    }

    /// Stores a file as it is made.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is one of that name, the errors of `body`, and
    /// [`Unavailable`](ErrorKind::Unavailable) if the store takes no byte for too long.
    pub async fn store(&self, put: Put, body: Body) -> Result<LtxFile> {
        let name = self.name(put.level, put.range)?;
        let time = humantime::format_rfc3339_millis(put.time).to_string();
        let mut headers = Headers::new().with(TIMESTAMP_HEADER, &time)?;
        if let Some(base) = put.base {
            headers.set(BASE_HEADER, &base.to_string())?;
        }
        let opts = ObjectPut::new().expect(Expect::Absent).headers(headers);
        let (moved, mut moves) = tokio::sync::watch::channel(());
        let body = body.inspect(move |_part| {
            moved.send_replace(());
        });
        let mut putting = self.objects.put(&name, body.boxed(), opts);
        let info = loop {
            tokio::select! {
                biased;
                done = &mut putting => break done?,
                moving = timeout(self.patience.stall(), moves.changed()) => match moving {
                    Ok(Ok(())) => {}
                    // The whole body is taken: what is left is the last answer.
                    Ok(Err(_ended)) => {
                        break self.in_time("sqlite.put", &mut putting).await.map_err(unknown)?;
                    }
                    Err(_elapsed) => return Err(unknown(silent("sqlite.put", &name))),
                },
            }
        };
        self.file_of(&info)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "sqlite.put").with("object", &info.name))
    }

    /// Deletes a file; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, level: Level, range: TxidRange) -> Result<()> {
        let name = self.name(level, range)?;
        let deleting = self.objects.delete(&name, DeleteOpts::new());
        self.in_time("sqlite.delete", deleting).await.map(|_revision| ())
    }

    /// Whether what is called `name` is what a put was to store, whose answer is `error`.
    async fn settle(&self, name: &ObjectName, digest: Digest, error: Error) -> Result<LtxFile> {
        let found = self.in_time("sqlite.put", self.objects.info(name)).await?;
        let same = found.filter(|info| info.digest == Some(digest));
        match same.and_then(|info| self.file_of(&info)) {
            Some(file) => Ok(file),
            None if error.kind() == ErrorKind::Conflict => {
                Err(error
                    .hint("another program writes to this replica: stop one, or give them paths"))
            }
            None => Err(error),
        }
    }

    /// Gives up on a request to which no answer comes.
    pub(crate) async fn in_time<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match timeout(self.patience.stall(), request).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(silent(operation, &*self.prefix)),
        }
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replica({self})")
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.prefix, self.objects)
    }
}

/// Whether an object of that name is a file of any replica.
pub(crate) fn is_file(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '/');
    let (file, level) = (parts.next(), parts.next());
    file.and_then(TxidRange::from_file_name).is_some()
        && level.and_then(Level::from_name).is_some()
        && parts.next().is_some_and(|path| path == "ltx" || path.ends_with("/ltx"))
}

pub(super) fn silent(operation: &'static str, what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, operation)
        .because("the store is silent")
        .with("object", what.to_string())
}

fn unknown(error: Error) -> Error {
    if error.kind() == ErrorKind::Unavailable { error.outcome_unknown() } else { error }
}

/// `bytes` in pieces, so that a store that is slow is seen to get on.
fn pieces(bytes: Bytes) -> Body {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let pieces = starts.map(move |at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)));
    stream::iter(pieces.map(Ok)).boxed()
}

fn may_be_there(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict || error.outcome() == Outcome::Unknown
}

fn range_of(text: &str) -> Option<TxidRange> {
    TxidRange::from_file_name(&format!("{text}.ltx"))
}
