//! Whole objects: from and to memory, readers and writers.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::{Error, ErrorKind, Result};
use crate::name::ObjectName;
use crate::object::{Body, ObjectInfo, ObjectPut, Objects};

/// Bytes of an object that callers without a better idea take into memory at most.
pub const OBJECT_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Bytes read from a source at once; half of JetStream's default chunk.
const READ_BYTES: usize = 64 << 10;

/// `bytes` as the body of an object.
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed()
}

/// What `reader` yields as the body of an object. A failure of the reader is
/// [`InvalidInput`](ErrorKind::InvalidInput).
pub fn body_of_reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Body {
    let parts = stream::try_unfold(reader, |mut reader| async {
        let mut part = BytesMut::with_capacity(READ_BYTES);
        let read = reader.read_buf(&mut part).await.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "object.put")
                .because("the source cannot be read")
                .caused_by(error)
        })?;
        Ok((read > 0).then(|| (part.freeze(), reader)))
    });
    parts.boxed()
}

/// Conveniences on every [`Objects`].
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// use jetbridge_core::{
///     Backend, BucketName, BucketSpec, MemoryBackend, OBJECT_BYTES_MAX_DEFAULT, ObjectName,
///     ObjectPut, ObjectsExt, Open,
/// };
///
/// let store = MemoryBackend::new();
/// let open = Open::ensure(BucketSpec::default());
/// let objects = store.objects(&BucketName::parse("assets")?, open).await?;
/// let name = ObjectName::parse("logo.svg")?;
/// objects.put_bytes(&name, "<svg/>", ObjectPut::new()).await?;
/// let logo = objects.get_bytes(&name, OBJECT_BYTES_MAX_DEFAULT).await?;
/// assert_eq!(logo.unwrap(), "<svg/>");
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(demo()).unwrap();
/// ```
#[async_trait]
pub trait ObjectsExt: Objects {
    /// Stores `bytes`; else as [`Objects::put`].
    async fn put_bytes(
        &self,
        name: &ObjectName,
        bytes: impl Into<Bytes> + Send,
        opts: ObjectPut,
    ) -> Result<ObjectInfo> {
        let body = body_of(bytes);
        self.put(name, body, opts).await
    }

    /// Stores what `reader` yields; else as [`Objects::put`].
    async fn put_reader(
        &self,
        name: &ObjectName,
        reader: impl AsyncRead + Send + Unpin + 'static,
        opts: ObjectPut,
    ) -> Result<ObjectInfo> {
        self.put(name, body_of_reader(reader), opts).await
    }

    /// The whole object; [`LimitExceeded`](ErrorKind::LimitExceeded) if it has more than
    /// `bytes_max` bytes.
    async fn get_bytes(&self, name: &ObjectName, bytes_max: u64) -> Result<Option<Bytes>> {
        let Some(mut object) = self.get(name, None).await? else { return Ok(None) };
        let mut bytes = BytesMut::new();
        let too_large = |size: u64| {
            Err(Error::new(ErrorKind::LimitExceeded, "object.get")
                .because("the object is larger than the caller takes into memory")
                .with("bucket", self.bucket())
                .with("object", name)
                .with("size", size)
                .with("limit", bytes_max))
        };
        if object.info.size > bytes_max {
            return too_large(object.info.size);
        }
        while let Some(part) = object.body.try_next().await? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > bytes_max {
                return too_large(bytes.len() as u64);
            }
        }
        Ok(Some(bytes.freeze()))
    }

    /// Writes the whole object to `writer` and flushes it. After an error the writer holds what
    /// had come until then, which is not verified.
    async fn get_to(
        &self,
        name: &ObjectName,
        writer: &mut (impl AsyncWrite + Send + Unpin),
    ) -> Result<Option<ObjectInfo>> {
        let Some(mut object) = self.get(name, None).await? else { return Ok(None) };
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::InvalidInput, "object.get")
                .because("the destination cannot be written")
                .with("object", name)
                .caused_by(error)
        };
        while let Some(part) = object.body.try_next().await? {
            writer.write_all(&part).await.map_err(failed)?;
        }
        writer.flush().await.map_err(failed)?;
        Ok(Some(object.info))
    }
}

impl<O: Objects + ?Sized> ObjectsExt for O {}
