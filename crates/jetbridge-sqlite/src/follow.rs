//! Following: a database that is kept as new as its replica, for others to read.
//!
//! The store tells what is new. What it carries is put together beside the database and then
//! written into it as one transaction of SQLite: behind a rollback journal, under SQLite's own
//! exclusive lock. A reader sees a state before it or after it; whoever opens the database after
//! a crash rolls back what was half done, as ever. Where the database stands is said by its first
//! page, and so changes with it.
//!
//! Transactions are numbers, and a replica that was begun anew has the same ones. So what is new
//! is added to the database only while a file that led to where it stands, or one that was merged
//! from it under our eyes, is in the replica. Else every page is brought and compared.

mod database;
mod journal;
mod place;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use jetbridge_core::{Backoff, Error, ErrorKind, ObjectChange, Result, Scope, Start};

pub(crate) use place::{Place, stamp};

use self::database::{Applied as Written, Claim, Database};
use self::place::Mark;
use crate::restore::{self, Failure, Form, Overwrite, Progress, Reading, Restored, blocking, fill};
use crate::store::{LtxFile, Manifest, Plan, Replica, Target, reach, reach_from};
use crate::{Txid, TxidRange};

pub(crate) const OPERATION: &str = "sqlite.follow";
/// Large files that are read at once while catching up.
const PARALLELISM: usize = 4;

/// A database that follows its replica.
pub struct Follow {
    replica: Replica,
    path: PathBuf,
    database: Arc<Mutex<Database>>,
    place: Place,
    /// The files of this history that the replica has, or had, with the transaction it is at.
    ours: HashSet<Mark>,
    changes: Option<BoxStream<'static, Result<ObjectChange>>>,
    manifest: Manifest,
    /// True if the manifest may lead on from where the database is.
    news: bool,
    backoff: Backoff,
    /// Transactions that were said to be missing, so that it is said once.
    missing: Option<TxidRange>,
}

/// How a database came to be followed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Begun {
    /// It was made.
    Restored(Restored),
    /// It was there, at this transaction.
    Resumed(Txid),
}

/// What is to be read next.
struct Next {
    plan: Plan,
    last: LtxFile,
    /// True if it does not stand on what the database is.
    is_whole: bool,
}

/// What was written into the database at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Applied {
    /// The transaction it is at now.
    pub txid: Txid,
    /// When that was captured.
    pub time: SystemTime,
    /// The pages that differed.
    pub pages: u64,
    /// The files that were read for it.
    pub files: usize,
}

impl Follow {
    /// Restores the newest state of `replica` as `options` say, or goes on with the database that
    /// is there if an earlier follower left it.
    ///
    /// # Errors
    /// As [`restore`](restore::restore); [`Conflict`](ErrorKind::Conflict) if another process
    /// follows into the database, and [`AlreadyExists`](ErrorKind::AlreadyExists) if it is none
    /// that was followed, or one that somebody has written to since.
    pub async fn begin(
        replica: Replica,
        options: &restore::Options,
        progress: Progress<'_>,
    ) -> Result<(Self, Begun)> {
        let path = options.output.clone();
        let there = std::fs::metadata(&path).is_ok_and(|found| found.len() > 0);
        let resumes = there && options.overwrite == Overwrite::No;
        let named = path.clone();
        let claim =
            move || if resumes { Claim::existing(&named) } else { Claim::replacing(&named) };
        let claim = blocking(claim).await?;
        let begun = if resumes {
            None
        } else {
            let options = restore::Options { form: Form::Followed, ..options.clone() };
            Some(restore::restore(&replica, &options, progress).await?)
        };
        let (database, place) = blocking(move || Database::open(claim)).await?;
        let follow = Self {
            replica,
            path,
            database: Arc::new(Mutex::new(database)),
            place,
            ours: HashSet::from([place.file]),
            changes: None,
            manifest: Manifest::default(),
            news: false,
            backoff: Backoff::outage(),
            missing: None,
        };
        let begun = match begun {
            Some(restored) => Begun::Restored(restored),
            None => {
                follow.check_ahead().await?;
                Begun::Resumed(place.txid)
            }
        };
        Ok((follow, begun))
    }

