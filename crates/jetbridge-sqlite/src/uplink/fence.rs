//! The fence: an object beside the files that says who writes to the replica.
//!
//! It is put over the revision that is known, so that of two writers one learns that there is
//! another. It names the [`Pulse`] of its process, and holds as long as that beats: a rival that
//! sees the pulse stand still for its whole TTL, on the rival's own monotonic clock, stops it and
//! takes the place; the same writer, come back, does so at once. Takings are counted: a place may
//! be lost and come back unnoticed by whoever is at rest meanwhile, and what was learnt of the
//! replica under an earlier taking is not to be relied on under a later one. It keeps two
//! replicators from working at cross purposes. That they cannot damage each other's files even so
//! is for [`Replica::put`]: a file that is there is never written over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{DeleteOpts, Error, ErrorKind, Expect, Result, Revision, Tasks};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::note::Note;
use super::pulse::{self, Pulse};
use crate::store::{Manifest, Replica};

const OPERATION: &str = "sqlite.fence";
/// What the object is called, beside `ltx/`.
const NAME: &str = "jetbridge-writer";
/// A rival looks so often in a TTL whether the writer lives.
const LOOKS_PER_TTL: u32 = 20;
/// A claim is believed to hold for so long without a sign of life, whatever it says: who waits for
/// a writer that died waits no longer.
const TTL_MAX: Duration = Duration::from_secs(3600);
/// What the object says to versions that know no pulse, and take the place of whoever does not
/// put this very object again within it: a year, in milliseconds.
const TTL_WITH_PULSE_MS: u64 = 365 * 24 * 3600 * 1000;

/// Who writes, and how long it may be silent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FenceOptions {
    /// Names the writer, and no other: it takes its place again at once.
    pub writer: String,
    /// How long it may be silent before another takes its place; that of the pulse, if one is
    /// shared.
    pub ttl: Duration,
    /// The sign of life that this writer shares with others of its process; one of its own
    /// without.
    pub pulse: Option<Pulse>,
}

impl FenceOptions {
    /// A writer of that name, which may be silent for 30 s.
    pub fn new(writer: impl Into<String>) -> Self {
        Self { writer: writer.into(), ttl: pulse::TTL_DEFAULT, pulse: None }
    }
}

/// What the object says.
#[derive(Debug, Deserialize, Serialize)]
struct Claim {
    writer: String,
    ttl_ms: u64,
    /// Names this very put, so that a lost answer can be settled.
    put: String,
    /// What beats as long as the claim holds; without one, the claim itself is put again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pulse: Option<Named>,
}

/// A pulse, as a claim names it.
#[derive(Debug, Deserialize, Serialize)]
struct Named {
    object: String,
    ttl_ms: u64,
}

impl Claim {
    fn ttl(&self) -> Duration {
        let said = self.pulse.as_ref().map_or(self.ttl_ms, |pulse| pulse.ttl_ms);
        Duration::from_millis(said).min(TTL_MAX)
    }

    fn pulse(&self) -> Option<&str> {
        self.pulse.as_ref().map(|pulse| &*pulse.object)
    }
}

/// The fence of one replica.
pub(super) struct Fence {
    shared: Arc<Shared>,
    tasks: Tasks,
    /// Whether nobody else needs the pulse.
    alone: bool,
}

struct Shared {
    replica: Replica,
    writer: String,
    pulse: Pulse,
    state: Mutex<State>,
}

/// Which of this writer's takings of the place: between two of them, others may have written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Taking(u64);

#[derive(Debug, Default)]
struct State {
    claimed: Option<Claimed>,
    /// How often the place was taken.
    takings: u64,
    following: bool,
    /// A rival's signs, and since when they stand. They outlive a call that was given up: taking
    /// a silent writer's place may take longer than any call.
    stands: Option<(Signs, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    revision: Revision,
    /// How often the pulse had been begun.
    count: u64,
}

/// What changes while a writer lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Signs {
    claim: Revision,
    pulse: Option<Revision>,
}

impl Fence {
    pub(super) fn new(replica: Replica, options: FenceOptions, tasks: Tasks) -> Self {
        let alone = options.pulse.is_none();
        let own = || Pulse::of(&replica, options.ttl, tasks.clone());
        let pulse = options.pulse.clone().unwrap_or_else(own);
        let shared = Shared { replica, writer: options.writer, pulse, state: Mutex::default() };
        Self { shared: Arc::new(shared), tasks, alone }
    }

