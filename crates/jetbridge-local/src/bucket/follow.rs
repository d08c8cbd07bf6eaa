//! Reading a bucket's changes, for watches of keys and of objects.
//!
//! The rows themselves are the queue: a slow reader costs nothing, sees the last change of every
//! name, and reads in small batches. The [journal](crate::changes) names them in the order of
//! their revisions; where it does not reach back, for what was there at the start too, one look
//! through the rows does. Then the reader waits for the wake-up that follows every commit of any
//! process, or until a row is due, which it collects: so an expiry becomes a deletion, with one
//! revision for all processes, whoever comes first. Nobody polls.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, Result, Revision, Start};

use super::Bucket;
use super::handle::Handle;
use super::rows::{self, Depth, Op, Row, Span};
use crate::changes::{self, Since};
use crate::db::{State, closed};
use crate::hub::Wakes;

/// Names listed at once by a look through the rows: a few mebibytes of them. Each look takes a
/// fraction of a microsecond for each row there is.
const LISTED_MAX: usize = 65_536;
/// Commits of the journal read at once.
const COMMITS_MAX: usize = 64;
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
    let begun = Follow::begin(handle.bucket(), wanted.start);
    let handle = handle.clone();
    let follow = async move {
        match begun {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Follow::begin(handle.renew("watch.start").await?, wanted.start)
            }
            begun => begun,
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
    /// Names of rows to be read, in the order of their revisions.
    listed: VecDeque<(Revision, String)>,
    /// Rows to be delivered.
    batch: VecDeque<Row>,
    /// Everything up to here is listed, or was.
    cursor: Revision,
    /// The newest revision when the reader began.
    begun: Revision,
    source: Source,
    caught_up: CaughtUp,
}

/// Where the next names come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// A look through the rows, for what was written up to this revision.
    Rows(Revision),
    /// The journal.
    Journal,
}

/// Whether the reader has been told that it has caught up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CaughtUp {
    NotYet,
    /// It is to be told behind what is listed.
    Next,
    Told,
}

impl Follow {
    fn begin(bucket: Arc<Bucket>, start: Start) -> Result<Self> {
        // Before the look at the state, so that no change in between is missed.
        let wakes = bucket.wakes();
        bucket.settings("watch.start")?;
        let begun = Revision(bucket.db().state("watch.start")?.sequence);
        let (cursor, source, caught_up) = match start {
            Start::Current | Start::History => (Revision(0), Source::Rows(begun), CaughtUp::NotYet),
            Start::Now => (begun, Source::Journal, CaughtUp::Next),
            Start::After(seen) => (seen, Source::Journal, CaughtUp::NotYet),
        };
        let (listed, batch) = (VecDeque::new(), VecDeque::new());
        Ok(Self { bucket, wakes, listed, batch, cursor, begun, source, caught_up })
    }

    async fn next(&mut self, wanted: &Wanted) -> Result<Event> {
        loop {
            if let Some(row) = self.batch.pop_front() {
                return Ok(Event::Row(row));
            }
            if !self.listed.is_empty() {
                self.read(wanted)?;
            } else if self.caught_up == CaughtUp::Next {
                self.caught_up = CaughtUp::Told;
                return Ok(Event::CaughtUp);
            } else if !self.list(wanted)? {
                if self.caught_up == CaughtUp::NotYet {
                    self.caught_up = CaughtUp::Next;
                } else {
                    self.wait().await?;
                }
            }
            // A reader that finds something every time would keep its thread from the others.
            tokio::task::consume_budget().await;
        }
    }

    /// Lists the names that come next; `false` if there are none now.
    fn list(&mut self, wanted: &Wanted) -> Result<bool> {
        let (source, cursor, depth) = (self.source, self.cursor, self.depth(wanted));
        let found = self.bucket.db().snapshot("watch.next", |sql| {
            let newest = Revision(State::load(sql)?.sequence);
            if self.caught_up == CaughtUp::Told {
                let forgotten = rows::forgotten(sql)?;
                if cursor < forgotten {
                    return Err(self.fell_behind(forgotten).into());
                }
            }
            Ok(match source {
                Source::Rows(_) => {
                    let names = rows::listed(sql, &wanted.span, cursor, depth, LISTED_MAX)?;
                    (Since::Known(names, newest), newest)
                }
                Source::Journal => (changes::since(sql, cursor, newest, COMMITS_MAX)?, newest),
            })
        });
        let (mut names, reached) = match found? {
            (Since::Known(names, reached), _) => (names, reached),
            (Since::Forgotten, newest) => {
                self.source = Source::Rows(newest);
                return Ok(true);
            }
        };
        let moved = match source {
            Source::Rows(end) => {
                // What was written later is in the journal.
                names.retain(|(revision, _)| *revision <= end);
                match names.last() {
                    Some((last, _)) if names.len() == LISTED_MAX => self.cursor = *last,
                    _ => {
                        self.source = Source::Journal;
                        self.cursor = end;
                    }
                }
                true
            }
            Source::Journal => {
                self.cursor = reached;
                reached > cursor
            }
        };
        names.retain(|(_, name)| wanted.span.contains(name) && (wanted.filter)(name));
        self.listed.extend(names);
        Ok(moved)
    }

    /// Reads the rows of some of the names that are listed. A row that was written anew since has
    /// a later revision, under which it is listed again.
    fn read(&mut self, wanted: &Wanted) -> Result<()> {
        let (depth, mut taken, mut bytes) = (self.depth(wanted), 0, 0);
        let rows = self.bucket.db().snapshot("watch.next", |sql| {
            let mut found = Vec::new();
            for (revision, name) in self.listed.iter().take(BATCH_ROWS) {
                taken += 1;
                let row = rows::written(sql, (*revision, name), depth, wanted.keys_only)?;
                if let Some(stored) = row {
                    bytes += stored.value.len();
                    found.push(Row { name: name.clone(), stored });
                }
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            Ok(found)
        })?;
        self.listed.drain(..taken);
        let shown: Vec<Row> = rows.into_iter().filter(|row| self.is_shown(row, wanted)).collect();
        self.batch.extend(shown);
        Ok(())
    }

    fn depth(&self, wanted: &Wanted) -> Depth {
        let everything = wanted.start == Start::History || self.caught_up == CaughtUp::Told;
        if everything { Depth::All } else { Depth::Latest }
    }

    fn is_shown(&self, row: &Row, wanted: &Wanted) -> bool {
        match row.stored.op {
            Op::Put => self.bucket.is_live(&row.stored),
            // What was gone before the reader began is no present value.
            Op::Delete | Op::Marker => {
                wanted.start != Start::Current || row.stored.revision > self.begun
            }
        }
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
