//! One consumer for many readers: the end of a stream as it grows, for those who have caught up.
//!
//! A stream has 1000 consumers at most unless it was made with another limit, and each costs the
//! server. So beyond [`ALONE_MAX`] readers of one stream a task reads everything that any of them
//! may want, and keeps the latest of it, bounded in number and bytes. Readers take from there what
//! lies behind their own positions; sequences say what they have and have not seen, so none needs
//! to be there at a certain moment, and one that is slow holds up nobody.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use jetbridge_core::{Error, ErrorKind, Result};

use super::{Begin, Event, Reader, ReaderSpec};
use crate::api::{Api, Stored};
use crate::consumers::Turn;

/// Readers of one stream that have a consumer each. A narrow one is cheap, and the tail brings all
/// that happens in the stream.
const ALONE_MAX: usize = 64;
/// Readers beyond those that have a consumer at once, before they come to the tail.
const COMING_MAX: usize = 256;
/// How long one of them counts among those.
const TURN_MAX: Duration = Duration::from_secs(5);
/// Messages that are kept.
const KEPT_MAX: usize = 8192;
/// Bytes of messages that are kept; the last one is, whatever its size.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages that are taken in one turn.
const TAKEN_MAX: usize = 64;
/// Events that are taken in before those who wait are told.
const BROUGHT_MAX: usize = 256;
/// After a tail has failed, the next is tried by who comes this much later,
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// at most so often while one reader waits for it;
const ATTEMPTS_MAX: u32 = 3;
/// or, where it was not allowed, this much: until then readers go on alone.
const DENIED_FOR: Duration = Duration::from_secs(600);

/// The tails of one connection.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<Name, Arc<Tail>>>);

/// What a tail is of: the prefix of the API, the stream, the subjects, and how long it may be away.
type Name = (Arc<str>, String, String, Option<Duration>);

/// One tail; there is one, though it may not have begun, as long as somebody follows the stream.
#[derive(Debug)]
pub(super) struct Tail {
    /// Its receivers are those who follow.
    news: watch::Sender<()>,
    turns: Arc<Semaphore>,
    log: Mutex<Log>,
}

/// What is kept of the stream.
#[derive(Debug, Default)]
struct Log {
    phase: Phase,
    /// When the stream was made that it is of.
    created: Option<String>,
    /// When there was last nothing left to read.
    heard: Option<Instant>,
    /// Everything behind this sequence, up to `to`, is kept.
    from: u64,
    to: u64,
    kept: VecDeque<Arc<Stored>>,
    bytes: usize,
}

#[derive(Debug, Default)]
enum Phase {
    /// Nobody needs it.
    #[default]
    Off,
    Beginning,
    On,
    /// It has failed, or could not begin, and is not tried before then.
    Refused(Instant),
    /// There is nothing to follow any more.
    Over(Error),
}

/// What a reader is given.
#[derive(Debug)]
pub(super) enum Taken {
    /// What lies behind its position, whether it wants that or not.
    Messages(Vec<Arc<Stored>>),
    /// Nothing was left to read then.
    Nothing(Instant),
    /// Some of what lies behind its position may not be kept any more. With it, when nothing did.
    Missed(Option<Instant>),
}

/// Whether a tail has begun.
#[derive(Debug)]
enum Begun {
    Yes,
    No,
    /// It failed, and is tried again then.
    Later(Instant),
}

/// One who follows the stream.
#[derive(Debug)]
pub(super) struct Member {
    api: Api,
    name: Name,
    tail: Arc<Tail>,
    /// Taken when it leaves.
    news: Option<watch::Receiver<()>>,
}

