//! The pulse of a process: an object that it puts again and again, each time over the revision it
//! knows, for as long as it writes to replicas of a bucket.
//!
//! One is enough for a thousand replicas: what says that this process writes to one of them names
//! the pulse, and stands as long as the pulse beats. Whoever takes a silent writer's place stops
//! its pulse first. So a process that finds its pulse gone knows that anything of it may have been
//! taken, and nobody takes anything unnoticed: each time a pulse is begun it has another count,
//! and what was claimed under an earlier one is claimed again before it is used.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jetbridge_core::{
    DeleteOpts, Error, ErrorKind, Expect, ObjectInfo, Objects, Result, Revision, Tasks,
};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

use super::listing::Listings;
use super::note::{Note, Written};
use crate::store::{Manifest, Replica};

const OPERATION: &str = "sqlite.pulse";
/// What the names of all pulses of a bucket begin with.
pub(super) const DIRECTORY: &str = "jetbridge-writers/";
/// How long a pulse may stand still before others may take what is claimed with it.
pub(super) const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// It is put again when this part of the TTL has passed.
const BEATS_PER_TTL: u32 = 3;
/// How long the last beat may take to end, when a pulse is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Requests about claims that are under way at once: when a pulse is begun anew, a thousand claims
/// are made again.
const CLAIMS_AT_ONCE: usize = 16;
/// Pulses of others, found silent, that are kept in mind. Of one that is forgotten, the next claim is
/// waited for once more.
const SILENT_MAX: usize = 256;
/// A pulse that has not beaten for so long was left by a process that died: no clock is wrong by
/// as much, and one that is stopped though it lives only begins anew.
const ORPHANED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Orphans that one process removes when it begins.
const ORPHANS_MAX: usize = 1000;

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
    silent: StdMutex<VecDeque<String>>,
    /// Whose turn it is to claim.
    claiming: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    beaten: Option<Written>,
    /// Whether it is to beat, and whether a task sees to that.
    wanted: bool,
    kept: bool,
    swept: bool,
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
            claiming: Semaphore::new(CLAIMS_AT_ONCE),
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
        if !state.swept {
            state.swept = true;
            self.tasks.spawn_until_stop(sweep(Arc::clone(shared)));
        }
        Ok(*shared.count.borrow())
    }

    /// Waits for the turn to ask or put something about a claim.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.shared.claiming.acquire().await.ok()
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
        self.shared.remember(name);
        Ok(true)
    }

    /// Stops the pulse of this writer's life before, whatever it did since: also one that lives
    /// and was begun anew, so that it learns that its place was taken. What else was claimed with
    /// it is waited for like any other claim.
    pub(super) async fn stop_former(&self, name: &str) -> Result<()> {
        if name != self.name() && self.other(name).await?.is_some() {
            self.note(name)?.delete(DeleteOpts::new()).await?;
        }
        Ok(())
    }

    /// Whether the pulse of that name was found silent here.
    pub(super) fn has_stopped(&self, name: &str) -> bool {
        self.shared.silent().iter().any(|it| it == name)
    }

    /// Takes its object away. It begins again with the next claim.
    pub(super) async fn rest(&self) -> Result<()> {
        let mut state = self.shared.state.lock().await;
        state.wanted = false;
        if state.beaten.take().is_none() {
            return Ok(());
        }
        // Whichever it is: one whose answer was lost is ours, too.
        self.note(self.name())?.delete(DeleteOpts::new()).await.map(drop)
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
        self.shared.note(name)
    }
}

