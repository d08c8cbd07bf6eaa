//! The fence: an object beside the files that says who writes to the replica.
//!
//! Its writer puts it again and again, each time over the revision it knows, and so learns at
//! once if somebody else has. A rival that sees it stand still for the writer's whole TTL, on
//! its own monotonic clock, takes it over; the same writer, come back, does so at once. It keeps
//! two replicators from working at cross purposes. That they cannot damage each other's files
//! even so is for [`Replica::put`]: a file that is there is never written over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    DeleteOpts, Digest, Error, ErrorKind, Expect, ObjectName, ObjectPut, ObjectsExt as _, Outcome,
    Result, Revision, Tasks,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::Replica;

const OPERATION: &str = "sqlite.fence";
/// What the object is called, beside `ltx/`.
const NAME: &str = "jetbridge-writer";
/// How long a writer may be silent before another takes its place.
const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// It is renewed when this part of the TTL has passed.
const RENEW_AFTER: u32 = 3;
/// A rival looks so often in a TTL whether the writer lives.
const LOOKS_PER_TTL: u32 = 20;
/// Bytes of the object at most.
const CLAIM_BYTES_MAX: u64 = 4096;

/// Who writes, and how long it may be silent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FenceOptions {
    /// Names the writer, and no other: it takes its place again at once.
    pub writer: String,
    /// How long it may be silent before another takes its place.
    pub ttl: Duration,
}

impl FenceOptions {
    /// A writer of that name, which may be silent for 30 s.
    pub fn new(writer: impl Into<String>) -> Self {
        Self { writer: writer.into(), ttl: TTL_DEFAULT }
    }
}

/// What the object says.
#[derive(Debug, Deserialize, Serialize)]
struct Claim {
    writer: String,
    ttl_ms: u64,
    /// Names this very put, so that a lost answer can be settled.
    put: String,
}

/// The fence of one replica.
pub(super) struct Fence {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    replica: Replica,
    options: FenceOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    renewing: bool,
    /// A rival's put, and since when it stands. It outlives a call that was given up: taking a
    /// silent writer's place may take longer than any call.
    stands: Option<(Revision, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    revision: Revision,
    /// When the put that is known to have happened was sent.
    sent: Instant,
}

impl Fence {
    pub(super) fn new(replica: Replica, options: FenceOptions, tasks: Tasks) -> Self {
        let shared = Shared { replica, options, state: Mutex::default() };
        Self { shared: Arc::new(shared), tasks }
    }

    /// Returns when this is the only writer, and will be for a while.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) naming the other one, if there is one.
    pub(super) async fn hold(&self) -> Result<()> {
        let mut state = self.shared.state.lock().await;
        let fresh = self.shared.options.ttl / RENEW_AFTER * 2;
        match state.held {
            Some(held) if held.sent.elapsed() < fresh => return Ok(()),
            Some(held) => self.shared.renew(&mut state, held).await?,
            None => state.held = Some(self.shared.acquire(&mut state.stands).await?),
        }
        if !state.renewing {
            state.renewing = true;
            self.tasks.spawn_until_stop(keep(Arc::clone(&self.shared)));
        }
        Ok(())
    }

    /// Takes the object away, if it is still ours.
    pub(super) async fn release(&self) -> Result<()> {
        let Some(held) = self.shared.state.lock().await.held.take() else { return Ok(()) };
        let (replica, name) = (&self.shared.replica, self.shared.name()?);
        let deleting = replica.objects().delete(&name, DeleteOpts::exactly(held.revision));
        match replica.in_time(OPERATION, deleting).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }
}

/// Renews for as long as it is held. An outage is waited out: whoever writes next finds out.
async fn keep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.options.ttl / RENEW_AFTER).await;
        let mut state = shared.state.lock().await;
        let Some(held) = state.held else {
            state.renewing = false;
            return;
        };
        if let Err(error) = shared.renew(&mut state, held).await {
            tracing::warn!(replica = %shared.replica, %error, "the fence was not renewed");
        }
    }
}

impl Shared {
    fn name(&self) -> Result<ObjectName> {
        self.replica.beside(NAME)
    }

    async fn renew(&self, state: &mut State, held: Held) -> Result<()> {
        match self.put(Expect::Exactly(held.revision)).await {
            Ok(held) => {
                state.held = Some(held);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                state.held = None;
                let (now, _) = self.look().await?.unzip();
                Err(rival(now.as_ref(), &self.replica))
            }
            Err(error) => Err(error),
        }
    }

