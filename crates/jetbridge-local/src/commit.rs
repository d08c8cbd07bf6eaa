//! Group commit: many callers, one transaction, no thread of its own.
//!
//! A write is a job in a queue. Whoever finds the queue unled becomes its leader and commits on
//! its own thread: a lone caller pays no wake-up. Where groups have been larger than one, or jobs
//! arrived meanwhile, the lead goes to a task, which lets the others of its thread run before
//! each group, so that many share a commit. When another process has the turn, or when every
//! commit waits for the disk, a blocking thread leads. The leader is never a caller's future once
//! that could wait: it may be polled late, or never again.
//!
//! Between processes the turn passes by [`TurnLock`], once per group. Because of it SQLite never
//! finds the database busy. Only the leader touches the lock: to the threads of one process its
//! files are always open to all.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::changes::Changes;
use crate::db::{DbOptions, Durability, State, closed, gone};
use crate::fault::{Fault, JobResult, copy_sqlite, from_io, from_sqlite};
use crate::lock::{Turn, TurnLock};
use crate::log::{Due, Log};

/// Jobs in one transaction at most: what one commit is shared by, and how long the first of them
/// waits for the last, which is about a millisecond.
const GROUP_JOBS_MAX: usize = 256;
/// How often a task that leads looks at an empty queue, letting others run in between, before it
/// lays the lead down.
const IDLE_LOOKS: u32 = 2;
/// After this many groups of one job the writer counts as alone, and nobody is waited for.
const LONE_GROUPS: u32 = 4;
/// A lone writer looks for company again after this many groups.
const COMPANY_PROBE: u32 = 32;

/// The writing side of a database. Clones share it.
#[derive(Clone)]
pub(crate) struct Committer(Arc<Inner>);

struct Inner {
    path: PathBuf,
    options: DbOptions,
    lock: TurnLock,
    queue: Mutex<Queue>,
    log: Log,
    /// `None` once closed. Locked by the leader alone, so never contended.
    writer: Mutex<Option<Connection>>,
}

/// Bounded by the callers at work: each waits for its one job.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    led: bool,
    /// Groups of one job since the last larger one.
    lone_groups: u32,
    closed: bool,
    /// Who waits for the connection to be closed.
    closing: Vec<oneshot::Sender<()>>,
}

impl Queue {
    /// True if whoever leads should let others get their jobs in first.
    fn expects_company(&self) -> bool {
        self.lone_groups < LONE_GROUPS || self.lone_groups.is_multiple_of(COMPANY_PROBE)
    }
}

/// A transaction under way.
pub(crate) struct Tx<'c> {
    connection: &'c Connection,
    /// The database's state; what a job changes here is committed with its rows.
    pub(crate) state: State,
    /// The names of what is changed, each noted with the revision that it is given.
    pub(crate) changes: Changes,
}

impl Tx<'_> {
    /// The connection, for statements. Never begin or end a transaction on it.
    pub(crate) fn sql(&self) -> &Connection {
        self.connection
    }
}

impl Committer {
    pub(crate) fn new(
        path: PathBuf,
        lock: TurnLock,
        mut writer: Connection,
        options: DbOptions,
    ) -> Result<Self> {
        let log = Log::new(path.clone(), options.durability, &mut writer)
            .map_err(|cause| from_sqlite(cause, "local.open", &path))?;
        let (queue, writer) = (Mutex::default(), Mutex::new(Some(writer)));
        Ok(Self(Arc::new(Inner { path, options, lock, queue, log, writer })))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// See [`Database::write`](crate::db::Database::write).
    pub(crate) async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> JobResult<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (leads, company) = {
            let mut queue = self.queue();
            if queue.closed {
                return Err(closed(operation));
            }
            queue.jobs.push_back(Box::new(Typed {
                operation,
                job,
                done: None,
                reply: Some(reply),
            }));
            (!std::mem::replace(&mut queue.led, true), queue.expects_company())
        };
        if leads {
            Lead::new(self).take_up(company);
        }
        answer.await.unwrap_or_else(|_unanswered| Err(lost(operation)))
    }

