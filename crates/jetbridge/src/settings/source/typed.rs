//! From a [`Node`] to a type of one's own, by `serde`: whoever has a section of a file says what
//! stands in it, and gets errors with places for nothing.
//!
//! A scalar becomes what the type wants, never what it looks like: where a `String` is wanted
//! `007` stays `007`, where a number is wanted `"10"` is 10. No error shows a value, for it may
//! be a secret.

use std::fmt::{self, Display};
use std::time::Duration;

use jetbridge_core::Result;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::{Entry, Node, Scalar, Value};
use crate::settings::place::{Place, Problem};
use crate::settings::value;

impl Node {
    /// Reads the value as a `T`. A type that denies unknown fields gets the nearest known name
    /// into the error of one.
    ///
    /// ```
    /// use jetbridge::settings::parse_yaml;
    ///
    /// #[derive(Debug, serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Http {
    ///     listen: String,
    /// }
    ///
    /// let http = parse_yaml("jetbridge.yml", "lisen: 127.0.0.1:4280").unwrap();
    /// let error = http.read::<Http>().unwrap_err();
    /// assert_eq!(error.message(), Some("jetbridge.yml:1:1: unknown key `lisen`"));
    /// assert_eq!(error.hint_text(), Some("did you mean `listen`?"));
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) with file, line and column.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(Reader(self)).map_err(|error| {
            let place = error.place.unwrap_or_else(|| self.place.clone());
            error.problem.at(&place)
        })
    }
}

/// A duration that is written as Go writes it: `5s`, `250ms`, `1h30m`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a duration by another spelling")]
pub struct GoDuration(pub Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        value::duration(&String::deserialize(from)?).map(Self).map_err(by_serde)
    }
}

/// A duration that is a number of seconds, as Python's settings have them, or written as Go
/// writes it: `30`, `0.05`, `30s`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a duration by another spelling")]
pub struct Seconds(pub Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        value::seconds(&String::deserialize(from)?).map(Self).map_err(by_serde)
    }
}

/// A number of bytes that may have a unit: `1048576`, `64KiB`, `1GiB`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a number by another spelling")]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        value::size(&String::deserialize(from)?).map(Self).map_err(by_serde)
    }
}

/// Between the message and the hint of a [`Problem`] on its way through serde's errors, which
/// are texts.
const HINT_MARK: &str = "\u{0}hint\u{0}";

fn by_serde<E: de::Error>(problem: Problem) -> E {
    match problem.hint {
        Some(hint) => E::custom(format!("{}{HINT_MARK}{hint}", problem.message)),
        None => E::custom(problem.message),
    }
}

#[derive(Debug)]
struct ReadError {
    problem: Problem,
    place: Option<Place>,
}

impl ReadError {
    fn new(problem: Problem) -> Self {
        Self { problem, place: None }
    }

    /// The innermost place is the one to say.
    fn or_at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    /// As [`ReadError::or_at`]; the name of the value is said too.
    fn or_of(mut self, entry: &Entry) -> Self {
        if self.place.is_none() {
            self.problem.message = format!("`{}`: {}", entry.name, self.problem.message);
            self.place = Some(entry.node.place.clone());
        }
        self
    }
}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: Display>(message: T) -> Self {
        let text = message.to_string();
        Self::new(match text.split_once(HINT_MARK) {
            Some((message, hint)) => Problem::new(message).hint(hint),
            None => Problem::new(text),
        })
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::new(format!("is not {expected}")))
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::new(format!("is not {expected}")))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(Problem::new(format!("has {length} elements, not {expected}")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::new(format!("`{field}` is missing")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.iter().copied();
        Self::new(Problem::new(format!("unknown key `{field}`")).suggest(field, known))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let problem = Problem::new(format!("is none of {}", expected.join(", ")));
        Self::new(problem.suggest(variant, expected.iter().copied()))
    }
}

type Read<T> = std::result::Result<T, ReadError>;

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl<'a> Reader<'a> {
    fn scalar(self, wanted: &str) -> Read<&'a Scalar> {
        match &self.0.value {
            Value::Scalar(scalar) => Ok(scalar),
            _ => Err(ReadError::new(Problem::new(format!(
                "is {} where {wanted} is wanted",
                self.0.kind()
            )))),
        }
    }

    fn number<T: std::str::FromStr>(self, wanted: &str) -> Read<T> {
        let text = self.scalar(wanted)?.text.trim();
        text.parse().map_err(|_syntax| ReadError::new(Problem::new(format!("is not {wanted}"))))
    }
}

