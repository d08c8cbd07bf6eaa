//! MessagePack and CBOR, both with field names: a reader may know more or fewer fields than the
//! writer, and other languages read them as maps.

use super::{Codec, CodecError, Visit, erased_serde};

/// MessagePack, structs as maps.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a codec without settings")]
pub struct MessagePack;

impl Codec for MessagePack {
    fn content_type(&self) -> &'static str {
        "application/msgpack"
    }

    fn reads(&self, media_type: &str) -> bool {
        matches!(
            media_type,
            "application/msgpack" | "application/vnd.msgpack" | "application/x-msgpack"
        )
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        Ok(rmp_serde::to_vec_named(value)?)
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut reader))?;
        let read = usize::try_from(reader.position()).unwrap_or(usize::MAX);
        ended(bytes.len().saturating_sub(read))
    }
}

/// CBOR (RFC 8949), structs as maps.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a codec without settings")]
pub struct Cbor;

impl Codec for Cbor {
    fn content_type(&self) -> &'static str {
        "application/cbor"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        Ok(cbor4ii::serde::to_vec(Vec::new(), &value)?)
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        let mut rest = cbor4ii::core::utils::SliceReader::new(bytes);
        let mut reader = cbor4ii::serde::Deserializer::new(&mut rest);
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut reader))?;
        ended(unread(rest))
    }
}

fn unread(mut rest: cbor4ii::core::utils::SliceReader<'_>) -> usize {
    use cbor4ii::core::dec::Read;
    rest.fill(1).map_or(0, |left| left.as_ref().len())
}

fn ended(left: usize) -> Result<(), CodecError> {
    if left == 0 { Ok(()) } else { Err(format!("{left} bytes follow the value").into()) }
}
