//! One bucket: a database of rows, opened by several processes at once.
//!
//! Whatever has to hold at once is decided inside one write transaction: conditions, limits,
//! revisions, expiry. What this process remembers of a bucket is its settings, and those only
//! under the number that the database's own state carries, so that a change made by another
//! process is seen by the next transaction.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use jetbridge_core::{
    BucketInfo, BucketKind, BucketName, BucketSpec, Clock, Error, ErrorKind, KvShared, Result,
    Support,
};
use rusqlite::{Connection, OptionalExtension as _};

use self::body::Bodies;
use self::catalog::blocking;
use self::rows::Stored;
use self::settings::Settings;
use self::writer::{COLLECT_ROWS_MAX, Writer};
use crate::commit::Tx;
use crate::db::{Database, DbOptions, Durability, State, gone};
use crate::fault::JobResult;
use crate::hub::{Hub, Wakes};

pub(crate) mod body;
pub(crate) mod catalog;
pub(crate) mod follow;
pub(crate) mod handle;
pub(crate) mod rows;
pub(crate) mod settings;
pub(crate) mod writer;

/// The database's name in the bucket's directory.
const DATABASE: &str = "data.db";
/// No row is due.
const NEVER: i64 = i64::MAX;

/// What all buckets of a store share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Wakes watchers.
    pub(crate) hub: Hub,
    /// Stamps rows, and says what is due.
    pub(crate) clock: Arc<dyn Clock>,
    /// When a commit is on the disk.
    pub(crate) durability: Durability,
}

/// A bucket. A deleted one lives on until its last reader has noticed.
pub(crate) struct Bucket {
    pub(crate) name: BucketName,
    kind: BucketKind,
    directory: PathBuf,
    /// What its watchers are woken by.
    topic: Box<str>,
    db: Database,
    settings: RwLock<Option<Arc<Settings>>>,
    context: Context,
    /// When the next row is due, as far as this process knows: whoever writes rows that expire,
    /// or watches them, collects them.
    next_due: AtomicI64,
    swept: AtomicBool,
    /// What its handles in this process share.
    pub(crate) shared: KvShared,
}

