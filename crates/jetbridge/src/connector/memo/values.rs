//! Writing, reading and removing values.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    CounterEncoding, DeleteOpts, ErrorKind, Expect, Headers, PutOpts, Read, Result, Update,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Call, Operation, Target};
use super::compete;
use crate::codec::{CONTENT_TYPE, Codec, Codecs, Json, decode_with};
use crate::typed::Typed;

/// Bytes to write, with the header that says how they were encoded.
#[derive(Debug)]
pub(super) struct Value {
    bytes: Bytes,
    headers: Headers,
}

impl Value {
    pub(super) fn raw(bytes: Bytes) -> Self {
        Self { bytes, headers: Headers::new() }
    }

    pub(super) fn typed<T: Serialize + ?Sized>(codecs: &Codecs, value: &T) -> Result<Self> {
        let mut headers = Headers::new();
        let bytes = match as_integer(value) {
            Some(number) => {
                headers.set(CONTENT_TYPE, Json.content_type())?;
                number.into()
            }
            None => codecs.encode(value, &mut headers)?,
        };
        Ok(Self { bytes, headers })
    }

    /// The bytes, and the options to put them with.
    fn put(&self, ttl: Option<Duration>) -> (Bytes, PutOpts) {
        let mut opts = PutOpts::new().headers(self.headers.clone());
        opts.ttl = ttl;
        (self.bytes.clone(), opts)
    }
}

/// An integer is decimal text in every codec, so that it can be counted up and read by all.
fn as_integer<T: Serialize + ?Sized>(value: &T) -> Option<Vec<u8>> {
    /// Takes what integers are written with, and fails on the first byte of anything else.
    struct Digits(Vec<u8>);

    impl std::io::Write for Digits {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            if text.iter().any(|c| !c.is_ascii_digit() && *c != b'-') {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            self.0.extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut digits = Digits(Vec::new());
    value.serialize(&mut serde_json::Serializer::new(&mut digits)).ok()?;
    let number = std::str::from_utf8(&digits.0).ok()?.parse::<i64>();
    number.is_ok().then_some(digits.0)
}

/// Reads what [`Value`], another client, or an increment has written. What an increment has
/// written is decimal text without a type, so such text is a number first, whatever the codec.
pub(super) fn read<T: DeserializeOwned>(
    codecs: &Codecs,
    headers: &Headers,
    bytes: &[u8],
) -> Result<T> {
    let counted =
        headers.get(CONTENT_TYPE).is_none() && CounterEncoding::Decimal.decode(bytes).is_some();
    if counted && let Ok(number) = decode_with(&Json, bytes) {
        return Ok(number);
    }
    codecs.decode(headers, bytes)
}

/// See [`Memo::set`](super::Memo::set).
#[derive(Debug)]
pub struct Set {
    key: String,
    value: Value,
    ttl: Option<Duration>,
}

impl Set {
    pub(super) fn new(key: String, value: Value) -> Self {
        Self { key, value, ttl: None }
    }
}

impl Call<Set> {
    /// Lets the value expire after `ttl`, to the millisecond.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|set| set.ttl = Some(ttl))
    }

    /// Writes only if there is no value, and says whether it did.
    pub fn if_absent(self) -> Call<SetAbsent> {
        self.map(SetAbsent)
    }
}

impl Operation for Set {
    type Output = ();

    async fn run(&self, target: &Target<'_>) -> Result<()> {
        let (value, opts) = self.value.put(self.ttl);
        target.kv().put(&target.key(&self.key)?, value, opts).await.map(drop)
    }
}

/// See [`Call::if_absent`].
#[derive(Debug)]
pub struct SetAbsent(Set);

impl Call<SetAbsent> {
    /// Lets the value expire after `ttl`, to the millisecond.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|set| set.0.ttl = Some(ttl))
    }
}

impl Operation for SetAbsent {
    type Output = bool;