    /// Returns when this is the only writer, and will be for a while.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) naming the other one, if there is one.
    pub(super) async fn hold(&self) -> Result<Taking> {
        let mut state = self.shared.hold().await?;
        if !state.following {
            state.following = true;
            self.tasks.spawn_until_stop(follow(Arc::clone(&self.shared)));
        }
        Ok(Taking(state.takings))
    }

    /// Whether the place was taken and not found lost: who only tidies up does not take it.
    pub(super) async fn is_taken(&self) -> bool {
        self.shared.state.lock().await.claimed.is_some()
    }

    /// The files of the replica; of one among many, listed together with the others'.
    pub(super) async fn manifest(&self) -> Result<Manifest> {
        let (pulse, replica) = (&self.shared.pulse, &self.shared.replica);
        if self.alone { replica.manifest().await } else { pulse.manifest(replica).await }
    }

    /// Takes the object away, if it is still ours.
    pub(super) async fn release(&self) -> Result<()> {
        let claimed = self.shared.state.lock().await.claimed.take();
        if let Some(claimed) = claimed {
            self.shared.note()?.delete(DeleteOpts::exactly(claimed.revision)).await?;
        }
        if self.alone { self.shared.pulse.rest().await } else { Ok(()) }
    }
}

/// Claims again when the pulse was begun anew, so that a writer that is at rest hears, too, that
/// its place was taken.
async fn follow(shared: Arc<Shared>) {
    let mut beginnings = shared.pulse.beginnings();
    while beginnings.changed().await.is_ok() {
        if shared.state.lock().await.claimed.is_none() {
            continue;
        }
        // Apart: a thousand of these wait, and few ever go on.
        if let Err(error) = Box::pin(shared.hold()).await {
            tracing::warn!(replica = %shared.replica, %error, "the place was not kept");
        }
    }
}

impl Shared {
    fn note(&self) -> Result<Note> {
        Note::beside(&self.replica, NAME, OPERATION)
    }

