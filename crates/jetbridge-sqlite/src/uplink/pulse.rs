//! The pulse of a process: an object that it puts again and again, each time over the revision it
//! knows, for as long as it writes to replicas of a bucket.
//!
//! One is enough for a thousand replicas: what says that this process writes to one of them names
//! the pulse, and stands as long as the pulse beats. Whoever takes a silent writer's place stops
//! its pulse first. So a process that finds its pulse gone knows that anything of it may have been
//! taken, and nobody takes anything unnoticed: each time a pulse is begun it has another count,
//! and what was claimed under an earlier one is claimed again before it is used.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use jetbridge_core::{DeleteOpts, ErrorKind, Expect, Objects, Result, Revision, Tasks};
use serde::Serialize;
use tokio::sync::{Mutex, watch};

use super::listing::Listings;
use super::note::{Note, Written};
use crate::store::{Manifest, Replica};

const OPERATION: &str = "sqlite.pulse";
/// What the names of all pulses of a bucket begin with.
const DIRECTORY: &str = "jetbridge-writers/";
/// How long a pulse may stand still before others may take what is claimed with it.
pub(super) const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// It is put again when this part of the TTL has passed.
const BEATS_PER_TTL: u32 = 3;
/// How long the last beat may take to end, when a pulse is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// A sign of life for all replicas of a bucket that a process writes to. Clones share it.
#[derive(Clone)]
pub struct Pulse {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    bucket: Replica,
    name: String,
    ttl: Duration,
    state: Mutex<State>,
    /// How often it was begun.
    count: watch::Sender<u64>,
    /// What is asked by many who share the pulse.
    listings: Listings,
    /// Those of others that were found silent, and stopped here.
    silent: StdMutex<HashSet<String>>,
    /// Those of this process's life before, which may have beaten when they were stopped: what
    /// else was claimed with them is waited for like any other claim.
    former: StdMutex<HashSet<String>>,
}

#[derive(Debug, Default)]
struct State {
    beaten: Option<Written>,
    /// Whether it is to beat, and whether a task sees to that.
    wanted: bool,
    kept: bool,
}

/// What the object says: nothing that anybody needs, and never the same twice.
#[derive(Debug, Serialize)]
struct Beat {
    ttl_ms: u64,
    put: String,
}

impl Pulse {
    /// A pulse in the bucket `objects`, which begins to beat with the first claim.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self::beating(Replica::new(objects, ""), TTL_DEFAULT, Tasks::new())
    }

    /// The pulse of a single writer, whose tasks are the writer's.
    pub(super) fn of(replica: &Replica, ttl: Duration, tasks: Tasks) -> Self {
        Self::beating(replica.whole_bucket(), ttl, tasks)
    }

    fn beating(bucket: Replica, ttl: Duration, tasks: Tasks) -> Self {
        let name = format!("{DIRECTORY}{}", jetbridge_core::random::name());
        let shared = Shared {
            bucket,
            name,
            ttl,
            state: Mutex::default(),
            count: watch::Sender::new(0),
            listings: Listings::default(),
            silent: StdMutex::default(),
            former: StdMutex::default(),
        };
        Self { shared: Arc::new(shared), tasks }
    }

    /// The name of its object.
    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// How long it may stand still.
    pub(super) fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Returns when it beats, and will for a while: the count of its beginnings.
    pub(super) async fn beat(&self) -> Result<u64> {
        let shared = &self.shared;
        let mut state = shared.state.lock().await;
        let fresh = shared.ttl / BEATS_PER_TTL * 2;
        if state.beaten.is_none_or(|beaten| beaten.sent.elapsed() >= fresh) {
            shared.beat(&mut state).await?;
        }
        state.wanted = true;
        if !state.kept {
            state.kept = true;
            self.tasks.spawn_until_stop(keep(Arc::clone(shared)));
        }
        Ok(*shared.count.borrow())
    }

    /// The files of a replica of the bucket, as of a list that was begun after this call.
    pub(super) async fn manifest(&self, replica: &Replica) -> Result<Manifest> {
        self.shared.listings.manifest(replica).await
    }

    /// Tells of each time that it is begun from now on.
    pub(super) fn beginnings(&self) -> watch::Receiver<u64> {
        self.shared.count.subscribe()
    }

    /// The revision of the pulse of that name; `None` if it is not there.
    pub(super) async fn other(&self, name: &str) -> Result<Option<Revision>> {
        self.note(name)?.revision().await
    }

    /// Stops the pulse of a process that is silent, if it has not beaten since `seen`; `false` if
    /// it has.
    pub(super) async fn stop_silent(&self, name: &str, seen: Option<Revision>) -> Result<bool> {
        if let Some(seen) = seen
            && !self.note(name)?.delete(DeleteOpts::exactly(seen)).await?
        {
            return Ok(false);
        }
        names(&self.shared.silent).insert(name.to_owned());
        Ok(true)
    }

    /// Stops the pulse of this writer's life before, whatever it did since.
    pub(super) async fn stop_former(&self, name: &str) -> Result<()> {
        if name == self.name() || names(&self.shared.former).contains(name) {
            return Ok(());
        }
        self.note(name)?.delete(DeleteOpts::new()).await?;
        names(&self.shared.former).insert(name.to_owned());
        Ok(())
    }

    /// Whether the pulse of that name was found silent here.
    pub(super) fn has_stopped(&self, name: &str) -> bool {
        names(&self.shared.silent).contains(name)
    }

    /// Takes its object away. It begins again with the next claim.
    pub(super) async fn rest(&self) -> Result<()> {
        let mut state = self.shared.state.lock().await;
        state.wanted = false;
        let Some(beaten) = state.beaten.take() else { return Ok(()) };
        self.note(self.name())?.delete(DeleteOpts::exactly(beaten.revision)).await.map(drop)
    }

    /// Ends it, when nothing is claimed with it any more.
    ///
    /// # Errors
    /// Those of the store; its object is left then, and means nothing to anybody.
    pub async fn close(&self) -> Result<()> {
        self.tasks.stop(STOP_WITHIN).await;
        self.rest().await
    }

    fn note(&self, name: &str) -> Result<Note> {
        Note::beside(&self.shared.bucket, name, OPERATION)
    }
}

fn names(of: &StdMutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beats for as long as that is wanted. An outage is waited out: whoever writes next finds out.
async fn keep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.ttl / BEATS_PER_TTL).await;
        let mut state = shared.state.lock().await;
        if !state.wanted {
            state.kept = false;
            return;
        }
        if let Err(error) = shared.beat(&mut state).await {
            tracing::warn!(bucket = %shared.bucket, %error, "the sign of life was not renewed");
        }
    }
}

impl Shared {
    async fn beat(&self, state: &mut State) -> Result<()> {
        let note = Note::beside(&self.bucket, &self.name, OPERATION)?;
        if let Some(beaten) = state.beaten {
            match note.put(&self.says(), Expect::Exactly(beaten.revision)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => state.beaten = None,
                put => {
                    state.beaten = Some(put?);
                    return Ok(());
                }
            }
            tracing::warn!(bucket = %self.bucket, "the sign of life was taken away: all claims \
                are made again");
        }
        // One that is there is ours: no other process has this name.
        let expect = note.revision().await?.map_or(Expect::Absent, Expect::Exactly);
        state.beaten = Some(note.put(&self.says(), expect).await?);
        self.count.send_modify(|count| *count += 1);
        Ok(())
    }

    fn says(&self) -> Beat {
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        Beat { ttl_ms, put: jetbridge_core::random::name() }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pulse({})", self.shared.name)
    }
}
