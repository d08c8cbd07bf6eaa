//! What values look like: a struct for each, whose fields are the JSON and whose text is for
//! people. Names of fields end in their unit where they have one; what is not there is left out.

pub(crate) mod bucket;
pub(crate) mod copy;
pub(crate) mod entry;
pub(crate) mod limit;
pub(crate) mod message;
pub(crate) mod object;
pub(crate) mod store;
pub(crate) mod stream;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetbridge_core::{Headers, Support};
use serde::Serialize;

use crate::printer::{Text, View};

/// Header fields: each name with its values in order.
pub(crate) type Fields = BTreeMap<String, Vec<String>>;

/// Headers as they are shown.
pub(crate) fn fields(headers: &Headers) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers.iter() {
        fields.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    fields
}

/// Bytes as JSON: as text if they are UTF-8, else in base64 under another name.
pub(crate) fn bytes(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_binary) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// Whether something is there, in a word.
pub(crate) fn support(support: Support) -> &'static str {
    match support {
        Support::Native => "native",
        Support::Emulated => "emulated",
        Support::No => "no",
    }
}

/// A number: a sum, a count.
#[derive(Serialize)]
pub(crate) struct Number<N> {
    pub(crate) value: N,
}

impl<N: Serialize + std::fmt::Display> View for Number<N> {
    fn text(&self, out: &mut Text) {
        out.line(&self.value);
    }
}

/// A name.
#[derive(Serialize)]
pub(crate) struct Name {
    pub(crate) name: String,
}

impl View for Name {
    fn text(&self, out: &mut Text) {
        out.line(crate::format::shown(&self.name));
    }
}

/// That something was deleted.
#[derive(Serialize)]
pub(crate) struct Deleted {
    pub(crate) name: String,
    pub(crate) deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<u64>,
}

impl View for Deleted {
    fn text(&self, out: &mut Text) {
        if let Some(revision) = self.revision {
            out.line(format_args!("revision {revision}"));
        }
    }
}