    /// Jobs that wait, the group under way counting as one.
    pub(crate) fn pending(&self) -> usize {
        let queue = self.queue();
        queue.jobs.len() + usize::from(queue.led)
    }

    /// Refuses new jobs, waits for those under way, then closes the connection.
    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        let leads = {
            let mut queue = self.queue();
            queue.closed = true;
            queue.closing.push(reply);
            !std::mem::replace(&mut queue.led, true)
        };
        if leads {
            Lead::new(self).move_to_blocking_thread();
        }
        if done.await.is_err() {
            tracing::debug!(path = %self.path().display(), "closing a database was cut short");
        }
    }

    /// Runs and commits one group, which is then to be answered.
    fn commit_group(&self, turn: Turn<'_>) -> Settled {
        let mut group = self.take_group();
        let mut writer = self.writer();
        let committed = match writer.as_mut() {
            Some(connection) => run_group(connection, &mut group),
            None => Ok(Group::Closed),
        };
        drop(writer);
        drop(turn);
        match committed {
            Ok(Group::Committed { changed: true }) => (self.0.options.committed)(),
            Ok(Group::Committed { changed: false }) => {}
            Ok(Group::Closed) => refuse(&mut group, &closed),
            Ok(Group::Gone) => refuse(&mut group, &gone),
            Err(Broken { cause, unknown }) => refuse(&mut group, &|operation| {
                let error = from_sqlite(copy_sqlite(&cause), operation, self.path());
                if unknown { error.outcome_unknown() } else { error }
            }),
        }
        Settled { committer: self.clone(), group }
    }

    /// Sees to the log; `true` if what is to be done has to wait for the disk.
    fn log_has_to_wait(&self) -> bool {
        match self.0.log.due() {
            Due::Nothing => false,
            Due::Beside => {
                self.0.log.copy_beside();
                false
            }
            Due::Rest => true,
        }
    }

    fn take_group(&self) -> Vec<Slot> {
        let mut queue = self.queue();
        let size = queue.jobs.len().min(GROUP_JOBS_MAX);
        queue.lone_groups = if size > 1 { 0 } else { queue.lone_groups.saturating_add(1) };
        queue.jobs.drain(..size).map(|job| Slot { job, failed: false }).collect()
    }

    /// The lock itself failed: nobody can write.
    fn refuse_all(&self, cause: &std::io::Error) {
        let (kind, text) = (cause.kind(), cause.to_string());
        let error =
            |operation| from_io(std::io::Error::new(kind, text.clone()), operation, self.path());
        let jobs = std::mem::take(&mut self.queue().jobs);
        for mut job in jobs {
            job.refuse(&error);
            job.answer(self.path());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Connection>> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lead of a queue. Dropped before its end (the runtime that was to run it stopped, a job
/// panicked), it passes to a thread of its own: others, of other runtimes, may be waiting.
struct Lead {
    committer: Committer,
    ended: bool,
}

impl Lead {
    fn new(committer: &Committer) -> Self {
        Self { committer: committer.clone(), ended: false }
    }

    /// Commits here and now, or has somebody commit who can wait.
    fn take_up(self, company: bool) {
        if self.committer.0.options.durability == Durability::Full {
            return self.move_to_blocking_thread();
        }
        if company {
            return self.move_to_task();
        }
        self.commit_inline();
    }

    /// Commits one group on this thread.
    fn commit_inline(mut self) {
        let Some(settled) = self.try_commit() else { return self.move_to_blocking_thread() };
        settled.answer();
        if self.committer.log_has_to_wait() {
            self.move_to_blocking_thread();
        } else if !self.ends_if_idle() {
            self.move_to_task();
        }
    }

    /// Commits one group, unless another process has the turn.
    fn try_commit(&self) -> Option<Settled> {
        match self.committer.0.lock.try_acquire() {
            Ok(turn) => turn.map(|turn| self.committer.commit_group(turn)),
            Err(error) => {
                self.committer.refuse_all(&error);
                Some(Settled { committer: self.committer.clone(), group: Vec::new() })
            }
        }
    }

    /// Goes on in a task, which nobody but the runtime drives: a caller's future may not be
    /// polled again for long. A runtime of one thread may itself not be driven.
    fn move_to_task(self) {
        let runtime = Handle::current();
        if runtime.runtime_flavor() == RuntimeFlavor::MultiThread {
            // It ends with the queue, and closing waits for that.
            drop(runtime.spawn(self.commit_in_turns()));
        } else {
            self.move_to_blocking_thread();
        }
    }

    /// Commits group after group; in between, others who are about to write get their jobs in.
    async fn commit_in_turns(mut self) {
        let mut idle_looks = 0;
        while idle_looks < IDLE_LOOKS {
            tokio::task::yield_now().await;
            if self.committer.queue().jobs.is_empty() {
                idle_looks += 1;
                continue;
            }
            idle_looks = 0;
            match self.try_commit() {
                Some(settled) => settled.answer_elsewhere(),
                None => break,
            }
            if self.committer.log_has_to_wait() {
                return self.move_to_blocking_thread();
            }
        }
        if !self.ends_if_idle() {
            self.move_to_blocking_thread();
        }
    }

    fn move_to_blocking_thread(self) {
        drop(tokio::task::spawn_blocking(move || self.commit_blocking()));
    }

    fn commit_blocking(mut self) {
        loop {
            if self.committer.log_has_to_wait()
                && let Some(writer) = &*self.committer.writer()
            {
                self.committer.0.log.copy_rest(writer);
            }
            if self.ends_if_idle() {
                return;
            }
            if self.closes_if_asked() {
                continue;
            }
            match self.committer.0.lock.acquire() {
                Ok(turn) => self.committer.commit_group(turn).answer(),
                Err(error) => self.committer.refuse_all(&error),
            }
        }
    }

    /// Lays the lead down if there is nothing to do.
    fn ends_if_idle(&mut self) -> bool {
        let mut queue = self.committer.queue();
        self.ended = queue.jobs.is_empty() && queue.closing.is_empty();
        queue.led = !self.ended;
        self.ended
    }

    /// Closes the connection under the lock, if that is all there is to do: the last one of all
    /// processes folds the log into the database and removes it, and nobody may open it in that
    /// instant.
    fn closes_if_asked(&self) -> bool {
        let waiting = {
            let mut queue = self.committer.queue();
            if !queue.jobs.is_empty() {
                return false;
            }
            std::mem::take(&mut queue.closing)
        };
        let turn = self.committer.0.lock.acquire();
        self.committer.0.log.close();
        drop(self.committer.writer().take());
        drop(turn);
        for reply in waiting {
            // Who gave up waiting needs no answer.
            reply.send(()).unwrap_or(());
        }
        true
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.ended || self.ends_if_idle() {
            return;
        }
        let committer = self.committer.clone();
        let thread = std::thread::Builder::new().name("jetbridge-commit".to_owned());
        if let Err(error) = thread.spawn(move || Self::new(&committer).commit_blocking()) {
            tracing::error!(%error, "nobody is left to commit: the writes that wait fail");
            let mut queue = self.committer.queue();
            queue.led = false;
            queue.closing.clear();
            queue.jobs.clear();
        }
    }
}

/// A group whose results are there.
struct Settled {
    committer: Committer,
    group: Vec<Slot>,
}

impl Settled {
    fn answer(mut self) {
        // All answers first, then what the jobs held: who wakes early finds company.
        self.group.iter_mut().for_each(|slot| slot.job.answer(self.committer.path()));
    }

    /// Answers from another thread of the runtime, if there is one: to wake many tasks takes as
    /// long as to commit some more.
    fn answer_elsewhere(mut self) {
        let Some(mut first) = self.group.pop() else { return };
        let path = self.committer.path().to_owned();
        if !self.group.is_empty() {
            // It ends at once, so there is nothing to join.
            drop(Handle::current().spawn(async move { self.answer() }));
        }
        // The task that was woken last stays with this thread; the others can be taken away.
        first.job.answer(&path);
    }
}

/// One caller's part of a group.
trait Job: Send {
    /// Runs it; its result waits for the commit.
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    /// Replaces the result by `error` of the job's operation.
    fn refuse(&mut self, error: &dyn Fn(&'static str) -> Error);
    /// Hands over the result.
    fn answer(&mut self, path: &Path);
}

fn refuse(group: &mut [Slot], error: &dyn Fn(&'static str) -> Error) {
    group.iter_mut().for_each(|slot| slot.job.refuse(error));
}

enum Ran {
    Done,
    /// It said no before it changed anything, if the transaction shows no change.
    Refused,
    /// SQLite failed in it: what it did must be undone.
    Failed,
}

struct Typed<T, F> {
    operation: &'static str,
    job: F,
    done: Option<JobResult<T>>,
    reply: Option<oneshot::Sender<Result<T>>>,
}

impl<T, F> Job for Typed<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> JobResult<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        if self.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            // The caller has gone away: not begun is as good as done.
            return Ran::Done;
        }
        let done = (self.job)(tx);
        let ran = match &done {
            Ok(_) => Ran::Done,
            Err(Fault::Ours(_)) => Ran::Refused,
            Err(Fault::Sql(_)) => Ran::Failed,
        };
        self.done = Some(done);
        ran
    }

    fn refuse(&mut self, error: &dyn Fn(&'static str) -> Error) {
        self.done = Some(Err(error(self.operation).into()));
    }

    fn answer(&mut self, path: &Path) {
        let operation = self.operation;
        let done = self.done.take().unwrap_or_else(|| Err(lost(operation).into()));
        if let Some(reply) = self.reply.take() {
            // Who gave up waiting needs no answer.
            drop(reply.send(done.map_err(|fault| fault.into_error(operation, path))));
        }
    }
}

/// A job, and whether it has failed and is left out when the group runs again.
struct Slot {
    job: Box<dyn Job>,
    failed: bool,
}

enum Group {
    Closed,
    Committed { changed: bool },
    Gone,
}

/// The transaction itself failed; every job of it has this error.
struct Broken {
    cause: rusqlite::Error,
    unknown: bool,
}

impl From<rusqlite::Error> for Broken {
    fn from(cause: rusqlite::Error) -> Self {
        Self { cause, unknown: false }
    }
}

/// Runs a group until it goes through without the jobs that fail half way.
fn run_group(connection: &mut Connection, group: &mut [Slot]) -> Result<Group, Broken> {
    loop {
        roll_back(connection)?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let before = State::load(connection)?;
        if before.deleted {
            roll_back(connection)?;
            return Ok(Group::Gone);
        }
        let Some((after, changes)) = run_jobs(connection, before, group) else { continue };
        if after != before {
            after.store(connection)?;
        }
        changes.store(connection, after.sequence)?;
        if let Err(cause) = connection.prepare_cached("COMMIT")?.execute([]) {
            // A disk that failed under the commit may have it or not.
            let unknown = cause.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
            roll_back(connection)?;
            return Err(Broken { cause, unknown });
        }
        return Ok(Group::Committed { changed: after != before });
    }
}

/// The state after all jobs, and what they changed; `None` if one failed half way, which is then marked.
fn run_jobs(
    connection: &Connection,
    before: State,
    group: &mut [Slot],
) -> Option<(State, Changes)> {
    let mut tx = Tx { connection, state: before, changes: Changes::default() };
    for slot in group.iter_mut().filter(|slot| !slot.failed) {
        let (state, mark, changes) = (tx.state, tx.changes.mark(), connection.total_changes());
        match slot.job.run(&mut tx) {
            Ran::Done => {}
            Ran::Refused if connection.total_changes() == changes => {
                tx.state = state;
                tx.changes.cut_back(mark);
            }
            Ran::Refused | Ran::Failed => {
                slot.failed = true;
                return None;
            }
        }
    }
    Some((tx.state, tx.changes))
}

/// Ends a transaction that an error, or a panic of an earlier leader, left open.
fn roll_back(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// The answer to a job whose leader ended before it.
fn lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation)
        .because("the write's group ended before it was settled")
        .outcome_unknown()
}