impl Tails {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Arc<Tail>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who follow the stream of `spec`; `None` if nothing of it is to be shared.
    pub(super) fn join(&self, api: &Api, spec: &ReaderSpec) -> Option<Member> {
        let filter = spec.shared.clone()?;
        let name = (Arc::clone(api.prefix()), spec.stream.clone(), filter, spec.away_max);
        let (tail, news) = {
            let mut all = self.lock();
            let tail = all.entry(name.clone()).or_default();
            if tail.is_over() {
                // Who still follows it is told; whoever comes now begins anew.
                *tail = Arc::default();
            }
            (Arc::clone(tail), tail.news.subscribe())
        };
        Some(Member { api: api.clone(), name, tail, news: Some(news) })
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            news: watch::Sender::new(()),
            turns: Arc::new(Semaphore::new(COMING_MAX)),
            log: Mutex::default(),
        }
    }
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        matches!(self.lock().phase, Phase::Over(_))
    }

    /// Its reader has nothing left to read.
    pub(super) fn is_up_to_date(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// Reads until nobody follows any more. Boxed because by its type its reader could share a
    /// tail as well.
    fn run(self: Arc<Self>, api: Api, spec: ReaderSpec) -> BoxFuture<'static, ()> {
        let spec = ReaderSpec {
            filters: spec.shared.into_iter().collect(),
            from: Begin::Now,
            headers_only: false,
            asks_for_end: false,
            window: None,
            shared: None,
            ..spec
        };
        let reader = Reader { leads: Some(Arc::clone(&self)), ..Reader::new(api, spec) };
        async move {
            let mut events = pin!(stream::unfold(reader, |mut reader| async move {
                let event = reader.next().await;
                Some(((event, reader.position), reader))
            }));
            loop {
                tokio::select! {
                    biased;
                    () = self.news.closed() => if self.ends() {
                        return;
                    },
                    Some(first) = events.next() => {
                        // All of what came meanwhile is told at once: many may be waiting.
                        let mut brought = vec![first];
                        while brought.len() < BROUGHT_MAX
                            && brought.last().is_some_and(|(event, _)| event.is_ok())
                            && let Some(Some(next)) = events.next().now_or_never()
                        {
                            brought.push(next);
                        }
                        let goes_on = self.lock().take_in(brought);
                        self.news.send_replace(());
                        if !goes_on {
                            return;
                        }
                    }
                }
            }
        }
        .boxed()
    }

    /// True if nobody follows; somebody may have come since that was said.
    fn ends(&self) -> bool {
        let mut log = self.lock();
        let ends = self.news.receiver_count() == 0;
        if ends {
            *log = Log::default();
        }
        ends
    }
}

/// What the reader brought, and the sequence that it has reached by that.
type Brought = (Result<Event>, Option<u64>);

impl Log {
    /// True for who is to begin it, for a stream that was made then.
    fn may_begin(&mut self, created: Option<&String>) -> bool {
        let is_due = match self.phase {
            Phase::Off => true,
            Phase::Refused(until) => Instant::now() >= until,
            Phase::Beginning | Phase::On | Phase::Over(_) => false,
        };
        if is_due {
            *self = Self { phase: Phase::Beginning, created: created.cloned(), ..Self::default() };
        }
        is_due
    }

    /// Takes in what the reader brought; false at the end.
    fn take_in(&mut self, brought: Vec<Brought>) -> bool {
        brought.into_iter().all(|(event, reached)| self.add(event, reached))
    }

    fn add(&mut self, event: Result<Event>, reached: Option<u64>) -> bool {
        let has_begun = matches!(self.phase, Phase::On);
        match event {
            Ok(Event::CaughtUp) if has_begun => {}
            Ok(Event::CaughtUp) => self.begin(reached.unwrap_or_default()),
            Ok(Event::Message(stored)) => {
                if !has_begun {
                    self.begin(stored.sequence.saturating_sub(1));
                }
                self.keep(stored);
            }
            Err(error) => {
                tracing::debug!(%error, "readers go on with a consumer each");
                let phase = match error.kind() {
                    ErrorKind::NotFound if has_begun => Phase::Over(error),
                    ErrorKind::PermissionDenied => Phase::Refused(Instant::now() + DENIED_FOR),
                    // What concerns them too they find themselves.
                    _ => Phase::Refused(Instant::now() + AGAIN_AFTER),
                };
                // How far it was and when is still of use to those who were with it.
                (self.phase, self.bytes) = (phase, 0);
                self.kept.clear();
                return false;
            }
        }
        true
    }

    fn begin(&mut self, at: u64) {
        (self.phase, self.from, self.to) = (Phase::On, at, at);
        self.heard.get_or_insert_with(Instant::now);
    }

    fn keep(&mut self, stored: Stored) {
        self.to = stored.sequence;
        self.bytes += size(&stored);
        self.kept.push_back(Arc::new(stored));
        let is_full = |log: &Self| log.kept.len() > KEPT_MAX || log.bytes > KEPT_BYTES_MAX;
        while self.kept.len() > 1 && is_full(self) {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= size(&oldest);
            self.from = oldest.sequence;
        }
    }

    /// Whether it reads the stream that was made then.
    fn is_on(&self, created: Option<&String>) -> bool {
        matches!(self.phase, Phase::On) && created.is_some() && self.created.as_ref() == created
    }

    fn has_all_behind(&self, position: u64, created: Option<&String>) -> bool {
        self.is_on(created) && self.from <= position
    }