/// One `deserialize_…` per type of number, all alike.
macro_rules! numbers {
    ($($deserialize:ident $visit:ident $wanted:literal;)*) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
            visitor.$visit(self.number($wanted)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    /// For types that take anything: quoted is text, the rest is what it looks like.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match &self.0.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Null => visitor.visit_unit(),
            Value::Scalar(Scalar { text, quoted: true }) => visitor.visit_str(text),
            Value::Scalar(Scalar { text, .. }) => match text.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => match (text.parse::<i64>(), text.parse::<u64>(), text.parse::<f64>()) {
                    (Ok(number), ..) => visitor.visit_i64(number),
                    (_, Ok(number), _) => visitor.visit_u64(number),
                    (.., Ok(number)) if number.is_finite() => visitor.visit_f64(number),
                    _ => visitor.visit_str(text),
                },
            },
        }
    }

    numbers! {
        deserialize_i8 visit_i8 "a whole number";
        deserialize_i16 visit_i16 "a whole number";
        deserialize_i32 visit_i32 "a whole number";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_u8 visit_u8 "a whole number from 0 to 255";
        deserialize_u16 visit_u16 "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 "a whole number from 0";
        deserialize_u64 visit_u64 "a whole number from 0";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
        deserialize_char visit_char "one character";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let text = &self.scalar("true or false")?.text;
        match value::boolean(text) {
            Ok(truth) => visitor.visit_bool(truth),
            Err(problem) => Err(ReadError::new(Problem {
                message: "is neither true nor false".to_owned(),
                ..problem
            })),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_str(&self.scalar("a text")?.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match &self.0.value {
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            _ => Err(ReadError::new(Problem::new(format!(
                "is {} where a list is wanted",
                self.0.kind()
            )))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match &self.0.value {
            Value::Map(entries) => {
                let fields = Fields { entries: entries.iter(), current: None };
                visitor.visit_map(fields).map_err(|error| error.or_at(&self.0.place))
            }
            // A section that is there and empty has its defaults.
            Value::Null => visitor.visit_map(Fields { entries: [].iter(), current: None }),
            _ => Err(ReadError::new(Problem::new(format!(
                "is {} where a map is wanted",
                self.0.kind()
            )))),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        match &self.0.value {
            Value::Scalar(scalar) => visitor.visit_enum(scalar.text.as_str().into_deserializer()),
            Value::Map(entries) if entries.len() == 1 => visitor.visit_enum(Variant(&entries[0])),
            _ => Err(ReadError::new(Problem::new(format!(
                "is {} where a name is wanted",
                self.0.kind()
            )))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|error| error.or_at(&item.place))
    }
}

struct Fields<'a> {
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        let name: de::value::StrDeserializer<'_, ReadError> =
            entry.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| error.or_at(&entry.place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<T::Value> {
        let entry = self
            .current
            .ok_or_else(|| ReadError::new(Problem::new("a value was asked for before its name")))?;
        seed.deserialize(Reader(&entry.node)).map_err(|error| error.or_of(entry))
    }
}

/// `name: value` for a variant that holds something.
struct Variant<'a>(&'a Entry);

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = ReadError;
    type Variant = Held<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<(T::Value, Held<'a>)> {
        let name: de::value::StrDeserializer<'_, ReadError> =
            self.0.name.as_str().into_deserializer();
        let variant = seed.deserialize(name).map_err(|error| error.or_at(&self.0.place))?;
        Ok((variant, Held(self.0)))
    }
}

struct Held<'a>(&'a Entry);

impl<'de> VariantAccess<'de> for Held<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Read<()> {
        Err(ReadError::new(Problem::new("holds nothing")).or_of(self.0))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<T::Value> {
        seed.deserialize(Reader(&self.0.node)).map_err(|error| error.or_of(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Read<V::Value> {
        de::Deserializer::deserialize_seq(Reader(&self.0.node), visitor)
            .map_err(|error| error.or_of(self.0))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        de::Deserializer::deserialize_map(Reader(&self.0.node), visitor)
            .map_err(|error| error.or_of(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::{parse_toml, parse_yaml};

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Section {
        name: String,
        port: u16,
        rate: f64,
        on: bool,
        wait: GoDuration,
        size: Option<ByteSize>,
        maybe: Option<i32>,
        list: Vec<String>,
        map: BTreeMap<String, u8>,
        kind: Kind,
        http: Http,
        any: Option<serde_json::Value>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Kv,
        Object,
        Sized(u32),
        Full {
            depth: u8,
        },
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Http {
        #[default]
        Nothing,
        Word(String),
        Listen {
            listen: String,
        },
    }

    fn section(yaml: &str) -> Section {
        parse_yaml("a.yml", yaml).unwrap().read().unwrap()
    }

    #[test]
    fn a_scalar_becomes_what_the_type_wants() {
        let yaml = "name: 007\nport: \"80\"\nrate: 1e2\non: yes\nwait: 1h30m\nsize: 1GiB\nmaybe: ~\n\
                    list: [1, true, x]\nmap: {a: 1}\nkind: object\nhttp: {listen: x}\n";
        let expected = Section {
            name: "007".into(),
            port: 80,
            rate: 100.0,
            on: true,
            wait: GoDuration(Duration::from_secs(5400)),
            size: Some(ByteSize(1 << 30)),
            maybe: None,
            list: vec!["1".into(), "true".into(), "x".into()],
            map: BTreeMap::from([("a".into(), 1)]),
            kind: Kind::Object,
            http: Http::Listen { listen: "x".into() },
            any: None,
        };
        assert_eq!(section(yaml), expected);
        let toml = "name = \"007\"\nport = 80\nrate = 100.0\non = true\nwait = \"90m\"\n\
                    size = 1073741824\nlist = [\"1\", \"true\", \"x\"]\nkind = \"object\"\n\
                    [map]\na = 1\n[http]\nlisten = \"x\"\n";
        assert_eq!(parse_toml("a.toml", toml).unwrap().read::<Section>().unwrap(), expected);
    }

    #[test]
    fn the_rest_of_serde() {
        assert_eq!(section(""), Section::default(), "an empty file has the defaults");
        assert_eq!(section("maybe: -5").maybe, Some(-5));
        assert_eq!(section("kind: {sized: 7}").kind, Kind::Sized(7));
        assert_eq!(section("kind: {full: {depth: 2}}").kind, Kind::Full { depth: 2 });
        assert_eq!(section("http: none").http, Http::Word("none".into()));
        let any = section("any: {a: [1, 2.5, true, x, \"1\", ~]}").any.unwrap();
        assert_eq!(any.to_string(), r#"{"a":[1,2.5,true,"x","1",null]}"#);
    }

    #[test]
    fn an_error_has_its_place_and_no_value() {
        for (yaml, message, hint) in [
            ("naem: x", "a.yml:1:1: unknown key `naem`", Some("did you mean `name`?")),
            ("\nport: s3cr3t", "a.yml:2:7: `port`: is not a whole number from 0 to 65535", None),
            ("port: 70000", "a.yml:1:7: `port`: is not a whole number from 0 to 65535", None),
            ("rate: s3cr3t", "a.yml:1:7: `rate`: is not a number", None),
            (
                "on: s3cr3t",
                "a.yml:1:5: `on`: is neither true nor false",
                Some("write `true` or `false`"),
            ),
            (
                "wait: 5",
                "a.yml:1:7: `wait`: `5` has no unit",
                Some("write it as `5s`, `250ms` or `1h30m`"),
            ),
            ("name: [s3cr3t]", "a.yml:1:7: `name`: is a list where a text is wanted", None),
            ("list: s3cr3t", "a.yml:1:7: `list`: is a text where a list is wanted", None),
            ("list: [a, {b: s3cr3t}]", "a.yml:1:11: is a map where a text is wanted", None),
            ("map: s3cr3t", "a.yml:1:6: `map`: is a text where a map is wanted", None),
            ("map: {a: s3cr3t}", "a.yml:1:10: `a`: is not a whole number from 0 to 255", None),
            (
                "kind: objct",
                "a.yml:1:7: `kind`: is none of kv, object, sized, full",
                Some("did you mean `object`?"),
            ),
            ("kind: {full: {}}", "a.yml:1:14: `depth` is missing", None),
            ("[s3cr3t]", "a.yml:1:1: is a list where a map is wanted", None),
        ] {
            let error = parse_yaml("a.yml", yaml).unwrap().read::<Section>().unwrap_err();
            assert_eq!((error.message(), error.hint_text()), (Some(message), hint), "{yaml}");
        }
    }
}
