//! Performing steps on a bucket and on the model, and comparing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{
    Change, DeleteOpts, Entry, ErrorKind, Expect, IncrementOpts, Kv, Open, PutOpts, Read, Result,
    Revision, Scope, Start, Support, Watch, Written,
};

use super::reference::Reference;
use super::step::{Guess, KEYS, Step};
use crate::contract::steps::{Watching, bytes, key, names, patience};
use crate::dice::Dice;
use crate::{Fixture, eventually};

/// Long enough that the value is written, short enough to wait for.
const TTL: Duration = Duration::from_millis(150);

/// One random sequence.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a plan is these three numbers")]
pub struct Plan {
    /// Determines the steps.
    pub seed: u64,
    /// Revisions that the bucket keeps of each key.
    pub history: u8,
    /// How many steps.
    pub steps: usize,
}

/// Runs one sequence.
///
/// # Panics
/// If the bucket and the model differ; the message has the seed and the steps.
pub async fn check(f: &Fixture, plan: Plan) {
    let ours = f.kv_keeping(plan.history).await;
    let theirs = f.peer_kv(&ours).await;
    let mut model = Model { f, handles: [ours, theirs], reference: Reference::new(plan.history) };
    let mut dice = Dice::new(plan.seed);
    let mut log = String::new();
    for number in 0..plan.steps {
        let step = Step::choose(&mut dice);
        let side = dice.below(2);
        log.push_str(&format!("{number:4} {} {step:?}\n", ["ours  ", "theirs"][side]));
        if let Err(differs) = model.perform(step, side).await {
            panic!("{plan:?}: {differs}\n{log}");
        }
    }
}

/// Why bucket and model differ.
type Checked = std::result::Result<(), String>;

struct Model<'a> {
    f: &'a Fixture,
    handles: [Arc<dyn Kv>; 2],
    reference: Reference,
}

