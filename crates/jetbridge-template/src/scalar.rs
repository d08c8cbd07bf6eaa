//! What a plain scalar means, and how a computed one is written.
//!
//! YAML 1.2's core schema, with what files of the 1.1 era rely on: `yes`, `no`, `on`, `off`,
//! leading-zero octals and underscores in numbers. `y` and `n` stay text. A lexeme is kept
//! beside its value, so reading never changes what is printed.

use std::sync::Arc;

use crate::tree::Value;

/// The value of a plain scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::Str(Arc::from(text)))
}

/// The number that `text` writes, if it is one.
pub(crate) fn number(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = unsigned.bytes().next()?;
    if !(first.is_ascii_digit() || first == b'.') {
        return None;
    }
    let digits: String = unsigned.chars().filter(|c| *c != '_').collect();
    let negative = text.starts_with('-');
    let radix = match digits.get(..2) {
        Some("0x") => Some((16, &digits[2..])),
        Some("0o") => Some((8, &digits[2..])),
        Some("0b") => Some((2, &digits[2..])),
        _ if digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()) && first == b'0' => {
            Some((8, &digits[1..]))
        }
        _ => None,
    };
    if let Some((radix, body)) = radix {
        if body.starts_with(['+', '-']) {
            return None;
        }
        let value = i64::from_str_radix(body, radix).ok()?;
        return Some(Value::Int(if negative { -value } else { value }));
    }
    let signed = if negative { format!("-{digits}") } else { digits };
    if signed.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return match signed.parse() {
            Ok(value) => Some(Value::Int(value)),
            Err(_) if !signed[1..].contains('-') => signed.parse().ok().map(Value::Float),
            Err(_) => None,
        };
    }
    let float = signed.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    float.then(|| signed.parse().ok().map(Value::Float)).flatten()
}

/// The shortest text that reads back as `f`.
pub(crate) fn float_text(f: f64) -> String {
    /// From here on a float is written with an exponent.
    const PLAIN_MAX: f64 = 1e21;
    if f.is_nan() {
        return ".nan".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    if f != 0.0 && (f.abs() >= PLAIN_MAX || f.abs() < 1e-5) {
        let text = format!("{f:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => {
                format!("{mantissa}e+{exponent}")
            }
            _ => text,
        };
    }
    f.to_string()
}

/// True if `text` may stand plain and still be read as this text, by readers of YAML 1.1 too.
pub(crate) fn is_plain_safe(text: &str) -> bool {
    if !matches!(resolve(text), Value::Str(_)) || matches!(text, "y" | "Y" | "n" | "N" | "<<" | "=")
    {
        return false;
    }
    if is_marker(text) {
        return false;
    }
    let Some(first) = text.chars().next() else { return false };
    if text.ends_with([' ', ':']) || "-?:,[]{}#&*!|>'\"%@` ".contains(first) {
        let dashed = first == '-' && text.len() > 1 && !text.starts_with("- ");
        if !dashed || text.ends_with([' ', ':']) {
            return false;
        }
    }
    let odd = |c: char| c.is_control() || c == '\u{feff}' || ('\u{2028}'..='\u{2029}').contains(&c);
    !(text.contains(": ") || text.contains(" #") || text.chars().any(odd) || is_temporal(text))
}

/// True for what starts or ends a document where it begins a line.
pub(crate) fn is_marker(text: &str) -> bool {
    text.starts_with("---") || text.starts_with("...")
}

/// Dates and sexagesimal numbers, which readers of YAML 1.1 convert.
fn is_temporal(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b"-:.TtZz+ ".contains(&b))
        && text.bytes().any(|b| b"-:".contains(&b))
}

/// `text` in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                // Control characters are all below U+FFFF; writing to a string cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_versions_are_read() {
        for (text, expected) in
            [("42", 42), ("-7", -7), ("0755", 493), ("0x1F", 31), ("1_000", 1000), ("0o17", 15)]
        {
            assert!(matches!(resolve(text), Value::Int(n) if n == expected), "{text}");
        }
        for text in ["1e3", "1.5", ".5", "-2.25", "1234567.89"] {
            assert!(matches!(resolve(text), Value::Float(_)), "{text}");
        }
        for text in ["1.2.3", "12:30", "y", "n", "48502e2g", "-", "0x", "2020-01-01", "1-2"] {
            assert!(matches!(resolve(text), Value::Str(_)), "{text}");
        }
    }

    #[test]
    fn floats_read_back_as_themselves() {
        for f in [0.0, 1.5, 1_234_567.89, 1e300, 1e-9, 1_700_000_000.123] {
            assert!(
                matches!(resolve(&float_text(f)), Value::Float(g) if g == f)
                    || matches!(resolve(&float_text(f)), Value::Int(n) if crate::tree::as_float(n) == f)
            );
        }
    }
}
