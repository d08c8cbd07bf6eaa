//! Names to large values.

use std::fmt::{self, Debug, Display};
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::kv::{DeleteOpts, Expect, Revision, Scope, Start};
use crate::name::{BucketName, ObjectName};

/// The bytes of an object on their way in or out.
pub type Body = BoxStream<'static, Result<Bytes>>;

/// One bucket of objects. An object is visible whole and verified, or not at all.
///
/// An absent or deleted object is `Ok(None)`; an absent bucket
/// [`NotFound`](ErrorKind::NotFound).
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use futures_util::TryStreamExt;
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, Digest, MemoryBackend, ObjectName, ObjectPut, Open,
///     body_of,
/// };
///
/// let store = MemoryBackend::new();
/// let open = Open::ensure(BucketSpec::default());
/// let objects = store.objects(&BucketName::parse("backups")?, open).await?;
/// let name = ObjectName::parse("app.db")?;
/// let info = objects.put(&name, body_of("0123456789"), ObjectPut::new()).await?;
/// assert_eq!(info.digest, Some(Digest::of(b"0123456789")));
///
/// let part = objects.get(&name, Some(2..5)).await?.expect("it was stored");
/// let bytes: Vec<_> = part.body.try_collect().await?;
/// assert_eq!(bytes.concat(), b"234");
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait Objects: Debug + Display + Send + Sync + 'static {
    /// The bucket's name.
    fn bucket(&self) -> &BucketName;

    /// Stores `body`; the name appears only after every byte is durable. A failed or cancelled
    /// put leaves nothing behind. An error of `body` ends the put and is its error.
    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo>;

    /// The object, or `range` of it; a link is followed. A whole read ends well only after size
    /// and digest match; a range fetches only the chunks it needs, and one beyond the end is
    /// [`InvalidInput`](ErrorKind::InvalidInput). An object that is deleted or replaced in
    /// mid-read ends the body with [`Conflict`](ErrorKind::Conflict).
    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>>;

    /// What is known of the object; a link is described, not followed.
    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>>;

    /// Deletes, leaving nothing behind that later listings must skip where the caller may purge.
    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>>;

    /// Makes `name` stand for `target`. A link to a link, and one over an object that is no
    /// link, are [`InvalidInput`](ErrorKind::InvalidInput).
    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo>;

    /// Forbids every further write to the bucket, for ever: each is then
    /// [`InvalidInput`](ErrorKind::InvalidInput).
    async fn seal(&self) -> Result<()>;

    /// The live objects in `scope`.
    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>>;

    /// Changes of the objects in `scope`, with the promises of [`Kv::watch`](crate::Kv::watch);
    /// [`Start::History`] is the same as [`Start::Current`].
    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>>;

    /// Removes chunks that no object refers to and that no put has touched for `older_than`;
    /// returns how many bytes that freed.
    async fn sweep(&self, older_than: std::time::Duration) -> Result<u64>;
}

/// Options of [`Objects::put`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ObjectPut {
    /// The condition, on the name's present object.
    pub expect: Expect,
    /// A text for people.
    pub description: Option<String>,
    /// The writer's headers.
    pub headers: Headers,
    /// Bytes of one chunk; by default what the backend does best.
    pub chunk_bytes: Option<u32>,
}

impl ObjectPut {
    /// Unconditional.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the condition.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Stores `headers` beside the object.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Stores a text for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Sets the bytes of one chunk.
    #[must_use]
    pub fn chunk_bytes(mut self, bytes: u32) -> Self {
        self.chunk_bytes = Some(bytes);
        self
    }
}

/// What is known of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Bytes of its body.
    pub size: u64,
    /// In how many chunks it is stored.
    pub chunks: u64,
    /// The digest of its body; `None` for a link, or where its writer stored none.
    pub digest: Option<Digest>,
    /// The write that made it visible.
    pub revision: Revision,
    /// When that was, by the store's clock.
    pub modified: SystemTime,
    /// A text for people.
    pub description: Option<String>,
    /// The writer's headers.
    pub headers: Headers,
    /// What it stands for, if it is a link.
    pub link: Option<Link>,
}

impl ObjectInfo {
    /// An empty object of that name, for backends to fill.
    pub fn new(name: ObjectName, revision: Revision, modified: SystemTime) -> Self {
        Self {
            name,
            size: 0,
            chunks: 0,
            digest: None,
            revision,
            modified,
            description: None,
            headers: Headers::new(),
            link: None,
        }
    }
}

/// What a link stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// The bucket.
    pub bucket: BucketName,
    /// The object; `None` for the bucket as a whole, which cannot be read as an object.
    pub name: Option<ObjectName>,
}

impl Link {
    /// A link to an object.
    pub fn object(bucket: BucketName, name: ObjectName) -> Self {
        Self { bucket, name: Some(name) }
    }

    /// A link to a bucket.
    pub fn bucket(bucket: BucketName) -> Self {
        Self { bucket, name: None }
    }
}

/// An object being read.
#[non_exhaustive]
pub struct Object {
    /// What is known of it; of the target, if a link was followed.
    pub info: ObjectInfo,
    /// Its bytes, or the range's.
    pub body: Body,
}

impl Object {
    /// An object and its bytes.
    pub fn new(info: ObjectInfo, body: Body) -> Self {
        Self { info, body }
    }
}

impl Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What an object watch delivers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "to ignore a kind of change is a bug")]
pub enum ObjectChange {
    /// An object or link appeared or was replaced.
    Put(ObjectInfo),
    /// An object was deleted.
    Delete {
        /// Its name.
        name: ObjectName,
        /// The revision of the deletion.
        revision: Revision,
    },
    /// Everything that was there when the watch began has been delivered.
    CaughtUp,
}

/// A SHA-256 digest. Prints as JetStream stores it: `SHA-256=` and padded base64url.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest([u8; 32]);

const DIGEST_LABEL: &str = "SHA-256=";

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses `SHA-256=…`, padded or not, the label in any case;
    /// [`Corrupt`](ErrorKind::Corrupt) if it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::Corrupt, "digest.parse").with("digest", text);
        let (label, value) = text.split_at_checked(DIGEST_LABEL.len()).ok_or_else(bad)?;
        if !label.eq_ignore_ascii_case(DIGEST_LABEL) {
            return Err(bad());
        }
        let mut padded = value.trim_end_matches('=').to_owned();
        while padded.len() % 4 != 0 {
            padded.push('=');
        }
        let bytes = URL_SAFE.decode(padded).map_err(|error| bad().caused_by(error))?;
        Ok(Self(bytes.try_into().map_err(|_short: Vec<u8>| bad())?))
    }
}

impl Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DIGEST_LABEL}{}", URL_SAFE.encode(self.0))
    }
}

impl Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_prints_as_jetstream_stores_it() {
        let text = "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(Digest::parse(text).unwrap(), Digest::of(b""));
        assert_eq!(Digest::parse(&text.replace("SHA", "sha")).unwrap(), Digest::of(b""));
        for bad in ["", "SHA-256=", "MD5=x", "SHA-256=47DEQpj8"] {
            assert_eq!(Digest::parse(bad).unwrap_err().kind(), ErrorKind::Corrupt, "{bad}");
        }
    }
}
