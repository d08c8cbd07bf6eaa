//! Values as bytes: which codec writes them, and which one reads them back.
//!
//! What is written carries its media type in the `Content-Type` header, and is read by it; bytes
//! without one are read by the reader's own codec. So writers and readers with different codecs
//! share buckets and topics. Codecs are objects rather than type parameters: which one reads is
//! known only when the bytes are there, and handles stay free of generics.
//!
//! Nothing here knows stores or connections.

mod binary;
mod json;
mod raw;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use jetbridge_core::{Error, ErrorKind, Headers, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use binary::{Cbor, MessagePack};
pub use erased_serde;
pub use json::Json;
pub use raw::Raw;

/// The header that names the codec of a value or message, as a media type.
pub const CONTENT_TYPE: &str = jetbridge_core::CONTENT_TYPE_HEADER;

/// Why a codec could not write or read.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// What [`Codec::decode`] hands its deserializer to.
pub type Visit<'v> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'v;

/// A way to write serde's data as bytes.
///
/// The built-in ones are [`Json`], [`MessagePack`], [`Cbor`] and [`Raw`]; another one takes four
/// short methods:
///
/// ```
/// use jetbridge::codec::{Codec, CodecError, Visit, erased_serde};
///
/// #[derive(Debug)]
/// struct PrettyJson;
///
/// impl Codec for PrettyJson {
///     fn content_type(&self) -> &'static str {
///         "application/json"
///     }
///
///     fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
///         Ok(serde_json::to_vec_pretty(value)?)
///     }
///
///     fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
///         let mut json = serde_json::Deserializer::from_slice(bytes);
///         visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))?;
///         Ok(json.end()?)
///     }
/// }
/// ```
pub trait Codec: Debug + Send + Sync + 'static {
    /// The media type of what this codec writes, in lower case.
    fn content_type(&self) -> &'static str;

    /// True if this codec reads what carries `media_type`, which is in lower case and without
    /// parameters. By default that is [`Codec::content_type`] alone.
    fn reads(&self, media_type: &str) -> bool {
        media_type == self.content_type()
    }

    /// Writes `value`.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError>;

    /// Reads `bytes`, all of them, through `visit`.
    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError>;
}

/// The built-in codecs serve the typed conveniences of the seam as well.
macro_rules! codec_of_the_seam {
    ($($codec:ident)+) => {$(
        impl jetbridge_core::Codec for $codec {
            fn content_type(&self) -> &'static str {
                Codec::content_type(self)
            }

            fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
                encode_with(self, value)
            }

            fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
                decode_with(self, bytes)
            }
        }
    )+};
}

codec_of_the_seam!(Cbor Json MessagePack Raw);

/// The codec that writes, and those that read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Codecs {
    own: Arc<dyn Codec>,
    readers: Arc<[Arc<dyn Codec>]>,
}

impl Default for Codecs {
    /// Writes JSON.
    fn default() -> Self {
        Self::new(Arc::new(Json))
    }
}

impl Codecs {
    /// Writes with `own`, and reads with it and the built-in ones.
    pub fn new(own: Arc<dyn Codec>) -> Self {
        let builtin: [Arc<dyn Codec>; 4] =
            [Arc::new(Json), Arc::new(MessagePack), Arc::new(Cbor), Arc::new(Raw)];
        let readers = std::iter::once(Arc::clone(&own)).chain(builtin).collect();
        Self { own, readers }
    }

    /// The same readers, writing with what wrote `headers`, if that is known here: an answer in
    /// the asker's language.
    #[must_use]
    pub fn like(&self, headers: &Headers) -> Self {
        Self { own: Arc::clone(self.reader(headers)), readers: Arc::clone(&self.readers) }
    }

    /// Writes `value` and stamps `headers` with the media type.
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the codec cannot express it.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T, headers: &mut Headers) -> Result<Bytes> {
        let bytes = encode_with(&*self.own, value)?;
        headers.set(CONTENT_TYPE, self.own.content_type())?;
        Ok(bytes)
    }

    /// Reads `bytes` by the media type in `headers`, or as this side writes them if there is
    /// none, or one that nobody here reads.
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if they are not a `T`.
    pub fn decode<T: DeserializeOwned>(&self, headers: &Headers, bytes: &[u8]) -> Result<T> {
        decode_with(&**self.reader(headers), bytes).map_err(|error| match content_type(headers) {
            Some(content_type) => error.with("content_type", content_type),
            None => error,
        })
    }

    fn reader(&self, headers: &Headers) -> &Arc<dyn Codec> {
        let Some(content_type) = content_type(headers) else { return &self.own };
        let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        self.readers.iter().find(|codec| codec.reads(&media_type)).unwrap_or(&self.own)
    }
}

