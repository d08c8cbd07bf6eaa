//! What holds while connections break, acknowledgements are lost and the store restarts.

pub mod follow;
pub mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::contract::steps::patience;
use crate::{Storm, eventually};

/// Makes the tests of [`contract::storm`](crate::contract::storm) over what `$open` opens: an
/// `async fn() -> Fixture` next to it, with a [`storm`](crate::Fixture::storm).
#[macro_export]
macro_rules! storm_contract {
    ($open:ident) => {
        mod storm {
            $crate::__storm_follow!($open);
            $crate::__storm_write!($open);
        }
    };
}

/// Of a thousand acknowledgements, so many are lost: enough to meet every case several times.
const ACKS_LOST: u16 = 150;

/// How far the work of a case has come, so that a blow can fall in its middle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicUsize>);

impl Progress {
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Cuts the connections at a quarter and at three quarters of `steps`, and restarts the
    /// store in between.
    pub(crate) async fn blows(&self, storm: &dyn Storm, steps: usize) {
        // A storm makes everything slower: each quarter may take as long as an answer.
        self.reaches(steps / 4, patience()).await;
        storm.cut().await;
        self.reaches(steps / 2, patience()).await;
        storm.restart().await;
        self.reaches(steps * 3 / 4, patience()).await;
        storm.cut().await;
    }

    pub(crate) async fn reaches(&self, steps: usize, within: Duration) {
        eventually("the work goes on", within, async || {
            (self.0.load(Ordering::Relaxed) >= steps).then_some(())
        })
        .await;
    }
}
