//! What a row says of its object.

use jetbridge_core::{BucketName, Digest, Error, ErrorKind, Link, ObjectInfo, ObjectName, Result};
use serde::{Deserialize, Serialize};

use crate::bucket::rows::{self, Stored};
use crate::headers;

/// Bytes at rest: see `docs/formats/local.md`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    pub(super) size: u64,
    pub(super) chunks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<StoredLink>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredLink {
    bucket: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Meta {
    pub(super) fn of_link(link: &Link) -> Self {
        let bucket = link.bucket.to_string();
        let name = link.name.as_ref().map(ToString::to_string);
        Self { link: Some(StoredLink { bucket, name }), ..Self::default() }
    }

    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "object.info")
                .because("what is stored of the object cannot be read")
                .caused_by(error)
        })
    }

    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::new(ErrorKind::Internal, "object.put").caused_by(error))
    }

    pub(super) fn link(&self) -> Result<Option<Link>> {
        let Some(StoredLink { bucket, name }) = &self.link else { return Ok(None) };
        let bucket = BucketName::parse(bucket)?;
        Ok(Some(match name {
            Some(name) => Link::object(bucket, ObjectName::parse(name)?),
            None => Link::bucket(bucket),
        }))
    }

    pub(super) fn info(&self, name: ObjectName, stored: &Stored) -> Result<ObjectInfo> {
        let mut info = ObjectInfo::new(name, stored.revision, rows::time(stored.written));
        info.size = self.size;
        info.chunks = self.chunks;
        info.digest = self.digest.as_deref().map(Digest::parse).transpose()?;
        info.description.clone_from(&self.description);
        info.headers = headers::from_json(stored.headers.as_deref())?;
        info.link = self.link()?;
        Ok(info)
    }
}