impl Model<'_> {
    async fn perform(&mut self, step: Step, side: usize) -> Checked {
        let kv = Arc::clone(&self.handles[side]);
        match step {
            Step::Create(name, value) => {
                let expected = self.conflict_if(self.reference.live(name).is_some(), name);
                let put = kv.put(&key(name), bytes(value), PutOpts::create()).await;
                self.written(name, value, put, expected)
            }
            Step::Delete(name, guess) => self.delete(&kv, name, guess).await,
            Step::Expire(name, value) => self.expire(&kv, name, value).await,
            Step::Forget(name) => self.forget(&kv, name).await,
            Step::Get(name) => {
                let found = kv.get(&key(name), Read::Fresh).await.map_err(text)?;
                self.compare(name, found.as_ref())
            }
            Step::GetMany => self.get_many(&kv).await,
            Step::GetOld(name) => self.get_old(&kv, name).await,
            Step::History(name) => self.history(&kv, name).await,
            Step::Increment(name, delta) => self.increment(&kv, name, delta).await,
            Step::List(prefix) => {
                let listed = names(&kv, Scope::prefix(prefix)).await;
                same("keys", &listed, &self.live_keys(prefix))
            }
            Step::Look => self.look(&kv, Start::Current, Revision(0)).await,
            Step::LookAfter(name) => {
                let versions = self.reference.known(name).versions;
                let after = versions.first().map_or(Revision(0), |version| version.revision);
                self.look(&kv, Start::After(after), after).await
            }
            Step::Pages(limit) => self.pages(&kv, limit).await,
            Step::Purge(prefix) => self.purge(&kv, prefix).await,
            Step::Put(name, value) => {
                let put = kv.put(&key(name), bytes(value), PutOpts::new()).await;
                self.written(name, value, put, None)
            }
            Step::Reopen => {
                let backend = if side == 0 { &self.f.backend } else { &self.f.peer };
                let opened = backend.kv(kv.bucket(), Open::existing()).await;
                self.handles[side] = opened.map_err(text)?;
                Ok(())
            }
            Step::Update(name, value, guess) => {
                let Some((revision, expected)) = self.guess(name, guess) else { return Ok(()) };
                let put = kv.put(&key(name), bytes(value), PutOpts::over(revision)).await;
                self.written(name, value, put, expected)
            }
        }
    }

    /// A revision to expect, and the refusal that must come of it.
    fn guess(&self, name: &str, guess: Guess) -> Option<(Revision, Option<Refusal>)> {
        match guess {
            Guess::Present => self.reference.live(name).map(|(revision, _)| (revision, None)),
            Guess::Stale => Some((self.reference.stale(name)?, self.conflict_if(true, name))),
        }
    }

    fn conflict_if(&self, refused: bool, name: &str) -> Option<Refusal> {
        let present = self.reference.live(name).map(|(revision, _)| revision);
        refused.then_some(Refusal { kind: ErrorKind::Conflict, present })
    }

    /// A write has to come to what was expected; the model follows it.
    fn written(
        &mut self,
        name: &'static str,
        value: &str,
        put: Result<Written>,
        expected: Option<Refusal>,
    ) -> Checked {
        match (put, expected) {
            (Ok(written), None) => {
                self.grows(written.revision)?;
                self.reference.write(name, written.revision, Some(value.as_bytes()));
                Ok(())
            }
            (Err(error), Some(refusal)) => refusal.check(&error),
            (put, expected) => Err(format!("{put:?}, expected {expected:?}")),
        }
    }

    fn grows(&self, revision: Revision) -> Checked {
        if revision > self.reference.last {
            return Ok(());
        }
        Err(format!("revision {revision} is not behind {}", self.reference.last))
    }

    fn live_keys(&self, prefix: &str) -> BTreeSet<String> {
        self.reference.live_keys(prefix).into_iter().map(str::to_owned).collect()
    }

    fn compare(&self, name: &str, found: Option<&Entry>) -> Checked {
        let found = found.map(|entry| (entry.revision, &*entry.value));
        same(name, &found, &self.reference.live(name))
    }

    async fn delete(
        &mut self,
        kv: &Arc<dyn Kv>,
        name: &'static str,
        guess: Option<Guess>,
    ) -> Checked {
        let mut opts = DeleteOpts::new();
        let mut refusal = None;
        if let Some(guess) = guess {
            // What a condition on nothing comes to is left open.
            if self.reference.live(name).is_none() {
                return Ok(());
            }
            let Some((revision, expected)) = self.guess(name, guess) else { return Ok(()) };
            opts.expect = Expect::Exactly(revision);
            refusal = expected;
        }
        let live = self.reference.live(name).is_some();
        match (kv.delete(&key(name), opts).await, refusal) {
            (Err(error), Some(refusal)) => refusal.check(&error),
            (Ok(None), None) if !live => Ok(()),
            (Ok(Some(revision)), None) if live => {
                self.grows(revision)?;
                self.reference.write(name, revision, None);
                Ok(())
            }
            (deleted, expected) => Err(format!("{deleted:?}, expected {expected:?}, live {live}")),
        }
    }

    async fn forget(&mut self, kv: &Arc<dyn Kv>, name: &'static str) -> Checked {
        let live = self.reference.live(name).is_some();
        let deleted = kv.delete(&key(name), DeleteOpts::new().with_history()).await;
        let deleted = deleted.map_err(text)?;
        same("something deleted", &deleted.is_some(), &live)?;
        // Whether the history of what is deleted already goes too is left open.
        if live {
            self.reference.forget(name, deleted);
        } else {
            self.reference.expire(name, self.reference.last);
        }
        Ok(())
    }

    async fn expire(&mut self, kv: &Arc<dyn Kv>, name: &'static str, value: &str) -> Checked {
        let put = kv.put(&key(name), bytes(value), PutOpts::new().ttl(TTL)).await;
        if self.f.key_ttl() == Support::No {
            let error = put.err().ok_or("a time to live was ignored")?;
            return same("refusal", &error.kind(), &ErrorKind::Unsupported);
        }
        let written = put.map_err(text)?;
        self.grows(written.revision)?;
        // Each connection has its own estimate of the store's time.
        for kv in &self.handles {
            eventually("the value expires", patience(), async || {
                kv.get(&key(name), Read::Fresh).await.unwrap().is_none().then_some(())
            })
            .await;
        }
        self.reference.expire(name, written.revision);
        Ok(())
    }

    async fn increment(&mut self, kv: &Arc<dyn Kv>, name: &'static str, delta: i64) -> Checked {
        let sum = kv.increment(&key(name), delta, IncrementOpts::new()).await;
        let sum = sum.map_err(|error| error.kind());
        same("the sum", &sum, &self.reference.sum(name, delta))?;
        let Ok(sum) = sum else { return Ok(()) };
        let entry = kv.get(&key(name), Read::Fresh).await.map_err(text)?;
        let entry = entry.ok_or("the sum is not there")?;
        self.grows(entry.revision)?;
        same("the number", &&*entry.value, &sum.to_string().as_bytes())?;
        self.reference.write(name, entry.revision, Some(&entry.value));
        Ok(())
    }

    async fn get_many(&self, kv: &Arc<dyn Kv>) -> Checked {
        let found = kv.get_many(&KEYS.map(key), Read::Fresh).await.map_err(text)?;
        for (name, entry) in KEYS.iter().zip(&found.entries) {
            self.compare(name, entry.as_ref())?;
        }
        same("answers", &found.entries.len(), &KEYS.len())
    }

    /// Every revision that is certainly stored is read, every one that certainly is not is not.
    async fn get_old(&self, kv: &Arc<dyn Kv>, name: &str) -> Checked {
        let known = self.reference.known(name);
        let stored = known.versions.iter().map(|version| (version.revision, version.value.clone()));
        let spent = known.spent.iter().map(|revision| (*revision, None));
        for (revision, expected) in stored.chain(spent) {
            let found = kv.get(&key(name), Read::At(revision)).await.map_err(text)?;
            let found = found.map(|entry| entry.value.to_vec());
            same(&format!("{name} at {revision}"), &found, &expected)?;
        }
        Ok(())
    }

    async fn history(&self, kv: &Arc<dyn Kv>, name: &str) -> Checked {
        let known = self.reference.known(name);
        let mut found: Vec<(Revision, Option<Vec<u8>>)> = Vec::new();
        for change in kv.history(&key(name)).await.map_err(text)? {
            match change {
                Change::Put(entry) => found.push((entry.revision, Some(entry.value.to_vec()))),
                Change::Delete { revision, .. } => found.push((revision, None)),
                Change::CaughtUp => return Err("a history does not catch up".to_owned()),
            }
        }
        let spent = found.iter().find(|(revision, _)| known.spent.contains(revision));
        same("what is back", &spent, &None)?;
        let first = known.versions.first().map_or(Revision(u64::MAX), |version| version.revision);
        if known.open_beginning {
            found.retain(|(revision, _)| *revision >= first);
        }
        let expected: Vec<_> =
            known.versions.into_iter().map(|version| (version.revision, version.value)).collect();
        same("history", &found, &expected)
    }

    /// A new watch finds the live values behind `after`.
    async fn look(&self, kv: &Arc<dyn Kv>, start: Start, after: Revision) -> Checked {
        let mut watching = Watching::new(kv, Watch::current(Scope::All).start(start));
        // Of each key the last: a store that is replicated may deliver earlier ones before it.
        let mut found = BTreeMap::new();
        loop {
            match watching.next().await {
                Change::Put(entry) => {
                    found.insert(entry.key.as_str().to_owned(), entry.revision);
                }
                Change::Delete { key, .. } => {
                    // What was found of it before was an earlier revision, and what comes behind it
                    // a later one.
                    found.remove(key.as_str());
                }
                Change::CaughtUp => break,
            }
        }
        let live = self.reference.live_keys("").into_iter();
        let expected: BTreeMap<_, _> = live
            .filter_map(|name| Some((name.to_owned(), self.reference.live(name)?.0)))
            .filter(|(_, revision)| *revision > after)
            .collect();
        same("found by a watch", &found, &expected)
    }

    async fn pages(&self, kv: &Arc<dyn Kv>, limit: usize) -> Checked {
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let page = kv.page(Scope::All, cursor, limit).await.map_err(text)?;
            listed.extend(page.keys.into_iter().map(|key| key.as_str().to_owned()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        listed.sort();
        let expected: Vec<String> = self.live_keys("").into_iter().collect();
        same("paged", &listed, &expected)
    }

    async fn purge(&mut self, kv: &Arc<dyn Kv>, prefix: &str) -> Checked {
        let live = self.reference.live_keys(prefix).len() as u64;
        let purged = kv.purge(Scope::prefix(prefix)).await.map_err(text)?;
        if !(live..=KEYS.len() as u64).contains(&purged) {
            return Err(format!("{purged} purged of {live} live keys"));
        }
        for name in KEYS.into_iter().filter(|name| name.starts_with(prefix)) {
            self.reference.forget(name, None);
        }
        Ok(())
    }
}

/// The error that has to come.
#[derive(Debug)]
struct Refusal {
    kind: ErrorKind,
    present: Option<Revision>,
}

impl Refusal {
    fn check(&self, error: &jetbridge_core::Error) -> Checked {
        same("refusal", &error.kind(), &self.kind)?;
        match self.present {
            None => Ok(()),
            present => same("present revision", &error.present_revision(), &present),
        }
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, expected {expected:?}"))
}

fn text(error: jetbridge_core::Error) -> String {
    format!("{error:?}")
}