    /// The database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The transaction it is at.
    pub fn txid(&self) -> Txid {
        self.place.txid
    }

    /// Waits until the replica has something newer, and writes it. May be dropped and called
    /// again. Outages of the store, and transactions that are missing, are waited for and logged.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if somebody else wrote to the database or replaced it, or
    /// if the replica was begun anew and is not beyond where the database is;
    /// those of the store that do not pass, and those of the disk.
    pub async fn next(&mut self) -> Result<Applied> {
        // A call before this one may have been dropped while the database was written.
        let database = Arc::clone(&self.database);
        let place = blocking(move || locked(&database).place()).await?;
        if place != self.place {
            self.moved(place);
        }
        loop {
            if !self.news {
                self.heed().await?;
            }
            let next = match self.plan().await {
                Ok(Some(next)) => next,
                Ok(None) => {
                    self.say_missing();
                    self.news = false;
                    continue;
                }
                Err(error) => {
                    self.recover(error.into()).await?;
                    self.news = true;
                    continue;
                }
            };
            match self.apply(&next).await {
                Ok(Some(written)) => {
                    self.backoff = Backoff::outage();
                    self.missing = None;
                    self.moved(Place::behind(&next.last));
                    self.news = false;
                    let (txid, time) = (next.plan.txid, next.last.time);
                    let files = next.plan.files.len();
                    return Ok(Applied { txid, time, pages: written.pages, files });
                }
                Ok(None) => {
                    let path = self.path.display();
                    tracing::warn!(%path, "somebody reads for long: new transactions wait");
                    self.backoff.wait().await;
                }
                Err(failure) => self.recover(failure).await?,
            }
        }
    }

    /// What to read; `None` if nothing leads on.
    async fn plan(&self) -> Result<Option<Next>> {
        if self.newest() < self.place.txid {
            self.check_ahead().await?;
            return Ok(None);
        }
        let mut plan = reach_from(&self.manifest, self.place.txid);
        let is_whole = !self.is_proven();
        if is_whole {
            plan = reach(&self.manifest, Target::Latest);
            let (replica, txid) = (&self.replica, self.place.txid);
            if plan.txid < txid {
                tracing::warn!(%replica, %txid, "the files that led here are gone, and no others do");
                return Ok(None);
            }
            tracing::info!(%replica, %txid,
                "the files that led here are merged, or of another history: all pages are compared");
        }
        let last = plan.files.last().cloned();
        Ok(last.map(|last| Next { plan, last, is_whole }))
    }

    fn newest(&self) -> Txid {
        self.manifest.usable().map(|file| file.range.max()).max().unwrap_or_default()
    }

    /// The files of the replica that have the transaction that the database is at.
    fn here(&self) -> impl Iterator<Item = &LtxFile> {
        self.manifest.files().filter(|file| file.range.contains(self.place.txid))
    }

    /// True if what the replica has beyond this place follows from what the database is.
    fn is_proven(&self) -> bool {
        self.here().any(|file| self.ours.contains(&Mark::of(file)))
    }

    /// Takes note of a place to which files of the manifest have led.
    fn moved(&mut self, place: Place) {
        self.place = place;
        self.ours = HashSet::from([place.file]);
        self.learn();
    }

    /// What is there together is of one history: a replica has one writer, and a new one begins
    /// when it is empty. So what is merged is known before that which it was merged from goes.
    fn learn(&mut self) {
        if self.is_proven() {
            let marks: Vec<Mark> = self.here().map(Mark::of).collect();
            self.ours.extend(marks);
        }
    }