    async fn hold(&self) -> Result<tokio::sync::MutexGuard<'_, State>> {
        let mut state = self.state.lock().await;
        loop {
            // Asked for behind all waiting: what was waited for may have outlived the pulse.
            let count = self.pulse.beat().await?;
            match state.claimed {
                Some(claimed) if claimed.count == count => return Ok(state),
                Some(claimed) => self.claim_again(&mut state, claimed, count).await?,
                None => self.take(&mut state, count).await?,
            }
        }
    }

    async fn take(&self, state: &mut State, count: u64) -> Result<()> {
        state.claimed = Some(self.acquire(&mut state.stands, count).await?);
        state.takings += 1;
        Ok(())
    }

    async fn claim_again(&self, state: &mut State, claimed: Claimed, count: u64) -> Result<()> {
        match self.put(Expect::Exactly(claimed.revision), count).await {
            Err(error) if error.kind() == ErrorKind::Conflict => state.claimed = None,
            put => {
                state.claimed = Some(put?);
                return Ok(());
            }
        }
        let found = self.read().await?;
        let now = found.as_ref().map(|(claim, _)| claim);
        if !now.is_some_and(|now| self.is_own(now)) {
            return Err(rival(now, &self.replica));
        }
        // An answer of ours was lost.
        self.take(state, count).await
    }

    /// Whether a claim was made by this process.
    fn is_own(&self, claim: &Claim) -> bool {
        claim.writer == self.writer && claim.pulse() == Some(self.pulse.name())
    }

    async fn acquire(&self, stands: &mut Option<(Signs, Instant)>, count: u64) -> Result<Claimed> {
        loop {
            let expect = match self.read().await? {
                None => Expect::Absent,
                Some((claim, revision)) if claim.writer == self.writer => {
                    if let Some(former) = claim.pulse() {
                        self.pulse.stop_former(former).await?;
                    }
                    Expect::Exactly(revision)
                }
                Some((claim, revision)) => {
                    if !self.is_silent(&claim, revision, stands).await? {
                        tokio::time::sleep(claim.ttl() / LOOKS_PER_TTL).await;
                        continue;
                    }
                    tracing::warn!(writer = claim.writer, replica = %self.replica,
                        "the last writer is silent: taking its place");
                    Expect::Exactly(revision)
                }
            };
            let settled = self.put(expect, count).await;
            *stands = None;
            return match settled {
                Err(lost) if lost.kind() == ErrorKind::Conflict => {
                    let (now, _) = self.read().await?.unzip();
                    Err(rival(now.as_ref(), &self.replica))
                }
                settled => settled,
            };
        }
    }

    /// Whether the writer of a claim has given no sign for its whole TTL; its pulse is stopped
    /// then.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if it lives.
    async fn is_silent(
        &self,
        claim: &Claim,
        revision: Revision,
        stands: &mut Option<(Signs, Instant)>,
    ) -> Result<bool> {
        let beaten = match claim.pulse() {
            Some(name) => self.pulse.other(name).await?,
            None => None,
        };
        let signs = Signs { claim: revision, pulse: beaten };
        // Of a process that was found silent, nothing needs to be waited for again.
        let ended = beaten.is_none() && claim.pulse().is_some_and(|it| self.pulse.has_stopped(it));
        let (seen, since) = *stands.get_or_insert_with(|| (signs, Instant::now()));
        let lives = || Err(rival(Some(claim), &self.replica));
        if seen != signs && !ended {
            *stands = None;
            return lives();
        }
        if since.elapsed() < claim.ttl() && !ended {
            return Ok(false);
        }
        match claim.pulse() {
            Some(name) if !self.pulse.stop_silent(name, beaten).await? => {
                *stands = None;
                lives()
            }
            _ => Ok(true),
        }
    }

    async fn read(&self) -> Result<Option<(Claim, Revision)>> {
        let _turn = self.pulse.turn().await;
        self.note()?.read().await
    }

    async fn put(&self, expect: Expect, count: u64) -> Result<Claimed> {
        let pulse_ttl = u64::try_from(self.pulse.ttl().as_millis()).unwrap_or(u64::MAX);
        let claim = Claim {
            writer: self.writer.clone(),
            ttl_ms: TTL_WITH_PULSE_MS,
            put: jetbridge_core::random::name(),
            pulse: Some(Named { object: self.pulse.name().to_owned(), ttl_ms: pulse_ttl }),
        };
        let _turn = self.pulse.turn().await;
        let written = self.note()?.put(&claim, expect).await?;
        Ok(Claimed { revision: written.revision, count })
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({} of {})", self.shared.writer, self.shared.replica)
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
    use futures_util::TryStreamExt as _;
    use jetbridge_core::{
        Backend as _, BucketName, BucketSpec, MemoryBackend, Objects, Open, Scope,
    };

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

    #[test]
    fn no_claim_is_waited_for_for_ever() {
        let said = |ttl_ms, pulse| Claim { writer: "w".into(), ttl_ms, put: "p".into(), pulse };
        let named = |ttl_ms| Some(Named { object: "o".into(), ttl_ms });
        assert_eq!(said(u64::MAX, None).ttl(), TTL_MAX);
        assert_eq!(said(1, named(u64::MAX)).ttl(), TTL_MAX);
        assert_eq!(said(u64::MAX, named(600)).ttl(), TTL);
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

    fn fences(objects: &Arc<dyn Objects>, writer: &str, pulse: &Pulse) -> [Fence; 2] {
        ["a", "b"].map(|path| {
            let mut options = FenceOptions::new(format!("{writer} of {path}"));
            options.pulse = Some(pulse.clone());
            Fence::new(Replica::new(Arc::clone(objects), path), options, Tasks::new())
        })
    }

    /// A pulse whose process can be stopped, and gone on with.
    fn pulse(objects: &Arc<dyn Objects>) -> (Pulse, Tasks) {
        let tasks = Tasks::new();
        (Pulse::of(&Replica::new(Arc::clone(objects), "x"), TTL, tasks.clone()), tasks)
    }

    #[tokio::test]
    async fn one_pulse_holds_all_places_of_its_process_and_loses_all_of_them() {
        let objects = bucket().await;
        let (first, running) = pulse(&objects);
        let [a, b] = fences(&objects, "first", &first);
        a.hold().await.unwrap();
        b.hold().await.unwrap();
        let (second, _running) = pulse(&objects);
        let [heir_a, heir_b] = fences(&objects, "second", &second);
        for heir in [&heir_a, &heir_b] {
            let error = heir.hold().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        assert_eq!(running.stop(Duration::from_secs(1)).await, 0);
        heir_a.hold().await.unwrap();
        // It was found silent already.
        let begun = Instant::now();
        heir_b.hold().await.unwrap();
        assert!(begun.elapsed() < TTL, "{:?}", begun.elapsed());
        for lost in [a, b] {
            let error = lost.hold().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.fact("writer").unwrap().starts_with("second"), "{error}");
        }
        heir_a.release().await.unwrap();
        heir_b.release().await.unwrap();
        second.close().await.unwrap();
        first.close().await.unwrap();
        let left: Vec<_> = objects.list(Scope::All).try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn what_nobody_took_is_claimed_again_after_the_pulse_was_stopped() {
        let objects = bucket().await;
        let (first, running) = pulse(&objects);
        let [a, b] = fences(&objects, "first", &first);
        a.hold().await.unwrap();
        b.hold().await.unwrap();
        assert_eq!(running.stop(Duration::from_secs(1)).await, 0);
        let (second, _running) = pulse(&objects);
        let [heir_a, _] = fences(&objects, "second", &second);
        heir_a.hold().await.unwrap();
        b.hold().await.unwrap();
        assert_eq!(a.hold().await.unwrap_err().kind(), ErrorKind::Conflict);
        b.hold().await.unwrap();
    }

    #[tokio::test]
    async fn the_same_writer_come_back_takes_its_place_at_once_and_clears_away_its_pulse() {
        let objects = bucket().await;
        let (first, _running) = pulse(&objects);
        let [a, b] = fences(&objects, "same", &first);
        a.hold().await.unwrap();
        b.hold().await.unwrap();
        let (second, _running) = pulse(&objects);
        let begun = Instant::now();
        for fence in fences(&objects, "same", &second) {
            fence.hold().await.unwrap();
        }
        assert!(begun.elapsed() < TTL, "{:?}", begun.elapsed());
        let pulses = objects.list(Scope::prefix("jetbridge-writers/"));
        let pulses: Vec<_> = pulses.try_collect().await.unwrap();
        assert_eq!(pulses.len(), 1);
        assert_eq!(pulses[0].name.as_str(), second.name());
    }

    #[tokio::test]
    async fn claims_wait_for_their_turn() {
        let objects = bucket().await;
        let (pulse, _running) = pulse(&objects);
        let [a, _] = fences(&objects, "first", &pulse);
        let mut turns = Vec::new();
        while let Ok(Some(turn)) = tokio::time::timeout(TTL / 12, pulse.turn()).await {
            turns.push(turn);
            assert!(turns.len() < 100, "no limit");
        }
        let mut holding = std::pin::pin!(a.hold());
        assert!(tokio::time::timeout(TTL / 12, &mut holding).await.is_err());
        drop(turns);
        holding.await.unwrap();
    }

    /// One that serves two replicas lives on when a stranger has the name it has at one of them.
    #[tokio::test]
    async fn what_else_a_former_life_claimed_is_waited_for() {
        let objects = bucket().await;
        let (first, _running) = pulse(&objects);
        let [a, b] = fences(&objects, "first", &first);
        a.hold().await.unwrap();
        b.hold().await.unwrap();
        let (second, _running) = pulse(&objects);
        let [heir_a, _] = fences(&objects, "first", &second);
        heir_a.hold().await.unwrap();
        let [_, stranger] = fences(&objects, "second", &second);
        let at_once = tokio::time::timeout(TTL / 4, stranger.hold()).await;
        assert!(at_once.is_err(), "{at_once:?}");
        b.hold().await.unwrap();
    }

    /// Two copies of a machine: both have the name, and each is told when the other takes over.
    #[tokio::test]
    async fn whoever_has_the_same_name_takes_the_place_over_again_and_again_and_never_unnoticed() {
        let objects = bucket().await;
        let pulses = [pulse(&objects), pulse(&objects)];
        let [[first, _], [second, _]] =
            [0, 1].map(|at: usize| fences(&objects, "same", &pulses[at].0));
        let mut before = first.hold().await.unwrap();
        let (mut losing, mut taking) = (&first, &second);
        for _ in 0..4 {
            let taken = taking.hold().await.unwrap();
            // It may have taken it again by itself.
            let told = async || (losing.hold().await.ok() != Some(before)).then_some(());
            jetbridge_testkit::eventually("it is told", TTL * 10, told).await;
            (losing, taking, before) = (taking, losing, taken);
        }
    }

    /// What was stored before there were pulses.
    #[tokio::test]
    async fn a_claim_without_a_pulse_is_waited_for_as_ever() {
        let objects = bucket().await;
        let note = Note::beside(&Replica::new(Arc::clone(&objects), ""), NAME, OPERATION).unwrap();
        let old = |put: &str| serde_json::json!({"writer": "old", "ttl_ms": 300, "put": put});
        let put = note.put(&old("1"), Expect::Absent).await.unwrap();
        let heir = fence(&objects, "heir");
        let given_up = tokio::time::timeout(Duration::from_millis(100), heir.hold()).await;
        assert!(given_up.is_err(), "{given_up:?}");
        let put = note.put(&old("2"), Expect::Exactly(put.revision)).await.unwrap();
        let error = heir.hold().await.unwrap_err();
        assert_eq!((error.kind(), error.fact("writer")), (ErrorKind::Conflict, Some("old")));
        heir.hold().await.unwrap();
        assert_ne!(note.revision().await.unwrap(), Some(put.revision));
    }
}