/// Removes what processes that died have left. What cannot be removed only takes room.
async fn sweep(shared: Arc<Shared>) {
    if let Err(error) = shared.sweep().await {
        tracing::debug!(bucket = %shared.bucket, %error, "signs of life of the dead are left");
    }
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
    fn silent(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, silent: &str) {
        let mut names = self.silent();
        names.retain(|it| it != silent);
        names.truncate(SILENT_MAX - 1);
        names.push_front(silent.to_owned());
    }

    /// The note that is the pulse of that name: what a claim names is not believed to be one.
    fn note(&self, name: &str) -> Result<Note> {
        if !name.starts_with(DIRECTORY) {
            return Err(Error::new(ErrorKind::Corrupt, OPERATION)
                .because("what says who writes names an object that is no sign of life")
                .with("object", name)
                .hint(
                    "delete `jetbridge-writer` beside the files if nothing writes to the replica",
                ));
        }
        Note::beside(&self.bucket, name, OPERATION)
    }

    async fn beat(&self, state: &mut State) -> Result<()> {
        let note = self.note(&self.name)?;
        while let Some(beaten) = state.beaten {
            match note.put(&self.says(), Expect::Exactly(beaten.revision)).await {
                // Nobody else puts it, and whoever stops it deletes it: one that is there was put
                // by a beat whose answer was lost, and nothing was taken.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let standing = note.revision().await?;
                    state.beaten = standing.map(|revision| Written { revision, ..beaten });
                    if standing.is_none() {
                        tracing::warn!(bucket = %self.bucket, "the sign of life was taken away: \
                            all claims are made again");
                    }
                }
                put => {
                    state.beaten = Some(put?);
                    return Ok(());
                }
            }
        }
        // One that is there is ours: no other process has this name.
        let expect = note.revision().await?.map_or(Expect::Absent, Expect::Exactly);
        state.beaten = Some(note.put(&self.says(), expect).await?);
        self.count.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Age is told by the store's clock alone: against our own sign of life, which has just been
    /// given.
    async fn sweep(&self) -> Result<()> {
        let objects = self.listings.objects(&self.bucket).await?;
        let ours = objects.iter().find(|info| info.name.as_str() == self.name);
        let Some(now) = ours.map(|ours| ours.modified) else { return Ok(()) };
        for orphan in objects.iter().filter(|info| self.is_orphan(info, now)).take(ORPHANS_MAX) {
            let name = orphan.name.as_str();
            // Unless it has beaten since.
            if self.note(name)?.delete(DeleteOpts::exactly(orphan.revision)).await? {
                tracing::info!(name, "a process that died has left a sign of life: removed");
            }
        }
        Ok(())
    }

    fn is_orphan(&self, info: &ObjectInfo, now: SystemTime) -> bool {
        let name = info.name.as_str();
        let age = now.duration_since(info.modified).unwrap_or_default();
        name.starts_with(DIRECTORY) && name != self.name && age > ORPHANED_AFTER
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

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use jetbridge_core::{
        Backend, BucketName, BucketSpec, ManualClock, MemoryBackend, ObjectName, ObjectPut,
        ObjectsExt as _, Open, Scope,
    };
    use jetbridge_testkit::{Fault, Faults};

    use super::*;

    async fn bucket(backend: &dyn Backend) -> Arc<dyn Objects> {
        let name = BucketName::parse("b").unwrap();
        backend.objects(&name, Open::ensure(BucketSpec::default())).await.unwrap()
    }

    #[tokio::test]
    async fn a_beat_whose_answer_was_lost_is_no_end_of_the_pulse() {
        // The put happens; neither its answer nor what is looked for then comes.
        let script = [(2, Fault::AckLost), (3, Fault::BeforeApply)];
        let faults = Faults::script(script).only(&["object.put", "object.info"]);
        let objects = bucket(&*faults.around(Arc::new(MemoryBackend::new()))).await;
        let pulse = Pulse::new(objects);
        // There is none yet: the first beat looks for it and puts it.
        let mut state = State::default();
        pulse.shared.beat(&mut state).await.unwrap();
        let begun = *pulse.shared.count.borrow();
        let mut failed = 0;
        for _ in 0..3 {
            failed += u32::from(pulse.shared.beat(&mut state).await.is_err());
        }
        assert_eq!((failed, faults.injected().len()), (1, 2), "{:?}", faults.injected());
        assert_eq!(*pulse.shared.count.borrow(), begun, "all claims are made again");
    }

    #[tokio::test]
    async fn what_the_dead_have_left_is_removed_and_what_lives_is_not() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let objects = bucket(&MemoryBackend::with_clock(Arc::new(clock.clone()))).await;
        let [dead, living] = [1, 2].map(|_| Pulse::new(Arc::clone(&objects)));
        let beat = async |pulse: &Pulse| {
            pulse.shared.beat(&mut *pulse.shared.state.lock().await).await.unwrap();
        };
        beat(&dead).await;
        beat(&living).await;
        let other = ObjectName::parse("ltx/0/old").unwrap();
        objects.put_bytes(&other, "1", ObjectPut::new()).await.unwrap();
        let count = async || objects.list(Scope::All).try_collect::<Vec<_>>().await.unwrap().len();
        clock.advance(ORPHANED_AFTER);
        beat(&living).await;
        living.shared.sweep().await.unwrap();
        assert_eq!(count().await, 3);
        clock.advance(Duration::from_secs(60));
        beat(&living).await;
        living.shared.sweep().await.unwrap();
        assert_eq!((count().await, dead.other(dead.name()).await.unwrap()), (2, None));
        // It lives after all, and is only begun anew.
        let count = *dead.shared.count.borrow();
        beat(&dead).await;
        assert_eq!(*dead.shared.count.borrow(), count + 1);
    }

    #[tokio::test]
    async fn only_signs_of_life_are_stopped_and_not_all_are_kept_in_mind() {
        let objects = bucket(&MemoryBackend::new()).await;
        let pulse = Pulse::new(Arc::clone(&objects));
        let file = ObjectName::parse("ltx/0/a").unwrap();
        objects.put_bytes(&file, "1", ObjectPut::new()).await.unwrap();
        for stopped in [
            pulse.stop_former(file.as_str()).await.map(|()| true),
            pulse
                .stop_silent(
                    file.as_str(),
                    objects.info(&file).await.unwrap().map(|it| it.revision),
                )
                .await,
        ] {
            assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(objects.info(&file).await.unwrap().is_some());
        let name = |number: usize| format!("{DIRECTORY}{number}");
        for number in 0..=SILENT_MAX {
            pulse.stop_silent(&name(number), None).await.unwrap();
        }
        assert!(!pulse.has_stopped(&name(0)) && pulse.has_stopped(&name(1)));
        assert_eq!(pulse.shared.silent().len(), SILENT_MAX);
    }
}
