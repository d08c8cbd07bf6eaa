//! Reading a bucket's changes, for watches of keys and of objects.
//!
//! The rows themselves, in the order of their revisions, are the queue: a slow reader costs
//! nothing, sees the last change of every name, and reads in small batches. Between batches it
//! waits for the wake-up that follows every commit of any process, or until a row is due, which
//! it then collects: so an expiry becomes a deletion, with one revision for all processes,
//! whoever comes first. Nobody polls.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, Result, Revision, Start};

use super::Bucket;
use super::handle::Handle;
use super::rows::{self, Changes, Depth, Op, Row, Span};
use crate::db::{State, closed};
use crate::hub::Wakes;

/// Rows read at once.
const BATCH_ROWS: usize = 256;
/// Bytes of values read at once, one row more or less.
const BATCH_BYTES: usize = 1 << 20;

/// What a reader wants.
pub(crate) struct Wanted {
    /// Where its names lie.
    pub(crate) span: Span,
    /// Which of those it wants.
    pub(crate) filter: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) start: Start,
    pub(crate) keys_only: bool,
}

/// What a reader is told.
#[derive(Debug)]
pub(crate) enum Event {
    Row(Row),
    CaughtUp,
}

/// The changes of the bucket of `handle`, from now on where `wanted` says so: the present is
/// looked at before this returns.
pub(crate) fn follow(handle: &Handle, wanted: Wanted) -> BoxStream<'static, Result<Event>> {
    let begun = Follow::begin(handle.bucket(), &wanted.start);
    let (handle, begun) = (handle.clone(), Some(begun));
    let follow = async move {
        match begun {
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => {
                Follow::begin(handle.renew("watch.start").await?, &wanted.start)
            }
            Some(begun) => begun,
            None => Err(closed("watch.start")),
        }
        .map(|follow| (follow, wanted))
    };
    stream::once(follow)
        .flat_map(|begun| match begun {
            Ok((follow, wanted)) => events(follow, wanted),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        })
        .boxed()
}

fn events(follow: Follow, wanted: Wanted) -> BoxStream<'static, Result<Event>> {
    stream::unfold(Some((follow, wanted)), |reading| async {
        let (mut follow, wanted) = reading?;
        let event = follow.next(&wanted).await;
        let rest = event.is_ok().then_some((follow, wanted));
        Some((event, rest))
    })
    .boxed()
}

struct Follow {
    bucket: Arc<Bucket>,
    wakes: Wakes,
    batch: VecDeque<Row>,
    /// Everything up to here is in the batch, or was delivered.
    cursor: Revision,
    /// The newest revision when the reader began.
    begun: Revision,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Reading what was there.
    Backlog,
    /// The rest of what was there is in the batch.
    LastOfBacklog,
    /// Reading what comes.
    Live,
}

impl Follow {
    fn begin(bucket: Arc<Bucket>, start: &Start) -> Result<Self> {
        // Before the look at the state, so that no change in between is missed.
        let wakes = bucket.wakes();
        bucket.settings("watch.start")?;
        let begun = Revision(bucket.db().state("watch.start")?.sequence);
        let (cursor, phase) = match *start {
            Start::Current | Start::History => (Revision(0), Phase::Backlog),
            Start::Now => (begun, Phase::LastOfBacklog),
            Start::After(seen) => (seen, Phase::Backlog),
        };
        Ok(Self { bucket, wakes, batch: VecDeque::new(), cursor, begun, phase })
    }

    async fn next(&mut self, wanted: &Wanted) -> Result<Event> {
        loop {
            if let Some(row) = self.batch.pop_front() {
                return Ok(Event::Row(row));
            }
            match self.phase {
                Phase::LastOfBacklog => {
                    self.phase = Phase::Live;
                    return Ok(Event::CaughtUp);
                }
                Phase::Backlog => self.read(wanted)?,
                Phase::Live => {
                    let before = self.cursor;
                    self.read(wanted)?;
                    if self.cursor == before {
                        self.wait().await?;
                    }
                }
            }
            // A reader that finds something every time would keep its thread from the others.
            tokio::task::consume_budget().await;
        }
    }

    /// Reads the next batch and moves on behind it.
    fn read(&mut self, wanted: &Wanted) -> Result<()> {
        let live = self.phase == Phase::Live;
        let depth = match wanted.start {
            Start::History => Depth::All,
            _ if live => Depth::All,
            _ => Depth::Latest,
        };
        let changes = Changes {
            depth,
            keys_only: wanted.keys_only,
            rows_max: BATCH_ROWS,
            bytes_max: BATCH_BYTES,
        };
        let read = self.bucket.db().snapshot("watch.next", |sql| {
            let state = State::load(sql)?;
            let (rows, complete) = rows::changes(sql, &wanted.span, self.cursor, changes)?;
            let forgotten = if live { rows::forgotten(sql)? } else { Revision(0) };
            Ok((rows, complete, Revision(state.sequence), forgotten))
        });
        let (rows, complete, newest, forgotten) = read?;
        if self.cursor < forgotten {
            return Err(self.fell_behind(forgotten));
        }
        let last = rows.last().map_or(self.cursor, |row| row.stored.revision);
        self.cursor = if complete { newest.max(last) } else { last };
        let wanted = rows.into_iter().filter(|row| self.is_wanted(row, wanted));
        let wanted: Vec<Row> = wanted.collect();
        self.batch.extend(wanted);
        if complete && !live {
            self.phase = Phase::LastOfBacklog;
        }
        Ok(())
    }

    fn is_wanted(&self, row: &Row, wanted: &Wanted) -> bool {
        let shown = match row.stored.op {
            Op::Put => self.bucket.is_live(&row.stored),
            // What was gone before the reader began is no present value.
            Op::Delete | Op::Marker => {
                wanted.start != Start::Current || row.stored.revision > self.begun
            }
        };
        shown && (wanted.filter)(&row.name)
    }

    /// Waits until there may be something to read.
    async fn wait(&mut self) -> Result<()> {
        let due = self.bucket.read("watch.next", rows::next_due)?;
        let due = async {
            match due {
                Some(due) => self.bucket.clock().sleep_until(rows::time(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            open = self.wakes.next() => {
                if open { Ok(()) } else { Err(closed("watch.next")) }
            }
            () = due => self.bucket.collect("watch.next").await,
        }
    }

    fn fell_behind(&self, forgotten: Revision) -> Error {
        Error::new(ErrorKind::Unavailable, "watch.next")
            .because("the reader fell behind so far that deletions were forgotten")
            .with("bucket", &self.bucket.name)
            .with("seen", self.cursor)
            .with("forgotten", forgotten)
            .hint("begin the watch anew with the present values")
    }
}
