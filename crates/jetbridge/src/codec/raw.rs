//! Bytes and text as they are. Written through serde all the same, so that a handle whose codec
//! is raw takes `&str`, `String`, `Vec<u8>` and anything else that serde knows as bytes.

use serde::de::value::{BytesDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Visitor};
use serde::ser::{Error as _, Impossible, Serialize, SerializeSeq, SerializeTuple, Serializer};
use serde::{de, forward_to_deserialize_any};

use super::{Codec, CodecError, Visit, erased_serde};

/// Bytes and text without any encoding; everything else is refused.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a codec without settings")]
pub struct Raw;

impl Codec for Raw {
    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn reads(&self, media_type: &str) -> bool {
        matches!(media_type, "application/octet-stream" | "text/plain")
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        Ok(value.serialize(RawWriter)?)
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        Ok(visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(RawReader(bytes)))?)
    }
}

type RawError = de::value::Error;
type No = Impossible<Vec<u8>, RawError>;

fn refused<T>(what: &str) -> Result<T, RawError> {
    Err(RawError::custom(format_args!("{what} has no raw form: only bytes and text have")))
}

/// Collects what serde knows as bytes.
struct RawWriter;

/// Refuses the types without a raw form, in one line each.
macro_rules! refuse {
    ($($method:ident($($kind:ty),*) -> $ok:ty = $what:literal;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<$ok, RawError> {
            refused($what)
        })*
    };
}

impl Serializer for RawWriter {
    type Ok = Vec<u8>;
    type Error = RawError;
    type SerializeSeq = RawSeq;
    type SerializeTuple = RawSeq;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Vec<u8>, RawError> {
        Ok(bytes.to_vec())
    }

    fn serialize_str(self, text: &str) -> Result<Vec<u8>, RawError> {
        Ok(text.as_bytes().to_vec())
    }

    fn serialize_unit(self) -> Result<Vec<u8>, RawError> {
        Ok(Vec::new())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, RawError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, RawError> {
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<RawSeq, RawError> {
        Ok(RawSeq(Vec::with_capacity(length.unwrap_or(0))))
    }

    fn serialize_tuple(self, length: usize) -> Result<RawSeq, RawError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<Vec<u8>, RawError> {
        refused("an enum")
    }

    refuse! {
        serialize_bool(bool) -> Vec<u8> = "a boolean";
        serialize_i8(i8) -> Vec<u8> = "a number";
        serialize_i16(i16) -> Vec<u8> = "a number";
        serialize_i32(i32) -> Vec<u8> = "a number";
        serialize_i64(i64) -> Vec<u8> = "a number";
        serialize_u8(u8) -> Vec<u8> = "a number";
        serialize_u16(u16) -> Vec<u8> = "a number";
        serialize_u32(u32) -> Vec<u8> = "a number";
        serialize_u64(u64) -> Vec<u8> = "a number";
        serialize_f32(f32) -> Vec<u8> = "a number";
        serialize_f64(f64) -> Vec<u8> = "a number";
        serialize_char(char) -> Vec<u8> = "a character";
        serialize_none() -> Vec<u8> = "nothing";
        serialize_unit_struct(&'static str) -> Vec<u8> = "a struct";
        serialize_unit_variant(&'static str, u32, &'static str) -> Vec<u8> = "an enum";
        serialize_tuple_struct(&'static str, usize) -> No = "a struct";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No = "an enum";
        serialize_map(Option<usize>) -> No = "a map";
        serialize_struct(&'static str, usize) -> No = "a struct";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No = "an enum";
    }
}

/// A sequence of bytes, as serde sees a `Vec<u8>`.
struct RawSeq(Vec<u8>);

impl RawSeq {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), RawError> {
        // A byte is the one number whose JSON is at most 255 and has no sign: asking a full
        // serializer keeps this from being a second one.
        let number = serde_json::to_value(element).ok().and_then(|value| value.as_u64());
        match number.and_then(|number| u8::try_from(number).ok()) {
            Some(byte) => {
                self.0.push(byte);
                Ok(())
            }
            None => refused("a list of anything but bytes"),
        }
    }
}

impl SerializeSeq for RawSeq {
    type Ok = Vec<u8>;
    type Error = RawError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), RawError> {
        self.push(element)
    }

    fn end(self) -> Result<Vec<u8>, RawError> {
        Ok(self.0)
    }
}

impl SerializeTuple for RawSeq {
    type Ok = Vec<u8>;
    type Error = RawError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), RawError> {
        self.push(element)
    }

    fn end(self) -> Result<Vec<u8>, RawError> {
        Ok(self.0)
    }
}

/// Reads bytes as text where text is asked for, as a sequence where one is, else as bytes.
struct RawReader<'de>(&'de [u8]);

impl<'de> Deserializer<'de> for RawReader<'de> {
    type Error = RawError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        BytesDeserializer::new(self.0).deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        let text = std::str::from_utf8(self.0).map_err(RawError::custom)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        SeqDeserializer::new(self.0.iter().copied()).deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RawError> {
        if self.0.is_empty() { visitor.visit_unit() } else { self.deserialize_any(visitor) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, RawError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit_struct
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode_with;
    use super::*;

    #[test]
    fn bytes_and_text_pass_as_they_are() {
        assert_eq!(Raw.encode(&"é").unwrap(), "é".as_bytes());
        assert_eq!(Raw.encode(&vec![0_u8, 255]).unwrap(), [0, 255]);
        assert_eq!(Raw.encode(&Some([7_u8, 8])).unwrap(), [7, 8]);
        assert_eq!(decode_with::<String>(&Raw, "é".as_bytes()).unwrap(), "é");
        assert_eq!(decode_with::<Vec<u8>>(&Raw, &[0, 255]).unwrap(), [0, 255]);
        assert_eq!(decode_with::<Option<[u8; 2]>>(&Raw, &[0, 255]).unwrap(), Some([0, 255]));
        decode_with::<()>(&Raw, b"").unwrap();
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert!(Raw.encode(&7).is_err());
        assert!(Raw.encode(&vec![7, 256]).is_err());
        assert!(Raw.encode(&vec!["a"]).is_err());
        assert!(decode_with::<u32>(&Raw, b"7").is_err());
        assert!(decode_with::<String>(&Raw, &[0xff]).is_err());
    }
}