    async fn acquire(&self, stands: &mut Option<(Revision, Instant)>) -> Result<Held> {
        loop {
            let found = self.look().await?;
            let expect = match &found {
                None => Expect::Absent,
                Some((claim, revision)) if claim.writer == self.options.writer => {
                    Expect::Exactly(*revision)
                }
                Some((claim, revision)) => {
                    let (seen, since) = *stands.get_or_insert((*revision, Instant::now()));
                    if seen != *revision {
                        *stands = None;
                        return Err(rival(Some(claim), &self.replica));
                    }
                    let ttl = Duration::from_millis(claim.ttl_ms);
                    if since.elapsed() < ttl {
                        tokio::time::sleep(ttl / LOOKS_PER_TTL).await;
                        continue;
                    }
                    tracing::warn!(writer = claim.writer, replica = %self.replica,
                        "the last writer is silent: taking its place");
                    Expect::Exactly(*revision)
                }
            };
            let settled = self.put(expect).await;
            *stands = None;
            match settled {
                Err(lost) if lost.kind() == ErrorKind::Conflict => {
                    let (now, _) = self.look().await?.unzip();
                    return Err(rival(now.as_ref(), &self.replica));
                }
                settled => return settled,
            }
        }
    }

    /// Who writes now, by which revision of the object.
    async fn look(&self) -> Result<Option<(Claim, Revision)>> {
        let name = self.name()?;
        let objects = self.replica.objects();
        let looking = async {
            let Some(info) = objects.info(&name).await? else { return Ok(None) };
            let Some(bytes) = objects.get_bytes(&name, CLAIM_BYTES_MAX).await? else {
                return Ok(None);
            };
            let claim = serde_json::from_slice(&bytes).map_err(|cause| {
                Error::new(ErrorKind::Corrupt, OPERATION)
                    .because("what says who writes cannot be read")
                    .with("object", &name)
                    .caused_by(cause)
                    .hint("delete the object if nothing writes to the replica")
            })?;
            Ok(Some((claim, info.revision)))
        };
        self.replica.in_time(OPERATION, looking).await
    }

    async fn put(&self, expect: Expect) -> Result<Held> {
        let name = self.name()?;
        let claim = Claim {
            writer: self.options.writer.clone(),
            ttl_ms: u64::try_from(self.options.ttl.as_millis()).unwrap_or(u64::MAX),
            put: jetbridge_core::random::name(),
        };
        let text = serde_json::to_vec(&claim)
            .map_err(|cause| Error::new(ErrorKind::Internal, OPERATION).caused_by(cause))?;
        let (bytes, digest) = (Bytes::from(text.clone()), Digest::of(&text));
        let sent = Instant::now();
        let objects = self.replica.objects();
        let putting = objects.put_bytes(&name, bytes, ObjectPut::new().expect(expect));
        let error = match self.replica.in_time(OPERATION, putting).await {
            Ok(info) => return Ok(Held { revision: info.revision, sent }),
            Err(error) => error,
        };
        let unclear = error.kind() == ErrorKind::Conflict || error.outcome() == Outcome::Unknown;
        if unclear || error.kind() == ErrorKind::Unavailable {
            let found = self.replica.in_time(OPERATION, objects.info(&name)).await?;
            if let Some(info) = found.filter(|info| info.digest == Some(digest)) {
                return Ok(Held { revision: info.revision, sent });
            }
        }
        Err(error)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({} of {})", self.shared.options.writer, self.shared.replica)
    }
}

fn rival(claim: Option<&Claim>, replica: &Replica) -> Error {
    let writer = claim.map_or("unknown", |claim| &claim.writer);
    Error::new(ErrorKind::Conflict, OPERATION)
        .because("another replicator writes to this replica")
        .with("writer", writer)
        .with("replica", replica)
        .hint("stop one of the two, or give each database a path of its own")
}

#[cfg(test)]
mod tests {
    use jetbridge_core::{Backend as _, BucketName, BucketSpec, MemoryBackend, Objects, Open};

    use super::*;

    const TTL: Duration = Duration::from_millis(600);

    async fn bucket() -> Arc<dyn Objects> {
        let name = BucketName::parse("b").unwrap();
        MemoryBackend::new().objects(&name, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    fn fence(objects: &Arc<dyn Objects>, writer: &str) -> Fence {
        let mut options = FenceOptions::new(writer);
        options.ttl = TTL;
        Fence::new(Replica::new(Arc::clone(objects), ""), options, Tasks::new())
    }

    /// Nobody renews: the first one's tasks are stopped.
    #[tokio::test]
    async fn a_silent_writer_is_followed_though_every_call_is_given_up_before_its_ttl() {
        let objects = bucket().await;
        let silent = fence(&objects, "silent");
        silent.hold().await.unwrap();
        assert_eq!(silent.tasks.stop(Duration::from_secs(1)).await, 0);
        let heir = fence(&objects, "heir");
        let mut held = false;
        for _ in 0..8 {
            held =
                held || tokio::time::timeout(TTL / 3, heir.hold()).await.is_ok_and(|it| it.is_ok());
        }
        assert!(held, "the place is never taken");
    }

    #[tokio::test]
    async fn a_writer_that_renews_between_two_calls_is_not_followed() {
        let objects = bucket().await;
        let living = fence(&objects, "living");
        living.hold().await.unwrap();
        let heir = fence(&objects, "heir");
        let given_up = tokio::time::timeout(TTL / 3, heir.hold()).await;
        assert!(given_up.is_err(), "{given_up:?}");
        tokio::time::sleep(TTL).await;
        assert_eq!(heir.hold().await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}
