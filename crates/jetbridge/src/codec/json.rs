//! JSON, byte for byte as Go's `encoding/json` writes it, and with it evo: programs that compare,
//! hash or cache the bytes see no difference. That means `\u003c` for `<`, and numbers without a
//! needless `.0`. What differs stays the caller's: Go sorts the keys of maps (use a `BTreeMap`)
//! and writes byte slices as base64.

use std::io;

use serde::Serialize as _;
use serde_json::ser::Formatter;

use super::{Codec, CodecError, Visit, erased_serde};

/// JSON as Go's `encoding/json` and evo write it.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a codec without settings")]
pub struct Json;

impl Codec for Json {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn reads(&self, media_type: &str) -> bool {
        matches!(media_type, "application/json" | "text/json") || media_type.ends_with("+json")
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::with_capacity(128);
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, AsGo))?;
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut reader))?;
        Ok(reader.end()?)
    }
}

/// What `encoding/json` does otherwise than serde_json.
struct AsGo;

impl Formatter for AsGo {
    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        let size = value.abs();
        let exponential = size != 0.0 && !(1e-6..1e21).contains(&size);
        write_float(writer, exponential, &value)
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        let exponential = size != 0.0 && !(1e-6..1e21).contains(&size);
        write_float(writer, exponential, &value)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Legal in JSON, but not inside HTML or old JavaScript.
fn is_escaped(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// The shortest digits that read back the same; both languages agree on those.
fn write_float<W, F>(writer: &mut W, exponential: bool, value: &F) -> io::Result<()>
where
    W: ?Sized + io::Write,
    F: std::fmt::Display + std::fmt::LowerExp,
{
    if !exponential {
        return write!(writer, "{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            write!(writer, "{digits}e+{exponent}")
        }
        _ => writer.write_all(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &dyn erased_serde::Serialize, json: &str) {
        let bytes = Json.encode(value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), json);
    }

    /// The right-hand sides were written by evo's own package, `github.com/getevo/json`
    /// v0.0.0-20240816130540, a fork of `encoding/json`.
    #[test]
    fn numbers_are_those_of_go() {
        check(&1.0_f64, "1");
        check(&-0.0_f64, "-0");
        check(&0.1_f64, "0.1");
        check(&100.5_f32, "100.5");
        check(&1e20_f64, "100000000000000000000");
        check(&1e21_f64, "1e+21");
        check(&1.5e-7_f64, "1.5e-7");
        check(&0.000_001_f64, "0.000001");
        check(&1.234_567_89e-10_f64, "1.23456789e-10");
        check(&f64::MAX, "1.7976931348623157e+308");
        check(&f64::MIN_POSITIVE, "2.2250738585072014e-308");
        check(&f32::MAX, "3.4028235e+38");
        check(&9_007_199_254_740_993_i64, "9007199254740993");
    }

    #[test]
    fn text_is_that_of_go() {
        check(&"<a href=\"x\">&</a>", r#""\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e""#);
        check(&"a\u{2028}b\u{2029}", r#""a\u2028b\u2029""#);
        check(
            &"\u{8}\u{c}\n\r\t\\\u{1}\u{1f}\u{7f}",
            "\"\\b\\f\\n\\r\\t\\\\\\u0001\\u001f\u{7f}\"",
        );
        check(&"é€𝄞", "\"é€𝄞\"");
    }
}