    fn take(&self, position: u64, created: Option<&String>) -> Result<Taken> {
        if let Phase::Over(error) = &self.phase {
            return Err(error.clone());
        }
        if !self.has_all_behind(position, created) {
            let had_all = self.created.as_ref() == created && position >= self.to;
            return Ok(Taken::Missed(self.heard.filter(|_| had_all)));
        }
        let first = self.kept.partition_point(|stored| stored.sequence <= position);
        let taken: Vec<_> = self.kept.iter().skip(first).take(TAKEN_MAX).cloned().collect();
        if !taken.is_empty() {
            return Ok(Taken::Messages(taken));
        }
        Ok(self.heard.map_or(Taken::Missed(None), Taken::Nothing))
    }
}

fn size(stored: &Stored) -> usize {
    let headers = stored.headers.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len())
    });
    size_of::<Stored>() + stored.subject.len() + stored.payload.len() + headers.sum::<usize>()
}

impl Member {
    /// Up to where the tail of the stream that was made then has everything; `None` while there is
    /// none.
    pub(super) fn reached(&self, created: Option<&String>) -> Option<u64> {
        let log = self.tail.lock();
        log.is_on(created).then_some(log.to)
    }

    pub(super) fn has_all_behind(&self, position: u64, created: Option<&String>) -> bool {
        self.tail.lock().has_all_behind(position, created)
    }

    /// What lies behind `position` in the stream that was made then; fails as the tail has failed.
    pub(super) fn take(&mut self, position: u64, created: Option<&String>) -> Result<Taken> {
        // What comes from here on is news.
        if let Some(news) = &mut self.news {
            news.mark_unchanged();
        }
        self.tail.lock().take(position, created)
    }

    /// Resolves when there may be more to take than there was.
    pub(super) async fn news(&mut self) {
        match &mut self.news {
            // The sender lives as long as this does.
            Some(news) => drop(news.changed().await),
            None => std::future::pending().await,
        }
    }

    /// True if there are so many that those who come wait for their turns.
    pub(super) fn is_crowded(&self) -> bool {
        self.tail.news.receiver_count() > ALONE_MAX
    }

    /// True if there are so many that it shall be shared, and none of them waits for a turn.
    pub(super) fn has_room(&self) -> bool {
        self.is_crowded() && self.tail.turns.available_permits() > 0
    }

    /// Waits until the tail has begun, or it is known that it does not now.
    async fn begun(&mut self) -> Begun {
        loop {
            if let Some(news) = &mut self.news {
                news.mark_unchanged();
            }
            match self.tail.lock().phase {
                Phase::Beginning => {}
                Phase::On => return Begun::Yes,
                Phase::Refused(until) if until <= Instant::now() + AGAIN_AFTER => {
                    return Begun::Later(until);
                }
                Phase::Off | Phase::Refused(_) | Phase::Over(_) => return Begun::No,
            }
            self.news().await;
        }
    }

