//! How long a replica may take: as long as it gets on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{Error, ErrorKind, Result};

use super::fault::CAPTURE;
use super::uplink::{Delta, Pages};

/// How long a replica may stand still before it is said to; an outage is to be logged in 5 s.
const SLOW: Duration = Duration::from_secs(4);
/// Intervals of [`SLOW`] without progress after which a call is given up: half a minute, so that
/// a server which is only restarted is waited for.
const STALLED: u32 = 8;

/// That a delta gets on: an uplink that takes longer than half a minute must say so.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Some more of it has gone out.
    pub fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it got on.
    pub fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The same delta, which gets on too when its pages are read one by one.
    pub(super) fn of(delta: Delta) -> (Delta, Self) {
        let progress = delta.progress.clone();
        let count = progress.clone();
        let pages = match delta.pages {
            Pages::Streamed(pages) => {
                Pages::Streamed(pages.inspect(move |_page| count.tick()).boxed())
            }
            held @ Pages::Held(_) => held,
        };
        (Delta { pages, ..delta }, progress)
    }
}

/// Waits for an answer for as long as any may take.
pub(super) async fn limited<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(SLOW * STALLED, call).await;
    answer.unwrap_or_else(|_elapsed| Err(still(STALLED)))
}

/// Waits for as long as `progress` is made, and tells when there is none for a while.
pub(super) async fn while_progress<T>(
    call: impl Future<Output = Result<T>>,
    progress: &Progress,
    mut slow: impl FnMut(Error),
) -> Result<T> {
    let mut call = std::pin::pin!(call);
    let (mut seen, mut intervals) = (0, 0);
    loop {
        match tokio::time::timeout(SLOW, &mut call).await {
            Ok(done) => return done,
            Err(_elapsed) => {
                let now = progress.ticks();
                intervals = if now == seen { intervals + 1 } else { 0 };
                seen = now;
            }
        }
        match intervals {
            0 => {}
            STALLED.. => return Err(still(intervals)),
            _ => slow(still(intervals)),
        }
    }
}

fn still(intervals: u32) -> Error {
    let seconds = (SLOW * intervals).as_secs();
    Error::new(ErrorKind::Unavailable, CAPTURE)
        .because(format!("the replica has not answered for {seconds} s"))
        .outcome_unknown()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ship(progress: &Progress, ticks: u32) -> Result<()> {
        for _ in 0..ticks {
            tokio::time::sleep(SLOW * 2).await;
            progress.tick();
        }
        tokio::time::sleep(SLOW * 2 * STALLED).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_on_may_take_long_and_what_stands_still_may_not() {
        let (progress, begun) = (Progress::default(), tokio::time::Instant::now());
        let failed = while_progress(ship(&progress, 20), &progress, |_slow| ()).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(progress.ticks(), 20);
        assert!(begun.elapsed() >= SLOW * (40 + STALLED));
        assert!(begun.elapsed() <= SLOW * (40 + STALLED + 2));
    }
}
