//! A small object of which everybody is to know who wrote it last: it is replaced and deleted
//! only over the revision that is known.

use std::fmt;

use bytes::Bytes;
use jetbridge_core::{
    DeleteOpts, Digest, Error, ErrorKind, Expect, ObjectName, ObjectPut, ObjectsExt as _, Outcome,
    Result, Revision,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::store::Replica;

/// Bytes of a note at most.
const BYTES_MAX: u64 = 4096;

/// A place for a note.
#[derive(Clone)]
pub(super) struct Note {
    replica: Replica,
    name: ObjectName,
    operation: &'static str,
}

/// A note that was put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) revision: Revision,
    /// When the put that is known to have happened was sent.
    pub(super) sent: Instant,
}

impl Note {
    /// The note of that name beside the files of `replica`.
    pub(super) fn beside(replica: &Replica, name: &str, operation: &'static str) -> Result<Self> {
        Ok(Self { replica: replica.clone(), name: replica.beside(name)?, operation })
    }

    /// What it says, by which revision.
    pub(super) async fn read<T: DeserializeOwned>(&self) -> Result<Option<(T, Revision)>> {
        let objects = self.replica.objects();
        let reading = async {
            let Some(info) = objects.info(&self.name).await? else { return Ok(None) };
            let bytes = objects.get_bytes(&self.name, BYTES_MAX).await?;
            Ok(bytes.map(|bytes| (bytes, info.revision)))
        };
        let found = self.replica.in_time(self.operation, reading).await?;
        let Some((bytes, revision)) = found else { return Ok(None) };
        let text = serde_json::from_slice(&bytes).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, self.operation)
                .because("what says who writes cannot be read")
                .with("object", &self.name)
                .caused_by(cause)
                .hint("delete the object if nothing writes to the replica")
        })?;
        Ok(Some((text, revision)))
    }

    /// Its revision, whatever it says.
    pub(super) async fn revision(&self) -> Result<Option<Revision>> {
        let looking = self.replica.objects().info(&self.name);
        let found = self.replica.in_time(self.operation, looking).await?;
        Ok(found.map(|info| info.revision))
    }

    /// Puts it; an answer that was lost is settled. `text` says something that no other put says.
    pub(super) async fn put(&self, text: &impl Serialize, expect: Expect) -> Result<Written> {
        let text = serde_json::to_vec(text)
            .map_err(|cause| Error::new(ErrorKind::Internal, self.operation).caused_by(cause))?;
        let (bytes, digest) = (Bytes::from(text.clone()), Digest::of(&text));
        let sent = Instant::now();
        let objects = self.replica.objects();
        let putting = objects.put_bytes(&self.name, bytes, ObjectPut::new().expect(expect));
        let error = match self.replica.in_time(self.operation, putting).await {
            Ok(info) => return Ok(Written { revision: info.revision, sent }),
            Err(error) => error,
        };
        let unclear = error.kind() == ErrorKind::Conflict || error.outcome() == Outcome::Unknown;
        if unclear || error.kind() == ErrorKind::Unavailable {
            let looking = objects.info(&self.name);
            let found = self.replica.in_time(self.operation, looking).await?;
            if let Some(info) = found.filter(|info| info.digest == Some(digest)) {
                return Ok(Written { revision: info.revision, sent });
            }
        }
        Err(error)
    }

    /// Deletes it, if it is still that one; `false` if it is another.
    pub(super) async fn delete(&self, opts: DeleteOpts) -> Result<bool> {
        let deleting = self.replica.objects().delete(&self.name, opts);
        match self.replica.in_time(self.operation, deleting).await {
            Ok(_revision) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note({})", self.name)
    }
}