impl Bucket {
    /// Opens the bucket in `directory`, whose own name nothing else ever has. For a thread that
    /// may block.
    pub(crate) fn open(
        kind: BucketKind,
        name: BucketName,
        directory: PathBuf,
        context: Context,
    ) -> Result<Self> {
        let identity = directory.file_name().unwrap_or_default().to_string_lossy();
        let topic: Box<str> = format!("{kind}/{identity}").into();
        let (hub, woken) = (context.hub.clone(), topic.clone());
        let options = DbOptions {
            durability: context.durability,
            migrations: rows::MIGRATIONS,
            committed: Arc::new(move || hub.wake(&woken)),
        };
        let db = Database::open(directory.join(DATABASE), options)?;
        let due = db.read("bucket.open", rows::next_due);
        let next_due = AtomicI64::new(due.ok().flatten().unwrap_or(NEVER));
        let (settings, swept, shared) =
            (RwLock::default(), AtomicBool::new(false), KvShared::new());
        Ok(Self { name, kind, directory, topic, db, settings, context, next_due, swept, shared })
    }

    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// True but for the first time it is asked.
    pub(crate) fn is_swept(&self) -> bool {
        self.swept.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn durability(&self) -> Durability {
        self.context.durability
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.context.clock
    }

    /// The time now, as it is stored.
    pub(crate) fn now(&self) -> i64 {
        rows::nanos(self.context.clock.now())
    }

    /// Wake-ups for every change, of the settings too, and for the end.
    pub(crate) fn wakes(&self) -> Wakes {
        self.context.hub.wakes(&self.topic)
    }

    /// Runs `job` in a transaction, and removes the bodies that it frees once it is committed. It
    /// may run more than once.
    pub(crate) async fn write<T, F>(self: &Arc<Self>, operation: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Writer<'_, '_>) -> JobResult<T> + Send + 'static,
    {
        let (bucket, mut job) = (Arc::clone(self), job);
        let written = self.db.write(operation, move |tx| {
            let settings = bucket.settings_at(tx.sql(), tx.state)?;
            let now = bucket.now();
            let mut writer = Writer { tx, settings: &settings, now, freed: Vec::new() };
            if bucket.next_due.load(Ordering::Relaxed) <= now {
                writer.collect(COLLECT_ROWS_MAX)?;
                bucket.look_for_due(writer.tx)?;
            }
            let done = job(&mut writer)?;
            Ok((done, writer.freed))
        });
        let (done, freed) = written.await?;
        if !freed.is_empty() {
            // Who stops waiting here leaves them to the next sweep.
            let bodies = Bodies::of(self);
            blocking(move || {
                freed.iter().for_each(|body| bodies.remove(body));
                Ok(())
            })
            .await?;
        }
        Ok(done)
    }

    fn look_for_due(&self, tx: &Tx<'_>) -> JobResult<()> {
        let due = rows::next_due(tx.sql())?.unwrap_or(NEVER);
        self.next_due.store(due, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that a row is due at `due`.
    pub(crate) fn note_due(&self, due: Option<i64>) {
        self.next_due.fetch_min(due.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Collects what is due, if anything is.
    pub(crate) async fn collect(self: &Arc<Self>, operation: &'static str) -> Result<()> {
        loop {
            let due = self.db.read(operation, rows::next_due)?;
            self.next_due.store(due.unwrap_or(NEVER), Ordering::Relaxed);
            if due.is_none_or(|due| due > self.now()) {
                return Ok(());
            }
            self.write(operation, |writer| writer.collect(COLLECT_ROWS_MAX)).await?;
        }
    }

    /// Reads on this thread; see [`Database::read`].
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Connection) -> JobResult<T>,
    ) -> Result<T> {
        self.db.read(operation, job)
    }

    /// The live row of `name`. One that has expired is noticed, so that the next write collects it.
    pub(crate) fn live(&self, operation: &'static str, name: &str) -> Result<Option<Stored>> {
        let newest = self.db.read(operation, |sql| rows::newest(sql, name))?;
        Ok(newest.filter(|stored| self.is_live(stored)))
    }

    /// True if `stored` is a value that has not expired.
    pub(crate) fn is_live(&self, stored: &Stored) -> bool {
        let live = stored.is_live(self.now());
        if !live && stored.op == rows::Op::Put {
            self.next_due.store(0, Ordering::Relaxed);
        }
        live
    }

    /// Writes the settings of a bucket that is being made.
    pub(crate) async fn make(self: &Arc<Self>, spec: &BucketSpec) -> Result<()> {
        let (json, created) = (settings::to_json(spec)?, self.now());
        self.db
            .write("bucket.create", move |tx| {
                const SQL: &str = "INSERT INTO settings (id, created, spec, forgotten) \
                                   VALUES (0, ?1, ?2, 0)";
                tx.state.settings += 1;
                tx.sql().execute(SQL, (created, &json))?;
                Ok(())
            })
            .await
    }

    /// Puts other settings in force.
    pub(crate) async fn update(self: &Arc<Self>, spec: BucketSpec) -> Result<()> {
        let json = settings::to_json(&spec)?;
        let bucket = Arc::clone(self);
        let updated = self.write("bucket.update", move |writer| {
            writer.tx.sql().execute("UPDATE settings SET spec = ?1 WHERE id = 0", [&json])?;
            writer.tx.state.settings += 1;
            let (version, created) = (writer.tx.state.settings, writer.settings.created);
            let settings = Settings { version, created, spec: spec.clone() };
            let (tx, now) = (&mut *writer.tx, writer.now);
            Writer { tx, settings: &settings, now, freed: Vec::new() }.apply_settings()?;
            bucket.look_for_due(writer.tx)
        });
        updated.await
    }

    /// Ends the bucket for every handle of every process.
    pub(crate) async fn mark_deleted(self: &Arc<Self>) -> Result<()> {
        self.db
            .write("bucket.delete", |tx| {
                tx.state.deleted = true;
                Ok(tx.sql().execute_batch(rows::HIDE)?)
            })
            .await
    }

    /// The settings in force at `state`, which is that of `sql`'s transaction.
    fn settings_at(&self, sql: &Connection, state: State) -> JobResult<Arc<Settings>> {
        if state.deleted {
            return Err(gone("bucket.open").into());
        }
        let held = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.version == state.settings) {
            return Ok(held);
        }
        let read = Arc::new(self.read_settings(sql, state)?);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&read));
        Ok(read)
    }

    fn read_settings(&self, sql: &Connection, state: State) -> JobResult<Settings> {
        const SQL: &str = "SELECT created, spec FROM settings WHERE id = 0";
        let row = sql.prepare_cached(SQL)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((created, json)): Option<(i64, String)> = row.optional()? else {
            // Whoever was making it ended before it was there.
            return Err(gone("bucket.open").into());
        };
        let spec = settings::from_json(&json).map_err(|error| {
            error.with("bucket", &self.name).with("file", self.db.path().display())
        })?;
        Ok(Settings { version: state.settings, created, spec })
    }

    /// The settings now; [`NotFound`](ErrorKind::NotFound) if the bucket was deleted, or never
    /// made to the end.
    pub(crate) fn settings(&self, operation: &'static str) -> Result<Arc<Settings>> {
        self.db.snapshot(operation, |sql| self.settings_at(sql, State::load(sql)?))
    }

    /// What it is and holds.
    pub(crate) fn info(&self) -> Result<BucketInfo> {
        let (settings, state) = self.db.snapshot("bucket.info", |sql| {
            let state = State::load(sql)?;
            Ok((self.settings_at(sql, state)?, state))
        })?;
        let created = rows::time(settings.created);
        let mut info =
            BucketInfo::new(self.name.clone(), self.kind, settings.spec.clone(), created);
        info.messages = state.entries;
        info.bytes = state.bytes;
        info.last_revision = state.sequence;
        info.sealed = state.sealed;
        if self.kind == BucketKind::Kv {
            info.key_ttl = Support::Native;
        }
        Ok(info)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The error that a bucket is not there.
pub(crate) fn absent(kind: BucketKind, name: &BucketName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("there is no such bucket")
        .with("kind", kind)
        .with("bucket", name)
        .hint(format!("create it with `jetbridge {kind} add {name}`"))
}
