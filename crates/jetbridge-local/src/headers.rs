//! Headers as they are stored: a JSON list of pairs, or nothing.

use jetbridge_core::{Error, ErrorKind, Headers, Result};

/// `headers` as stored; `None` if there are none.
pub(crate) fn to_json(headers: &Headers) -> Option<String> {
    if headers.is_empty() {
        return None;
    }
    let fields = headers.iter().map(|(name, value)| serde_json::json!([name, value]));
    Some(serde_json::Value::Array(fields.collect()).to_string())
}

/// The inverse of [`to_json`].
pub(crate) fn from_json(stored: Option<&str>) -> Result<Headers> {
    let mut headers = Headers::new();
    let Some(stored) = stored else { return Ok(headers) };
    let fields: Vec<(String, String)> = serde_json::from_str(stored).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "kv.get")
            .because("stored headers cannot be read")
            .caused_by(error)
    })?;
    for (name, value) in &fields {
        headers.push_wire(name, value);
    }
    Ok(headers)
}
