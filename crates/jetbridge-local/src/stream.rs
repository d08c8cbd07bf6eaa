//! One stream: a database of messages, which several processes append to and read.
//!
//! Everything that has to hold at once is decided inside one write transaction: duplicates,
//! conditions, limits, the sequence. What this process remembers of a stream is its settings, and
//! those only under the number that the database's own row carries, so a change made by another
//! process is seen by the next transaction. Who waits for messages waits for the hub's wake-up
//! that follows every commit; nobody polls.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use jetbridge_core::{
    AppendOpts, Appended, Clock, Error, ErrorKind, Message, Pattern, Result, StreamInfo,
    StreamName, StreamSpec,
};
use rusqlite::{Connection, OptionalExtension as _};

use crate::commit::Tx;
use crate::db::{Database, DbOptions, Durability, State, gone, unsigned};
use crate::fault::JobResult;
use crate::hub::{Hub, Wakes};

pub(crate) mod catalog;
pub(crate) mod limits;
mod read;
pub(crate) mod schema;
mod spec;

/// What all streams of a store share.
#[derive(Clone, Debug)]
pub(crate) struct StreamContext {
    /// Wakes readers.
    pub(crate) hub: Hub,
    /// Stamps messages.
    pub(crate) clock: Arc<dyn Clock>,
    /// When a commit is on the disk.
    pub(crate) durability: Durability,
}

/// A stream. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: StreamName,
    /// What its readers are woken by.
    topic: Box<str>,
    db: Database,
    settings: RwLock<Option<Arc<Settings>>>,
    context: StreamContext,
}

/// The settings of a stream, as of one change of them.
#[derive(Debug)]
pub(crate) struct Settings {
    version: u64,
    created: SystemTime,
    /// The settings.
    pub(crate) spec: StreamSpec,
}

