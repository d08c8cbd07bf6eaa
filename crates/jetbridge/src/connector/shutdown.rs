//! The end: intake stops, handlers finish, what they sent is flushed, the connection closes; all
//! under one deadline, with a report of what was left.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{Error, ErrorKind, Result, StopReport};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::Connector;
use crate::worker::Counts;

/// The share of the time to shut down that is for flushing before, and for flushing and closing
/// after the handlers: a tenth each, and no more than this, which is many round trips.
const CLOSING_SHARE_MAX: Duration = Duration::from_secs(1);
/// What closing the connection gets when the time is up: enough to leave without a trace.
const CLOSING_MIN: Duration = Duration::from_millis(200);

/// Longer than any process lives, and short enough to be added to the time.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What shutting down came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// What became of the messages of all handlers, since the connector was made.
    pub counts: Counts,
    /// Why what was published last may not have reached the store, if so.
    pub flush_error: Option<Arc<Error>>,
    /// What closing the store left undone.
    pub store: StopReport,
    /// How long it took.
    pub took: Duration,
}

impl ShutdownReport {
    /// True if every handler finished and everything that was sent has arrived.
    pub fn is_clean(&self) -> bool {
        let counts = &self.counts;
        counts.abandoned == 0
            && counts.undelivered == 0
            && self.flush_error.is_none()
            && self.store.is_clean()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_clean() { "drained" } else { "cut short" };
        write!(f, "{word} in {} ms: {}", self.took.as_millis(), self.counts)?;
        if let Some(error) = &self.flush_error {
            write!(f, "; not flushed: {error}")?;
        }
        if self.store.writes_unacknowledged > 0 {
            write!(f, "; {} writes unacknowledged", self.store.writes_unacknowledged)?;
        }
        if self.store.tasks_abandoned > 0 {
            write!(f, "; {} tasks of the store abandoned", self.store.tasks_abandoned)?;
        }
        Ok(())
    }
}

impl Connector {
    /// Shuts down within `within`: intake stops, handlers finish what has arrived, what was
    /// published and acknowledged is flushed, the store's connection closes, also for others who
    /// share it. What is not done by then is given up and reported: handlers are dropped at their
    /// next await, and what a durable consumer had delivered to them comes again.
    ///
    /// Subscriptions that are read as streams deliver what had arrived, and end. Once it has
    /// begun, nothing new can be subscribed; handlers may go on writing and publishing to the
    /// end. Calling it again yields the same report.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jetbridge::connector::Connector;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> jetbridge::Result<()> {
    /// let connector = Connector::new(jetbridge::connect("memory:").await?);
    /// let mails = connector.subscribe::<String>("mail.>").handle(4, |_mail| async { Ok(()) });
    /// mails.await?;
    /// let report = connector.shutdown(Duration::from_secs(10)).await;
    /// assert!(report.is_clean(), "{report}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        self.0.report.get_or_init(|| self.stop(within)).await.clone()
    }

    /// Waits for `SIGTERM` or `SIGINT`, then shuts down within the drain timeout. A second signal
    /// cuts it short. From this call on, the signals no longer end the process by themselves.
    ///
    /// [`Internal`](ErrorKind::Internal) if the process cannot listen to signals.
    pub async fn shutdown_on_signal(&self) -> Result<ShutdownReport> {
        let mut signals = Signals::listen()?;
        let name = signals.next().await;
        let within = self.0.drain_timeout;
        tracing::info!(signal = name, timeout_ms = within.as_millis(), "shutting down");
        let mut stopping = pin!(self.shutdown(within));
        tokio::select! {
            report = &mut stopping => return Ok(report),
            name = signals.next() => {
                tracing::warn!(signal = name, "a second signal cuts it short");
                self.0.abandon.cancel();
            }
        }
        Ok(stopping.await)
    }

    async fn stop(&self, within: Duration) -> ShutdownReport {
        let (begun, within) = (Instant::now(), within.min(LONGEST));
        let deadline = begun + within;
        let closing_share = (within / 10).min(CLOSING_SHARE_MAX);
        // What was published before the end belongs to what handlers still get.
        let refused = self.flush(begun + closing_share).await;
        if let Some(error) = &refused {
            tracing::warn!("{error}");
        }
        self.0.closing.cancel();
        let counts = self.finish(deadline - closing_share).await;
        // What only took too long is seen by the second; what was refused is told once.
        let refused = refused.filter(|error| !error.is_retryable());
        let flush_error = self.flush(deadline).await.or(refused).map(Arc::new);
        let left = deadline.saturating_duration_since(Instant::now()).max(CLOSING_MIN);
        let store = self.0.backend.close(left).await;
        let report = ShutdownReport { counts, flush_error, store, took: begun.elapsed() };
        tracing::info!("{report}");
        report
    }

    async fn flush(&self, deadline: Instant) -> Option<Error> {
        match tokio::time::timeout_at(deadline, self.0.bus.flush()).await {
            Ok(flushed) => flushed.err(),
            Err(_elapsed) => Some(
                Error::new(ErrorKind::Unavailable, "bus.flush")
                    .because("the store did not answer before the deadline"),
            ),
        }
    }

    async fn finish(&self, deadline: Instant) -> Counts {
        let (running, past) = {
            let runners = self.0.runners.lock().unwrap_or_else(PoisonError::into_inner);
            (runners.live.clone(), runners.past)
        };
        let ended = join_all(running.iter().map(|running| running.finish(deadline))).await;
        ended.into_iter().fold(past, Counts::plus)
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let on = |kind| {
            signal(kind).map_err(|cause| {
                Error::new(ErrorKind::Internal, "connector.shutdown")
                    .because("the process cannot listen to signals")
                    .caused_by(cause)
            })
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
