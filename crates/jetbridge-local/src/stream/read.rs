//! Reading a stream in order, and going on with what comes.
//!
//! A reader holds no transaction and no place in the database: it remembers the last sequence and
//! asks for what is behind it, so it costs nothing while it waits.

use std::collections::VecDeque;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, ReadStream, Result, StreamMessage};

use super::Log;
use super::schema::{self, Scan};
use crate::db::State;
use crate::hub::Wakes;

/// Messages read at once.
const BATCH_MAX: usize = 256;

struct Reader {
    log: Log,
    read: ReadStream,
    end: u64,
    batch: VecDeque<StreamMessage>,
    wakes: Option<Wakes>,
}

impl Log {
    /// The messages that `read` asks for.
    pub(crate) fn read(&self, read: ReadStream) -> BoxStream<'static, Result<StreamMessage>> {
        // Before the first look at the database, so that no commit in between is missed.
        let wakes = read.follow.then(|| self.wakes());
        let end = match self.0.db.state("stream.read") {
            Ok(_) if read.follow => u64::MAX,
            Ok(state) => state.sequence,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let batch = VecDeque::new();
        let reader = Reader { log: self.clone(), read, end, batch, wakes };
        stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            let message = reader.next().await.transpose()?;
            let reader = message.is_ok().then_some(reader);
            Some((message, reader))
        })
        .boxed()
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Option<StreamMessage>> {
        loop {
            if let Some(message) = self.batch.pop_front() {
                return Ok(Some(message));
            }
            if self.fill()? || !self.batch.is_empty() {
                continue;
            }
            let Some(wakes) = &mut self.wakes else { return Ok(None) };
            if !wakes.next().await {
                return Err(Error::new(ErrorKind::Unavailable, "stream.read")
                    .because("the store was closed")
                    .with("stream", &self.log.0.name));
            }
        }
    }

    /// Reads the next messages; true if there may be more at once.
    fn fill(&mut self) -> Result<bool> {
        let log = &self.log;
        let found = log.0.db.snapshot("stream.read", |sql| {
            let state = State::load(sql)?;
            let settings = log.settings_at(sql, state)?;
            let scan = Scan {
                after: self.read.after,
                end: self.end,
                cutoff: schema::cutoff(log.now(), settings.spec.max_age),
                filter: self.read.filter.as_ref(),
                count: BATCH_MAX,
            };
            schema::scan(sql, &scan)
        })?;
        self.read.after = found.looked_at;
        self.batch.extend(found.messages);
        Ok(found.more)
    }
}