    /// A database that has more than the replica belongs to another history.
    async fn check_ahead(&self) -> Result<()> {
        let manifest = self.replica.manifest().await?;
        let newest = manifest.usable().map(|file| file.range.max()).max().unwrap_or_default();
        if newest >= self.place.txid {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, OPERATION)
            .because("the followed database is ahead of its replica")
            .with("txid", self.place.txid)
            .with("newest", newest)
            .hint("it followed another replica, or this one was begun anew; use -force"))
    }

    /// Waits until something changed in the replica, and takes note of all that has.
    async fn heed(&mut self) -> Result<()> {
        loop {
            let Some(changes) = &mut self.changes else {
                self.open().await?;
                return Ok(());
            };
            let next = changes.next().await;
            if !self.take(next).await? {
                continue;
            }
            while let Some(changes) = &mut self.changes {
                let Some(next) = changes.next().now_or_never() else { return Ok(()) };
                self.take(next).await?;
            }
        }
    }

    /// Begins to watch, up to what is there now.
    async fn open(&mut self) -> Result<()> {
        loop {
            self.manifest = Manifest::default();
            let scope = Scope::prefix(self.replica.prefix());
            let changes = self.replica.objects().watch(scope, Start::Current);
            self.changes = Some(changes);
            while let Some(changes) = &mut self.changes {
                let next = changes.next().await;
                if matches!(next, Some(Ok(ObjectChange::CaughtUp))) {
                    self.news = true;
                    return Ok(());
                }
                self.take(next).await?;
            }
        }
    }

    /// Notes a change; `false` if it is the end of the watch, which is then to be opened again.
    async fn take(&mut self, change: Option<Result<ObjectChange>>) -> Result<bool> {
        match change {
            Some(Ok(ObjectChange::Put(info))) => {
                if let Some(file) = self.replica.file_of(&info) {
                    let is_here = file.range.contains(self.place.txid);
                    self.manifest.insert(file);
                    self.news = true;
                    if is_here {
                        self.learn();
                    }
                }
            }
            Some(Ok(ObjectChange::Delete { name, .. })) => {
                if let Some((level, range)) = self.replica.place_of(name.as_str()) {
                    self.manifest.remove(level, range);
                }
            }
            Some(Ok(ObjectChange::CaughtUp)) => {}
            Some(Err(error)) if error.kind() != ErrorKind::Unavailable => return Err(error),
            ended => {
                let why = ended.and_then(Result::err).map(|error| error.to_string());
                tracing::warn!(replica = %self.replica, why, "the replica is not heard: again");
                self.changes = None;
                self.backoff.wait().await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings what is next and writes it; `None` if readers are in the way.
    async fn apply(&self, next: &Next) -> Result<Option<Written>, Failure> {
        let database = Arc::clone(&self.database);
        let (staging, pages) = blocking(move || locked(&database).stage()).await?;
        let reading = Reading {
            replica: &self.replica,
            plan: &next.plan,
            known: if next.is_whole { 0 } else { pages },
            parallelism: PARALLELISM,
            progress: &|_bytes| (),
        };
        let image = fill(reading, Arc::clone(&staging)).await?;
        let (database, before) = (Arc::clone(&self.database), self.place);
        let after = Place::behind(&next.last);
        let write = move || locked(&database).apply((&image, &staging), before, after);
        blocking(write).await.map_err(Failure::from)
    }

    /// Prepares another attempt.
    async fn recover(&mut self, failure: Failure) -> Result<()> {
        match failure {
            // It is gone or broken: others may carry the same, now or once it is merged.
            Failure { file: Some(file), error } => {
                tracing::warn!(file = file.file_name(), level = %file.level, %error,
                    "a file is broken or gone");
                self.manifest.remove(file.level, file.range);
                Ok(())
            }
            Failure { error, .. } if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(replica = %self.replica, %error, "the replica cannot be read: again");
                self.backoff.wait().await;
                Ok(())
            }
            Failure { error, .. } => Err(error),
        }
    }

    fn say_missing(&mut self) {
        let beyond = self.manifest.usable().map(|file| file.range);
        let next = beyond.map(TxidRange::min).filter(|min| *min > self.place.txid.next()).min();
        let missing =
            next.and_then(|next| TxidRange::new(self.place.txid.next(), Txid(next.0 - 1)));
        if let Some(range) = missing.filter(|range| self.missing != Some(*range)) {
            tracing::warn!(replica = %self.replica, transactions = %range,
                "these are missing: the database stays as it is until a base or a merged file has them");
        }
        self.missing = missing;
    }
}

/// Nothing that panics holds it, and what was half done is rolled back by SQLite.
fn locked(database: &Mutex<Database>) -> std::sync::MutexGuard<'_, Database> {
    database.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("path", &self.path).field("txid", &self.place.txid).finish()
    }
}
