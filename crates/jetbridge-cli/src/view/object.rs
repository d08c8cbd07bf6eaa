//! Objects and their changes.

use jetbridge_core::{BucketName, ObjectChange, ObjectInfo};
use serde::Serialize;

use super::{Fields, fields};
use crate::format;
use crate::printer::{Row, Text, View};

/// What is known of an object.
#[derive(Serialize)]
pub(crate) struct ObjectView {
    bucket: String,
    name: String,
    size: u64,
    chunks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    revision: u64,
    modified: String,
    #[serde(skip)]
    modified_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    headers: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkView>,
}

#[derive(Serialize)]
struct LinkView {
    bucket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl LinkView {
    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{} in {}", format::shown(name), self.bucket),
            None => format!("the bucket {}", self.bucket),
        }
    }
}

impl ObjectView {
    pub(crate) fn of(bucket: &BucketName, info: &ObjectInfo) -> Self {
        Self {
            bucket: bucket.to_string(),
            name: info.name.to_string(),
            size: info.size,
            chunks: info.chunks,
            digest: info.digest.map(|digest| digest.to_string()),
            revision: info.revision.0,
            modified: format::exact_time(info.modified),
            modified_text: format::time(info.modified),
            description: info.description.clone(),
            headers: fields(&info.headers),
            link: info.link.as_ref().map(|link| LinkView {
                bucket: link.bucket.to_string(),
                name: link.name.as_ref().map(ToString::to_string),
            }),
        }
    }
}

impl View for ObjectView {
    fn text(&self, out: &mut Text) {
        out.field("object", format::shown(&self.name));
        out.field("bucket", &self.bucket);
        if let Some(link) = &self.link {
            out.field("link to", link.text());
        }
        if let Some(description) = &self.description {
            out.field("description", format::shown(description));
        }
        out.field("size", format_args!("{} ({} bytes)", format::size(self.size), self.size));
        out.field("chunks", self.chunks);
        if let Some(digest) = &self.digest {
            out.field("digest", digest);
        }
        for (name, value) in
            self.headers.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)))
        {
            out.field("header", format_args!("{name}: {}", format::shown(value)));
        }
        out.field("modified", &self.modified_text);
        out.field("revision", self.revision);
    }
}

impl Row for ObjectView {
    const TITLES: &'static [&'static str] = &["OBJECT", "SIZE", "MODIFIED"];

    fn cells(&self) -> Vec<String> {
        let name = format::shown(&self.name);
        let name = match &self.link {
            Some(link) => format!("{name} -> {}", link.text()),
            None => name.into_owned(),
        };
        vec![name, format::size(self.size), self.modified_text.clone()]
    }
}

/// That an object was stored.
#[derive(Serialize)]
pub(crate) struct Stored(pub(crate) ObjectView);

impl View for Stored {
    fn text(&self, out: &mut Text) {
        let Self(object) = self;
        let name = format::shown(&object.name);
        out.line(format_args!("{name}, {} bytes, revision {}", object.size, object.revision));
    }
}

/// A change of an object.
#[derive(Serialize)]
pub(crate) struct ObjectChangeView {
    change: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    object: Option<ObjectView>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    deleted: Option<DeletedObject>,
}

#[derive(Serialize)]
struct DeletedObject {
    name: String,
    revision: u64,
}

impl ObjectChangeView {
    pub(crate) fn of(bucket: &BucketName, change: &ObjectChange) -> Self {
        match change {
            ObjectChange::Put(info) => {
                Self { change: "put", object: Some(ObjectView::of(bucket, info)), deleted: None }
            }
            ObjectChange::Delete { name, revision } => {
                let deleted = DeletedObject { name: name.to_string(), revision: revision.0 };
                Self { change: "del", object: None, deleted: Some(deleted) }
            }
            ObjectChange::CaughtUp => Self { change: "caught_up", object: None, deleted: None },
        }
    }
}

impl View for ObjectChangeView {
    fn text(&self, out: &mut Text) {
        if let Some(object) = &self.object {
            let name = format::shown(&object.name);
            out.line(format_args!(
                "{} put {} {} bytes {name}",
                object.modified_text, object.revision, object.size
            ));
        }
        if let Some(deleted) = &self.deleted {
            out.line(format_args!("del {} {}", deleted.revision, format::shown(&deleted.name)));
        }
    }
}
