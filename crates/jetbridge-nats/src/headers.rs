//! Header names of JetStream and our own, and the way between [`Headers`] and the wire's map.

use std::str::FromStr as _;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};

use jetbridge_core::{Error, ErrorKind, Headers, Result};

/// The write only happens if the last message on the subject has this sequence; 0 is "none".
pub(crate) const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The write only happens in this stream.
pub(crate) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// Names a message for deduplication within the stream's window.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// What the message adds to a counter, with its sign; since 2.12.
pub(crate) const INCREMENT: &str = "Nats-Incr";
/// `sub` forgets the earlier messages on the subject.
pub(crate) const ROLLUP: &str = "Nats-Rollup";
/// Seconds, or a Go duration, after which the message goes; since 2.11.
pub(crate) const TTL: &str = "Nats-TTL";
/// Why the server placed a marker: `MaxAge`, `Purge` or `Remove`.
pub(crate) const MARKER_REASON: &str = "Nats-Marker-Reason";
/// `DEL` or `PURGE` on a tombstone of a bucket of keys.
pub(crate) const KV_OPERATION: &str = "KV-Operation";
/// Direct get: the stream whose copy answers.
pub(crate) const STREAM: &str = "Nats-Stream";
/// Direct get of many: how many messages the answer left out.
pub(crate) const PENDING: &str = "Nats-Num-Pending";
/// Direct get: the subject of the message.
pub(crate) const SUBJECT: &str = "Nats-Subject";
/// Direct get: the sequence of the message.
pub(crate) const SEQUENCE: &str = "Nats-Sequence";
/// Direct get: when the stream took the message, RFC 3339.
pub(crate) const TIME_STAMP: &str = "Nats-Time-Stamp";
/// Direct get of many: the sequence up to which the answer holds.
pub(crate) const UP_TO_SEQUENCE: &str = "Nats-UpTo-Sequence";
/// When a value expires, Unix milliseconds; ours, obeyed by readers.
pub(crate) const EXPIRES: &str = "Jetbridge-Expires";
/// Which write it was, so that a lost acknowledgement can be settled by reading; ours.
pub(crate) const WRITE: &str = "Jetbridge-Write";

/// True for names that the server or this crate gives meaning to, which no writer may set. Those
/// of services are agreed among clients: a responder says by them that it failed.
pub(crate) fn is_reserved(name: &str) -> bool {
    const OF_THE_SERVER: &str = "Nats-";
    const OF_SERVICES: &str = "Nats-Service-";
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    (begins(OF_THE_SERVER) && !begins(OF_SERVICES))
        || [KV_OPERATION, EXPIRES, WRITE].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The wire's form of a writer's headers; reserved names are refused.
pub(crate) fn to_wire(headers: &Headers, operation: &'static str) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let bad = |why: &str| {
            Error::new(ErrorKind::InvalidInput, operation).because(why).with("header", name)
        };
        if is_reserved(name) {
            return Err(bad("this header belongs to the store"));
        }
        let wire_name =
            HeaderName::from_str(name).map_err(|cause| bad("not a name").caused_by(cause))?;
        let value =
            HeaderValue::from_str(value).map_err(|cause| bad("not one line").caused_by(cause))?;
        map.append(wire_name, value);
    }
    Ok(map)
}

/// The first value of a field. The map is small, and a look-up in it makes a name first.
pub(crate) fn field<'a>(map: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut fields = map.iter();
    let (_, values) = fields.find(|(field, _)| AsRef::<str>::as_ref(*field) == name)?;
    values.first().map(HeaderValue::as_str)
}

/// Adds one of the store's headers whose value comes from outside.
pub(crate) fn insert(
    map: &mut HeaderMap,
    name: &'static str,
    value: &str,
    operation: &'static str,
) -> Result<()> {
    let value = HeaderValue::from_str(value).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, operation)
            .because("a header value is one line")
            .with("header", name)
            .caused_by(cause)
    })?;
    map.insert(name, value);
    Ok(())
}

/// A message's headers as its writer set them, by name; those of the store are left out.
pub(crate) fn from_wire(map: Option<&HeaderMap>) -> Headers {
    let mut headers = Headers::new();
    let Some(map) = map else { return headers };
    let mut fields: Vec<(&str, &[HeaderValue])> = map
        .iter()
        .map(|(name, values)| (name.as_ref(), values.as_slice()))
        .filter(|(name, _)| !is_reserved(name))
        .collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    for (name, values) in fields {
        for value in values {
            headers.push_wire(name, value.as_str());
        }
    }
    headers
}

/// Bytes of the header block on the wire, as the server counts them.
pub(crate) fn wire_bytes(map: &HeaderMap) -> usize {
    /// `NATS/1.0` and the empty line, each with its line end.
    const FRAME: usize = 12;
    /// `: ` and the line end.
    const FIELD: usize = 4;
    if map.is_empty() {
        return 0;
    }
    let field = |name: &HeaderName, value: &HeaderValue| {
        AsRef::<str>::as_ref(name).len() + value.as_str().len() + FIELD
    };
    FRAME
        + map
            .iter()
            .map(|(name, values)| values.iter().map(|value| field(name, value)).sum::<usize>())
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_own_names() {
        let headers = Headers::new().with("Nats-TTL", "1").unwrap();
        assert_eq!(to_wire(&headers, "kv.put").unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut map = to_wire(&Headers::new().with("A", "1").unwrap(), "kv.put").unwrap();
        map.insert(WRITE, "x");
        assert_eq!(from_wire(Some(&map)), Headers::new().with("A", "1").unwrap());
    }

    #[test]
    fn a_field_is_found_by_its_name_as_written() {
        let mut map = HeaderMap::new();
        map.insert(SEQUENCE, "7");
        map.append("A", "1");
        map.append("A", "2");
        assert_eq!((field(&map, SEQUENCE), field(&map, "A")), (Some("7"), Some("1")));
        assert_eq!(field(&map, "a"), None);
    }

    #[test]
    fn a_block_is_measured_as_the_core_measures_it() {
        let headers = Headers::new().with("Name", "value").unwrap();
        assert_eq!(wire_bytes(&to_wire(&headers, "kv.put").unwrap()), headers.wire_bytes());
    }
}