    async fn run(&self, target: &Target<'_>) -> Result<bool> {
        let (value, opts) = self.0.value.put(self.0.ttl);
        let key = target.key(&self.0.key)?;
        match target.kv().put(&key, value, opts.expect(Expect::Absent)).await {
            Ok(_written) => Ok(true),
            Err(lost) if lost.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// See [`Memo::get`](super::Memo::get).
#[derive(Debug)]
pub struct Get<T> {
    key: String,
    value: PhantomData<fn() -> T>,
}

impl<T> Get<T> {
    pub(super) fn new(key: String) -> Self {
        Self { key, value: PhantomData }
    }
}

impl<T: DeserializeOwned + Send + 'static> Operation for Get<T> {
    type Output = Option<T>;

    async fn run(&self, target: &Target<'_>) -> Result<Option<T>> {
        let key = target.key(&self.key)?;
        let Some(entry) = target.kv().get(&key, Read::Fresh).await? else { return Ok(None) };
        let value = read(target.codecs, &entry.headers, &entry.value);
        value.map(Some).map_err(|error| error.with("key", &key))
    }
}

/// See [`Memo::get_raw`](super::Memo::get_raw).
#[derive(Debug)]
pub struct GetRaw {
    pub(super) key: String,
}

impl Operation for GetRaw {
    type Output = Option<Bytes>;

    async fn run(&self, target: &Target<'_>) -> Result<Option<Bytes>> {
        let entry = target.kv().get(&target.key(&self.key)?, Read::Fresh).await?;
        Ok(entry.map(|entry| entry.value))
    }
}

/// See [`Memo::replace`](super::Memo::replace).
#[derive(Debug)]
pub struct Replace {
    key: String,
    value: Value,
    ttl: Option<Duration>,
}

impl Replace {
    pub(super) fn new(key: String, value: Value) -> Self {
        Self { key, value, ttl: None }
    }
}

impl Call<Replace> {
    /// Lets the value expire after `ttl`, to the millisecond.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|set| set.ttl = Some(ttl))
    }
}

impl Operation for Replace {
    type Output = bool;

    async fn run(&self, target: &Target<'_>) -> Result<bool> {
        let key = target.key(&self.key)?;
        let replaced = compete::change(target, &key, |_present| {
            let (value, headers) = (self.value.bytes.clone(), self.value.headers.clone());
            Ok((Update::Put { value, ttl: self.ttl, headers }, ()))
        });
        Ok(replaced.await?.is_some())
    }
}

/// See [`Memo::delete`](super::Memo::delete).
#[derive(Debug)]
pub struct Delete {
    pub(super) key: String,
}

impl Operation for Delete {
    type Output = bool;

    async fn run(&self, target: &Target<'_>) -> Result<bool> {
        let deleted = target.kv().delete(&target.key(&self.key)?, DeleteOpts::new()).await?;
        Ok(deleted.is_some())
    }
}

/// See [`Memo::flush`](super::Memo::flush).
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a call without arguments")]
pub struct Flush;

impl Operation for Flush {
    type Output = u64;

    async fn run(&self, target: &Target<'_>) -> Result<u64> {
        target.kv().purge(target.scope()).await
    }
}

/// See [`Memo::typed`](super::Memo::typed).
#[derive(Debug)]
pub struct OpenTyped<T>(PhantomData<fn() -> T>);

impl<T> OpenTyped<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Send + Sync + 'static> Operation for OpenTyped<T> {
    type Output = Typed<T>;

    async fn run(&self, target: &Target<'_>) -> Result<Typed<T>> {
        let typed = Typed::new(Arc::clone(&target.bucket.kv));
        Ok(typed.codecs(target.codecs.clone()).prefix(target.prefix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MessagePack, Raw};

    #[test]
    fn text_without_a_type_is_a_number_where_one_is_wanted() {
        let none = Headers::new();
        let packed = Codecs::new(Arc::new(MessagePack));
        assert_eq!(read::<i64>(&packed, &none, b"7").unwrap(), 7);
        let raw = Codecs::new(Arc::new(Raw));
        assert_eq!(read::<i64>(&raw, &none, b"-7").unwrap(), -7);
        assert_eq!(read::<String>(&raw, &none, b"7").unwrap(), "7");
    }

    #[test]
    fn integers_are_decimal_in_every_codec_and_nothing_else_is() {
        let codecs = Codecs::new(Arc::new(MessagePack));
        let encoded = |value: Result<Value>| value.unwrap().bytes;
        assert_eq!(encoded(Value::typed(&codecs, &50)), "50");
        assert_eq!(encoded(Value::typed(&codecs, &i64::MIN)), i64::MIN.to_string());
        assert_eq!(encoded(Value::typed(&codecs, &Some(7_u8))), "7");
        for other in [&"50" as &dyn erased_serde::Serialize, &1.0, &u64::MAX, &[5], &()] {
            assert_eq!(encoded(Value::typed(&codecs, other)), MessagePack.encode(other).unwrap());
        }
    }
}