/// Writes `value` with `codec`; errors as [`Codecs::encode`].
pub fn encode_with<T: Serialize + ?Sized>(codec: &dyn Codec, value: &T) -> Result<Bytes> {
    codec.encode(&value).map(Bytes::from).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, "codec.encode")
            .with("type", std::any::type_name::<T>())
            .with("codec", codec.content_type())
            .caused_by(cause)
    })
}

/// Reads `bytes` with `codec`, whatever any header says; errors as [`Codecs::decode`].
pub fn decode_with<T: DeserializeOwned>(codec: &dyn Codec, bytes: &[u8]) -> Result<T> {
    let mut value = None;
    let read = codec.decode(bytes, &mut |deserializer| {
        value = Some(erased_serde::deserialize::<T>(deserializer)?);
        Ok(())
    });
    let corrupt = || {
        Error::new(ErrorKind::Corrupt, "codec.decode")
            .with("type", std::any::type_name::<T>())
            .with("codec", codec.content_type())
            .with("bytes", bytes.len())
    };
    match (read, value) {
        (Ok(()), Some(value)) => Ok(value),
        (Ok(()), None) => Err(corrupt().because("the codec read nothing")),
        (Err(cause), _) => Err(corrupt().caused_by(cause)),
    }
}

fn content_type(headers: &Headers) -> Option<&str> {
    headers.get(CONTENT_TYPE).or_else(|| headers.get("content-type"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    struct User {
        name: String,
        age: u8,
        tags: Vec<String>,
        score: Option<f64>,
        role: Role,
        map: BTreeMap<String, i64>,
    }

    #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    enum Role {
        #[default]
        Admin,
        Guest {
            until: i64,
        },
        Named(String),
    }

    fn ada() -> User {
        User {
            name: "Ada <ada@example.org>".into(),
            age: 36,
            tags: vec!["a\u{2028}b".into()],
            score: Some(0.1),
            role: Role::Guest { until: -7 },
            map: [("k".to_owned(), i64::MIN)].into(),
        }
    }

    fn all() -> [Arc<dyn Codec>; 3] {
        [Arc::new(Json), Arc::new(MessagePack), Arc::new(Cbor)]
    }

    #[test]
    fn every_codec_reads_what_every_other_one_writes() {
        for writer in all() {
            for reader in all() {
                for role in [Role::Admin, Role::Guest { until: 1 }, Role::Named("x".into())] {
                    let user = User { role, ..ada() };
                    let mut headers = Headers::new();
                    let bytes =
                        Codecs::new(Arc::clone(&writer)).encode(&user, &mut headers).unwrap();
                    let read: User =
                        Codecs::new(Arc::clone(&reader)).decode(&headers, &bytes).unwrap();
                    assert_eq!(read, user, "{writer:?} to {reader:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_without_a_known_type_are_read_by_the_own_codec() {
        let codecs = Codecs::default();
        for headers in [Headers::new(), Headers::new().with(CONTENT_TYPE, "text/x-else").unwrap()] {
            assert_eq!(codecs.decode::<Vec<u8>>(&headers, b"[1,2]").unwrap(), [1, 2]);
        }
    }

    #[test]
    fn media_types_are_read_with_parameters_in_any_case_and_by_their_older_names() {
        let packed = MessagePack.encode(&7_u8).unwrap();
        for name in ["application/msgpack", "Application/X-MsgPack; v=5", "application/vnd.msgpack"]
        {
            let headers = Headers::new().with(CONTENT_TYPE, name).unwrap();
            assert_eq!(Codecs::default().decode::<u8>(&headers, &packed).unwrap(), 7, "{name}");
        }
    }

    #[test]
    fn trailing_bytes_and_wrong_types_are_corrupt() {
        for codec in all() {
            let mut bytes = codec.encode(&7_u8).unwrap();
            let wrong = decode_with::<String>(&*codec, &bytes).unwrap_err();
            assert_eq!(wrong.kind(), ErrorKind::Corrupt, "{codec:?}");
            bytes.extend_from_slice(b"1");
            bytes.extend_from_slice(b" x");
            let trailing = decode_with::<u8>(&*codec, &bytes).unwrap_err();
            assert_eq!(trailing.kind(), ErrorKind::Corrupt, "{codec:?}");
        }
    }

    #[test]
    fn what_a_codec_cannot_express_is_refused() {
        let error = Codecs::new(Arc::new(Raw)).encode(&1.5, &mut Headers::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
