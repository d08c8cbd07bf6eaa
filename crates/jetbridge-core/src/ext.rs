//! What every caller would otherwise write again: loops over the seam, typed values, whole bodies.
//!
//! All of it is implemented once for whatever implements the seam, uses nothing but the seam and
//! is never overridden: a backend that does better says so through a required method.

use std::fmt::Debug;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;

mod bus;
mod kv;
mod object;

pub use bus::BusExt;
pub use kv::{KvExt, Update};
pub use object::{OBJECT_BYTES_MAX_DEFAULT, ObjectsExt, body_of, body_of_reader};

/// The header that says which [`Codec`] wrote a value or message.
pub const CONTENT_TYPE_HEADER: &str = "Content-Type";

/// How typed values become bytes.
///
/// What is written carries the codec's name in [`CONTENT_TYPE_HEADER`], and what is read is
/// refused if it carries another's: programs with different codecs notice each other. Bytes
/// without the header are taken as they are.
pub trait Codec: Debug + Send + Sync {
    /// The name of the format, as a media type.
    fn content_type(&self) -> &'static str;

    /// `value` as bytes; [`InvalidInput`](ErrorKind::InvalidInput) if the format has no way to
    /// say it.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes>;

    /// The value that `bytes` are; [`Corrupt`](ErrorKind::Corrupt) if they are none.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T>;
}

/// JSON, without white space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Codec for Json {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "json.encode").caused_by(error))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "json.decode").caused_by(error))
    }
}

/// Decodes bytes that came with `headers`.
fn decode<T: DeserializeOwned>(codec: &impl Codec, bytes: &[u8], headers: &Headers) -> Result<T> {
    match headers.get(CONTENT_TYPE_HEADER) {
        Some(other) if other != codec.content_type() => {
            Err(Error::new(ErrorKind::InvalidInput, "codec.decode")
                .because("it was written by another codec")
                .with("written_as", other)
                .with("read_as", codec.content_type()))
        }
        _ => codec.decode(bytes),
    }
}
