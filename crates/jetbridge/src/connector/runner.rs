//! Handlers at work: takes items from a source whenever the worker has a place, until the source
//! ends, and then waits for the last job.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use jetbridge_core::{Error, Tasks};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shutdown::LONGEST;
use crate::worker::{Counts, HandlerError, Worker};

/// What a source gives a runner.
pub(super) enum Item {
    /// A message, as the work to do for it.
    Job(BoxFuture<'static, Result<(), HandlerError>>),
    /// So many messages did not fit the buffer.
    Dropped(u64),
    /// The source failed; it may go on.
    Failed(Error),
}

/// Handlers at work on a subscription or a consumer. Dropping this lets them go on: they end with
/// [`Running::stop`] or with the connector.
#[derive(Clone)]
pub struct Running(Arc<Inner>);

struct Inner {
    worker: Worker,
    stop: CancellationToken,
    abandon: CancellationToken,
    ended: CancellationToken,
    last: OnceLock<Counts>,
    tasks: Tasks,
}

impl Running {
    /// Starts on `items`, which ends after `stop` is cancelled; what is under way when `abandon`
    /// is cancelled is given up.
    pub(super) fn start<S>(
        worker: Worker,
        items: S,
        stop: CancellationToken,
        abandon: CancellationToken,
    ) -> Self
    where
        S: Stream<Item = Item> + Unpin + Send + 'static,
    {
        let running = Self(Arc::new(Inner {
            worker,
            stop,
            abandon,
            ended: CancellationToken::new(),
            last: OnceLock::new(),
            tasks: Tasks::new(),
        }));
        let this = running.clone();
        running.0.tasks.spawn(async move { this.run(items).await });
        running
    }

    async fn run<S>(self, mut items: S)
    where
        S: Stream<Item = Item> + Unpin + Send,
    {
        let inner = &*self.0;
        // However this ends, whoever waits for it is told.
        let _ended = inner.ended.clone().drop_guard();
        tokio::select! {
            biased;
            () = inner.abandon.cancelled() => {}
            () = self.take(&mut items) => {}
        }
        // Nothing is left unless it was given up; what is left is counted.
        while let Some(Some(item)) = items.next().now_or_never() {
            match item {
                Item::Job(_never_begun) => inner.worker.note_undelivered(1),
                Item::Dropped(messages) => inner.worker.note_dropped(messages),
                Item::Failed(error) => tracing::warn!(worker = inner.worker.label(), "{error:?}"),
            }
        }
        let counts = inner.worker.abandon().await;
        inner.last.get_or_init(|| counts);
        tracing::debug!(worker = inner.worker.label(), "ended: {counts}");
    }

    async fn take<S>(&self, items: &mut S)
    where
        S: Stream<Item = Item> + Unpin + Send,
    {
        let worker = &self.0.worker;
        loop {
            let place = worker.place().await;
            match items.next().await {
                None => break,
                Some(Item::Job(job)) => worker.start(place, job),
                Some(Item::Dropped(messages)) => {
                    tracing::warn!(worker = worker.label(), messages, "dropped: too slow");
                    worker.note_dropped(messages);
                }
                Some(Item::Failed(error)) => {
                    tracing::warn!(worker = worker.label(), "{error:?}");
                }
            }
        }
        worker.idle().await;
    }

    /// What has become of the messages so far.
    pub fn counts(&self) -> Counts {
        self.0.last.get().copied().unwrap_or_else(|| self.0.worker.counts())
    }

    /// Waits for the end: after [`Running::stop`], with the connector, or because the source
    /// failed for good, which the log tells.
    pub async fn ended(&self) -> Counts {
        self.0.ended.cancelled().await;
        self.counts()
    }

    /// Ends the intake, lets the handlers finish what had arrived, and gives up what is left
    /// after `within`.
    pub async fn stop(&self, within: Duration) -> Counts {
        self.0.stop.cancel();
        self.finish(Instant::now() + within.min(LONGEST)).await
    }

    /// Waits for the end until `deadline`, then brings it about.
    pub(super) async fn finish(&self, deadline: Instant) -> Counts {
        if tokio::time::timeout_at(deadline, self.0.ended.cancelled()).await.is_err() {
            self.0.abandon.cancel();
            self.0.ended.cancelled().await;
        }
        self.counts()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("worker", &self.0.worker.label())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