impl Log {
    /// Opens the stream `name` in `directory`, whose own name nothing else ever has. For a thread
    /// that may block.
    fn open(name: StreamName, directory: &Path, context: StreamContext) -> Result<Self> {
        let identity = directory.file_name().unwrap_or_default().to_string_lossy();
        let topic: Box<str> = format!("stream/{identity}").into();
        let (hub, woken) = (context.hub.clone(), topic.clone());
        let options = DbOptions {
            durability: context.durability,
            migrations: schema::MIGRATIONS,
            committed: Arc::new(move || hub.wake(&woken)),
        };
        let db = Database::open(directory.join("stream.db"), options)?;
        let settings = RwLock::default();
        Ok(Self(Arc::new(Inner { name, topic, db, settings, context })))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &StreamName {
        &self.0.name
    }

    /// Its database.
    pub(crate) fn db(&self) -> &Database {
        &self.0.db
    }

    /// The time now, as it is stored.
    pub(crate) fn now(&self) -> i64 {
        schema::nanos(self.0.context.clock.now())
    }

    /// Wake-ups for every message, every change of the settings, and the end.
    pub(crate) fn wakes(&self) -> Wakes {
        self.0.context.hub.wakes(&self.0.topic)
    }

    /// Wakes those who wait for `consumer`.
    pub(crate) fn wake_consumer(&self, consumer: &str) {
        self.0.context.hub.wake(&self.consumer_topic(consumer));
    }

    /// Wake-ups for what becomes of the deliveries of `consumer`.
    pub(crate) fn consumer_wakes(&self, consumer: &str) -> Wakes {
        self.0.context.hub.wakes(&self.consumer_topic(consumer))
    }

    fn consumer_topic(&self, consumer: &str) -> String {
        format!("{}/{consumer}", self.0.topic)
    }

    /// The settings in force at `state`, which is that of `sql`'s transaction.
    pub(crate) fn settings_at(&self, sql: &Connection, state: State) -> JobResult<Arc<Settings>> {
        if state.deleted {
            return Err(gone("stream.open").with("stream", &self.0.name).into());
        }
        let held = self.0.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.version == state.settings) {
            return Ok(held);
        }
        let read = self.read_settings(sql, state.settings)?.ok_or_else(|| self.unfinished())?;
        let read = Arc::new(read);
        let mut held = self.0.settings.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::clone(&read));
        Ok(read)
    }

    fn read_settings(&self, sql: &Connection, version: u64) -> JobResult<Option<Settings>> {
        let row = sql
            .prepare_cached("SELECT created, spec FROM stream WHERE id = 0")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((created, json)): Option<(i64, String)> = row else { return Ok(None) };
        let spec = spec::from_json(&self.0.name, &json)?;
        Ok(Some(Settings { version, created: schema::time(created), spec }))
    }

    fn unfinished(&self) -> Error {
        Error::new(ErrorKind::NotFound, "stream.open")
            .because("the stream was never made to the end")
            .with("stream", &self.0.name)
    }

    /// The settings now.
    pub(crate) fn settings(&self) -> Result<Arc<Settings>> {
        self.0.db.snapshot("stream.open", |sql| self.settings_at(sql, State::load(sql)?))
    }

    /// Writes the settings, for the first time or again.
    async fn set_spec(&self, spec: StreamSpec) -> Result<()> {
        let json = spec::to_json(&spec)?;
        let log = self.clone();
        let written = self.0.db.write("stream.update", move |tx| {
            const SQL: &str = "INSERT INTO stream (id, created, spec) VALUES (0, ?1, ?2) \
                               ON CONFLICT (id) DO UPDATE SET spec = excluded.spec";
            let now = log.now();
            tx.sql().prepare_cached(SQL)?.execute((now, &json))?;
            tx.state.settings += 1;
            limits::trim_aged(tx, &spec, now)?;
            limits::trim_subjects(tx, &spec)?;
            limits::trim_surplus(tx, &spec)
        });
        written.await
    }

    /// Takes `message`, unless it is a duplicate, a condition fails or a limit says no.
    pub(crate) async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        let log = self.clone();
        self.0.db.write("bus.append", move |tx| log.append_in(tx, &message, &opts)).await?
    }

    /// A refusal is a result of the transaction, not its failure: what was let go because of its
    /// age is gone either way.
    fn append_in(
        &self,
        tx: &mut Tx<'_>,
        message: &Message,
        opts: &AppendOpts,
    ) -> JobResult<Result<Appended>> {
        let settings = self.settings_at(tx.sql(), tx.state)?;
        let (spec, now) = (&settings.spec, self.now());
        let subject = message.subject.as_str();
        let window = schema::cutoff(now, Some(spec.remembers()));
        if let Some(id) = &opts.id
            && let Some(sequence) = schema::find_id(tx.sql(), id, window)?
        {
            return Ok(Ok(Appended::new(self.0.name.clone(), sequence, true)));
        }
        if !spec.subjects.iter().any(|pattern| pattern.matches(subject)) {
            return Ok(Err(catalog::not_kept(&message.subject)));
        }
        limits::trim_aged(tx, spec, now)?;
        let aged = schema::cutoff(now, spec.max_age);
        if let Some(expected) = opts.expect_last_on_subject {
            let last = schema::last_on_subject(tx.sql(), subject, aged)?.unwrap_or(0);
            if last != expected {
                return Ok(Err(self.overtaken(message, expected, last)));
            }
        }
        if let Err(refused) = limits::check_room(tx, spec, message) {
            return Ok(Err(refused));
        }
        tx.state.sequence += 1;
        let sequence = tx.state.sequence;
        if let Some(id) = &opts.id {
            schema::remember_id(tx.sql(), id, sequence, now, window)?;
        }
        if limits::is_kept(tx.sql(), spec, subject)? {
            schema::insert(tx.sql(), sequence, now, message)?;
            tx.state.entries += 1;
            tx.state.bytes += schema::message_bytes(message);
            limits::trim_subject(tx, spec, subject)?;
            limits::trim_surplus(tx, spec)?;
        }
        Ok(Ok(Appended::new(self.0.name.clone(), sequence, false)))
    }

    fn overtaken(&self, message: &Message, expected: u64, last: u64) -> Error {
        Error::new(ErrorKind::Conflict, "bus.append")
            .because("the last message on the subject is another")
            .with("stream", &self.0.name)
            .with("subject", &message.subject)
            .with("expected", expected)
            .with("revision", last)
    }

    /// Removes the messages on subjects of `filter`; returns how many.
    pub(crate) async fn purge(&self, filter: Option<Pattern>) -> Result<u64> {
        let purged = self.0.db.write("stream.purge", move |tx| match &filter {
            None => {
                tx.sql().execute("DELETE FROM messages", [])?;
                tx.state.bytes = 0;
                Ok(std::mem::take(&mut tx.state.entries))
            }
            Some(filter) => purge_matching(tx, filter),
        });
        purged.await
    }

    /// What it is and what it holds now.
    pub(crate) async fn info(&self) -> Result<StreamInfo> {
        self.let_aged_go().await?;
        self.0.db.snapshot("stream.info", |sql| {
            let state = State::load(sql)?;
            let settings = self.settings_at(sql, state)?;
            let mut info = StreamInfo::new(settings.spec.clone(), settings.created);
            info.messages = state.entries;
            info.bytes = state.bytes;
            info.last_sequence = state.sequence;
            let empty = if state.sequence == 0 { 0 } else { state.sequence + 1 };
            info.first_sequence = schema::oldest(sql)?.map_or(empty, |(sequence, _)| sequence);
            info.consumers = sql
                .query_row("SELECT count(*) FROM consumers", [], |row| row.get(0).map(unsigned))?;
            Ok(info)
        })
    }

    /// Lets the messages go that are over the stream's age. Returns when the next one will be.
    pub(crate) async fn let_aged_go(&self) -> Result<Option<SystemTime>> {
        loop {
            let settings = self.settings()?;
            let Some(age) = settings.spec.max_age else { return Ok(None) };
            let oldest = self.0.db.read("stream.age", schema::oldest)?;
            let Some((_, stored)) = oldest else { return Ok(None) };
            let now = self.now();
            if stored > schema::cutoff(now, Some(age)) {
                return Ok(schema::time(stored).checked_add(age));
            }
            let trimmed =
                self.0.db.write("stream.age", move |tx| limits::trim_aged(tx, &settings.spec, now));
            trimmed.await?;
        }
    }

    /// Ends the stream for every process.
    async fn delete(&self) -> Result<()> {
        let deleted = self.0.db.write("stream.delete", |tx| {
            tx.state.deleted = true;
            Ok(())
        });
        deleted.await
    }
}

fn purge_matching(tx: &mut Tx<'_>, filter: &Pattern) -> JobResult<u64> {
    let matching: Vec<u64> = {
        let mut statement = tx.sql().prepare_cached("SELECT sequence, subject FROM messages")?;
        let rows = statement.query_map([], |row| {
            let subject = row.get_ref(1)?.as_str()?;
            Ok(filter.matches(subject).then_some(row.get(0).map(unsigned)?))
        })?;
        rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?
    };
    for sequence in &matching {
        limits::remove(tx, *sequence)?;
    }
    Ok(u64::try_from(matching.len()).unwrap_or(u64::MAX))
}