    /// Waits for the turn to have a consumer beside all the others; `None` where there is no tail
    /// to come to. Begins it if that is due; one that is about to begin is waited for.
    pub(super) async fn turn(&mut self, spec: &ReaderSpec) -> Option<Turn> {
        for attempt in 1.. {
            if self.tail.lock().may_begin(spec.created.as_ref()) {
                let running = Arc::clone(&self.tail).run(self.api.clone(), spec.clone());
                self.api.link().tasks().spawn_until_stop(running);
            }
            match self.begun().await {
                Begun::Yes => break,
                Begun::No => return None,
                Begun::Later(_) if attempt == ATTEMPTS_MAX => return None,
                // It needs a consumer as well; whoever waits leaves it one.
                Begun::Later(at) => sleep_until(at).await,
            }
        }
        let permit = Arc::clone(&self.tail.turns).acquire_owned().await.ok()?;
        let (turn, over) = oneshot::channel();
        self.api.link().tasks().spawn_until_stop(async move {
            // Who is slow goes on, and keeps up nobody.
            drop(timeout(TURN_MAX, over).await);
            drop(permit);
        });
        Some(turn)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut all = self.api.link().tails().lock();
        // Those who join do so under the same lock.
        drop(self.news.take());
        let is_listed = all.get(&self.name).is_some_and(|tail| Arc::ptr_eq(tail, &self.tail));
        if is_listed && self.tail.news.receiver_count() == 0 {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use async_nats::HeaderMap;
    use bytes::Bytes;
    use jetbridge_core::ErrorKind;

    use super::*;

    fn stored(sequence: u64, bytes: usize) -> Stored {
        Stored {
            subject: "s".into(),
            sequence,
            time: SystemTime::UNIX_EPOCH,
            headers: HeaderMap::new(),
            payload: Bytes::from(vec![b'x'; bytes]),
        }
    }

    fn made() -> String {
        "then".to_owned()
    }

    /// What is taken by a reader of the same stream.
    fn take(log: &Log, position: u64) -> Result<Taken> {
        log.take(position, Some(&made()))
    }

    /// A log that has begun at 10.
    fn begun() -> Log {
        let mut log = Log::default();
        assert!(log.may_begin(Some(&made())));
        assert!(log.add(Ok(Event::CaughtUp), Some(10)));
        log
    }

    fn bring(log: &mut Log, sequence: u64, bytes: usize) {
        assert!(log.add(Ok(Event::Message(stored(sequence, bytes))), Some(sequence)));
    }

    fn taken(log: &Log, position: u64) -> Vec<u64> {
        match take(log, position).unwrap() {
            Taken::Messages(messages) => messages.iter().map(|it| it.sequence).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_lies_behind_a_position_is_taken_and_what_may_be_lacking_is_missed() {
        let mut log = begun();
        assert!(matches!(take(&log, 10).unwrap(), Taken::Nothing(_)));
        assert!(matches!(take(&log, 9).unwrap(), Taken::Missed(_)), "10 was there before");
        for sequence in [12, 13, 17] {
            bring(&mut log, sequence, 1);
        }
        assert_eq!(taken(&log, 10), [12, 13, 17]);
        assert_eq!(taken(&log, 13), [17]);
        assert!(matches!(take(&log, 17).unwrap(), Taken::Nothing(_)));
        assert!(matches!(take(&log, 20).unwrap(), Taken::Nothing(_)), "a reader may be ahead");
        for other in [None, Some(&"before".to_owned())] {
            assert!(matches!(log.take(10, other).unwrap(), Taken::Missed(_)), "another stream");
            assert!(!log.is_on(other));
        }
    }

    #[test]
    fn a_message_that_comes_first_says_where_it_began() {
        let mut log = Log::default();
        assert!(log.may_begin(Some(&made())));
        bring(&mut log, 8, 1);
        assert!(log.add(Ok(Event::CaughtUp), Some(8)));
        assert_eq!(taken(&log, 7), [8]);
        assert!(matches!(take(&log, 6).unwrap(), Taken::Missed(_)));
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes_but_for_the_last() {
        let mut log = begun();
        for sequence in 11..11 + KEPT_MAX as u64 + 5 {
            bring(&mut log, sequence, 1);
        }
        assert_eq!(log.kept.len(), KEPT_MAX);
        assert!(matches!(take(&log, 14).unwrap(), Taken::Missed(_)));
        assert_eq!(taken(&log, 15)[0], 16);
        bring(&mut log, 9000, KEPT_BYTES_MAX + 1);
        assert_eq!(taken(&log, 8999), [9000]);
        assert_eq!((log.kept.len(), log.from), (1, 10 + KEPT_MAX as u64 + 5));
        bring(&mut log, 9001, 1);
        assert_eq!((log.kept.len(), log.from), (1, 9000));
        assert_eq!(log.bytes, size(&stored(9001, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_begins_it_and_what_was_refused_is_not_tried_at_once() {
        for (kind, pause) in [
            (ErrorKind::PermissionDenied, DENIED_FOR),
            (ErrorKind::Unavailable, AGAIN_AFTER),
            (ErrorKind::NotFound, AGAIN_AFTER),
        ] {
            let mut log = Log::default();
            assert!(log.may_begin(None));
            assert!(!log.may_begin(None), "somebody does");
            assert!(!log.add(Err(Error::new(kind, "kv.watch")), None));
            assert!(matches!(take(&log, 0).unwrap(), Taken::Missed(_)), "readers go on alone");
            tokio::time::advance(pause - Duration::from_millis(1)).await;
            assert!(!log.may_begin(None), "{kind:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(log.may_begin(None), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn only_that_the_stream_is_gone_concerns_everybody() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::LimitExceeded, ErrorKind::Corrupt] {
            let mut log = begun();
            assert!(!log.add(Err(Error::new(kind, "kv.watch")), None));
            assert!(matches!(take(&log, 10).unwrap(), Taken::Missed(_)), "{kind:?}");
        }
        let mut log = begun();
        assert!(!log.add(Err(Error::new(ErrorKind::Corrupt, "kv.watch")), None));
        assert!(matches!(take(&log, 10).unwrap(), Taken::Missed(Some(_))), "nothing lay behind it");
        assert!(matches!(take(&log, 9).unwrap(), Taken::Missed(None)));
        let mut log = begun();
        assert!(!log.add(Err(Error::new(ErrorKind::NotFound, "kv.watch")), None));
        assert_eq!(take(&log, 10).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
