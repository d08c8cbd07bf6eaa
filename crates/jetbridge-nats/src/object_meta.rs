//! An object's meta message, as every NATS client writes and reads it (ADR-20).

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};

use jetbridge_core::{
    BucketName, Digest, Error, ErrorKind, Headers, Link, ObjectInfo, ObjectName, Result, Revision,
};

/// The JSON of a meta message. Fields that this crate does not use are kept out: a meta is
/// written whole or not at all.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Meta {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) options: Option<Options>,
    #[serde(default)]
    pub(crate) bucket: String,
    #[serde(default)]
    pub(crate) nuid: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) chunks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleted: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<LinkMeta>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_chunk_size: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct LinkMeta {
    #[serde(default)]
    pub(crate) bucket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// A meta and where it stands in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) meta: Meta,
    pub(crate) sequence: u64,
    pub(crate) time: SystemTime,
}

impl Meta {
    pub(crate) fn parse(payload: &[u8], subject: &str) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "object.info")
                .because("what describes the object is not readable")
                .with("subject", subject)
                .caused_by(cause)
        })
    }

    pub(crate) fn is_link(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.link.is_some())
    }

    /// The headers as the wire has them; `None` if there are none.
    pub(crate) fn headers_to_wire(headers: &Headers) -> Option<BTreeMap<String, Vec<String>>> {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers.iter() {
            map.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        (!map.is_empty()).then_some(map)
    }
}

impl Placed {
    /// What the seam tells of it.
    pub(crate) fn info(&self) -> Result<ObjectInfo> {
        let corrupt = |cause: Error| {
            Error::new(ErrorKind::Corrupt, "object.info")
                .because("what describes the object is not readable")
                .with("object", &self.meta.name)
                .caused_by(cause)
        };
        let name = ObjectName::parse(&self.meta.name).map_err(corrupt)?;
        let mut info = ObjectInfo::new(name, Revision(self.sequence), self.time);
        info.size = self.meta.size;
        info.chunks = self.meta.chunks;
        info.description.clone_from(&self.meta.description);
        let digest = self.meta.digest.as_deref().filter(|digest| !digest.is_empty());
        info.digest = digest.map(Digest::parse).transpose().map_err(corrupt)?;
        for (name, values) in self.meta.headers.iter().flatten() {
            values.iter().for_each(|value| info.headers.push_wire(name, value));
        }
        let link = self.meta.options.as_ref().and_then(|options| options.link.as_ref());
        info.link = link.map(link_of).transpose().map_err(corrupt)?;
        Ok(info)
    }
}

fn link_of(meta: &LinkMeta) -> Result<Link> {
    let bucket = BucketName::parse(&meta.bucket)?;
    match meta.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => Ok(Link::object(bucket, ObjectName::parse(name)?)),
        None => Ok(Link::bucket(bucket)),
    }
}

/// The token that stands for a name in a meta's subject.
pub(crate) fn token(name: &str) -> String {
    URL_SAFE.encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read() {
        let text = br#"{"name":"a b","headers":{"A":["1","2"]},"options":{"max_chunk_size":131072},
            "bucket":"files","nuid":"N","size":3,"mtime":"0001-01-01T00:00:00Z","chunks":1,
            "digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}"#;
        let meta = Meta::parse(text, "s").unwrap();
        let info = Placed { meta, sequence: 7, time: SystemTime::UNIX_EPOCH }.info().unwrap();
        assert_eq!((info.name.as_str(), info.size, info.revision.0), ("a b", 3, 7));
        assert_eq!(info.headers.iter().collect::<Vec<_>>(), [("A", "1"), ("A", "2")]);
        assert_eq!(info.digest, Some(Digest::of(b"")));
    }

    #[test]
    fn what_is_unreadable_is_corrupt() {
        assert_eq!(Meta::parse(b"{", "s").unwrap_err().kind(), ErrorKind::Corrupt);
        let meta =
            Meta { name: "a".to_owned(), digest: Some("MD5=x".to_owned()), ..Meta::default() };
        let placed = Placed { meta, sequence: 1, time: SystemTime::UNIX_EPOCH };
        assert_eq!(placed.info().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
