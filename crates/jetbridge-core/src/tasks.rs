//! Tracked background work: every task is joined at shutdown.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The background tasks of one owner. Clones share them.
///
/// Dropping the last clone does not stop the tasks: [`Tasks::stop`] does, with a deadline and a
/// report. A task that should end early watches [`Tasks::stopping`].
///
/// ```
/// # async fn demo() {
/// use std::time::Duration;
/// use jetbridge_core::Tasks;
///
/// let tasks = Tasks::new();
/// let stopping = tasks.clone();
/// tasks.spawn(async move { stopping.stopping().await });
/// assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends or [`Tasks::stop`] gives up on it.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task);
    }

    /// Runs `task` until it ends or stopping begins, whichever is first; it is then dropped
    /// where it stands.
    pub fn spawn_until_stop<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Resolves when stopping begins.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// True once stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Begins to stop, without waiting.
    pub fn begin_stop(&self) {
        self.token.cancel();
    }

    /// Asks every task to stop and waits for them at most `grace`; returns how many are left.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.token.cancel();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_elapsed) => self.tracker.len(),
        }
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// True if no task runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stop_joins_what_listens_and_counts_what_does_not() {
        let tasks = Tasks::new();
        let listening = tasks.clone();
        tasks.spawn(async move { listening.stopping().await });
        tasks.spawn_until_stop(std::future::pending());
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);

        let tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        assert_eq!(tasks.stop(Duration::from_millis(1)).await, 1);
    }
}
