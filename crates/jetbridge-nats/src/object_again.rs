//! Small objects that are read again: in one round trip instead of two.
//!
//! Where the bytes of an object are stands in its meta, so a get asks twice. Of an object of one
//! chunk that was read before, both are asked for at once, and the chunk is of use only if the
//! meta still names it: what a caller gets is what the meta says, as ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join;

use jetbridge_core::{ObjectName, Result};

use crate::object::Shelf;
use crate::object_get::OPERATION;
use crate::object_meta::{Meta, Placed};

/// Objects remembered for one handle on a bucket, at about 100 bytes each.
const REMEMBERED_MAX: usize = 1024;

/// Which upload an object of one chunk was when it was last read.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<ObjectName, Box<str>>>);

impl Remembered {
    /// Takes note of what was read as `name`.
    pub(crate) fn note(&self, name: &ObjectName, meta: &Meta) {
        let mut uploads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if meta.chunks != 1 {
            uploads.remove(name);
            return;
        }
        if uploads.len() >= REMEMBERED_MAX && !uploads.contains_key(name) {
            // Whoever reads that many is served by beginning anew.
            uploads.clear();
        }
        uploads.insert(name.clone(), meta.nuid.as_str().into());
    }

    fn upload(&self, name: &ObjectName) -> Option<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// An object's meta as it is now, and its only chunk, if that was remembered rightly.
pub(crate) async fn meta_and_chunk(
    shelf: &Shelf,
    name: &ObjectName,
) -> Result<(Option<Placed>, Option<Bytes>)> {
    let remembered = shelf.remembered.upload(name).filter(|_| shelf.copies.direct);
    let Some(upload) = remembered else { return Ok((shelf.meta(name, OPERATION).await?, None)) };
    let (subject, call) =
        (shelf.chunk_subject(&upload), shelf.api.link().repeatable(OPERATION).first_attempt());
    let chunk = shelf.api.direct_last(&shelf.stream, &subject, &call);
    let (placed, chunk) = join(shelf.meta(name, OPERATION), chunk).await;
    let placed = placed?;
    let still = |placed: &Placed| {
        let meta = &placed.meta;
        !meta.deleted && !meta.is_link() && meta.chunks == 1 && *meta.nuid == *upload
    };
    // A chunk that could not be had is asked for again in the usual way.
    let chunk = chunk.ok().flatten().filter(|_| placed.as_ref().is_some_and(still));
    Ok((placed, chunk.map(|stored| stored.payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(of: &Remembered, name: &str) -> Option<Box<str>> {
        of.upload(&ObjectName::parse(name).unwrap())
    }

    #[test]
    fn only_the_last_upload_of_one_chunk_is_remembered() {
        let memory = Remembered::default();
        let name = ObjectName::parse("a").unwrap();
        let meta = |nuid: &str, chunks| Meta { nuid: nuid.to_owned(), chunks, ..Meta::default() };
        memory.note(&name, &meta("one", 1));
        memory.note(&name, &meta("two", 1));
        assert_eq!(remembered(&memory, "a").as_deref(), Some("two"));
        memory.note(&name, &meta("three", 2));
        assert_eq!(remembered(&memory, "a"), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = Remembered::default();
        let meta = Meta { nuid: "n".to_owned(), chunks: 1, ..Meta::default() };
        for number in 0..=REMEMBERED_MAX {
            memory.note(&ObjectName::parse(number.to_string()).unwrap(), &meta);
        }
        assert_eq!(remembered(&memory, "0"), None);
        assert!(remembered(&memory, &REMEMBERED_MAX.to_string()).is_some());
    }
}
