//! Tells when a database may have changed: the system says so, or a while has passed.

use std::path::Path;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::database::beside;

/// Wakes until it is dropped.
#[derive(Debug)]
pub(super) struct Wake {
    changes: watch::Receiver<()>,
    /// Kept open where the system cannot watch, so that only time wakes.
    _sender: watch::Sender<()>,
    _watcher: Option<RecommendedWatcher>,
    poll: Duration,
}

impl Wake {
    /// Watches the folder of `path`: the database and its log may be made, replaced and deleted.
    pub(super) fn new(path: &Path, poll: Duration) -> Self {
        let (sender, changes) = watch::channel(());
        let watcher = watcher(path, sender.clone());
        let watcher = watcher
            .inspect_err(|cause| {
                let path = path.display();
                tracing::warn!(%path, %cause, "the folder cannot be watched; it is polled");
            })
            .ok();
        Self { changes, _sender: sender, _watcher: watcher, poll }
    }

    /// Resolves when something may have changed.
    pub(super) async fn woken(&mut self) {
        // Time is up, or something changed: both are a reason to look.
        tokio::time::timeout(self.poll, self.changes.changed()).await.map(drop).unwrap_or_default();
    }
}

fn watcher(path: &Path, sender: watch::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let path = std::path::absolute(path).map_err(notify::Error::io)?;
    let folder = path.parent().unwrap_or(&path).to_owned();
    let names = [beside(&path, "-wal"), path];
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let ours = event.as_ref().map_or(true, |event| {
            !matches!(event.kind, EventKind::Access(_))
                && event.paths.iter().any(|path| names.contains(path))
        });
        if ours {
            sender.send_replace(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
