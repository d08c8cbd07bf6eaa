//! Tells when a database may have changed: the system says so, or a while has passed.
//!
//! One watcher serves the process. Systems allow few of them, and each is a thread; folders of
//! databases may hold thousands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::database::{beside, real};

/// Where the system tells of changes, it is asked so many times less often without one: only a
/// folder that was taken away and made again is noticed no other way.
const POLLS_IF_WATCHED: u32 = 30;

/// The system tells of what a writer appends to the log; that it is committed stands in memory
/// that writers share, after their `fsync`, and nobody tells of that. So the first look is this
/// much later, and more follow, each after twice the time, while nothing is told.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The last look of that kind. An `fsync` that takes longer is met by the poll.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Wakes until it is dropped.
#[derive(Debug)]
pub(super) struct Wake {
    changes: watch::Receiver<()>,
    /// Kept open where the system cannot watch, so that only time wakes.
    _sender: watch::Sender<()>,
    interest: Option<Interest>,
    poll: Duration,
    /// How long after the next look another one is due, after a change.
    again: Option<Duration>,
}

impl Wake {
    /// Watches the folder of `path`: the database and its log may be made, replaced and deleted.
    pub(super) fn new(path: &Path, poll: Duration) -> Self {
        let (sender, changes) = watch::channel(());
        let interest = Interest::register(path, &sender);
        let interest = interest
            .inspect_err(|cause| {
                let path = path.display();
                tracing::warn!(%path, %cause, "the folder cannot be watched; it is polled");
            })
            .ok();
        let poll = if interest.is_some() { poll * POLLS_IF_WATCHED } else { poll };
        Self { changes, _sender: sender, interest, poll, again: None }
    }

    /// Resolves when something may have changed.
    pub(super) async fn woken(&mut self) {
        let wait = self.again.unwrap_or(self.poll);
        if tokio::time::timeout(wait, self.changes.changed()).await.is_err() {
            self.again = self.again.map(|it| it * 2).filter(|it| *it <= LAST_LOOK);
            return;
        }
        // Before the wait: whoever drops this looks, and must look again.
        self.again = Some(FIRST_LOOK * 2);
        tokio::time::sleep(FIRST_LOOK).await;
        self.changes.mark_unchanged();
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(interest) = self.interest.take() {
            interest.unregister();
        }
    }
}

/// What one database waits for.
#[derive(Debug)]
struct Interest {
    id: u64,
    folder: PathBuf,
    names: [PathBuf; 2],
}

/// Whom to tell of which file.
static LISTENERS: Mutex<Option<Listeners>> = Mutex::new(None);
type Listeners = HashMap<PathBuf, Vec<(u64, watch::Sender<()>)>>;

/// The watcher, and how many databases it watches each folder for. Locked before [`LISTENERS`]
/// and never by the watcher's own thread.
static FOLDERS: LazyLock<Mutex<Folders>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Folders {
    watcher: Option<RecommendedWatcher>,
    uses: HashMap<PathBuf, usize>,
}

impl Interest {
    fn register(path: &Path, sender: &watch::Sender<()>) -> notify::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = real(path).map_err(notify::Error::io)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let interest = Self { id, folder, names: [beside(&path, "-wal"), path] };
        let mut folders = lock(&FOLDERS);
        folders.watch(&interest.folder)?;
        let mut listeners = lock(&LISTENERS);
        let listeners = listeners.get_or_insert_default();
        for name in &interest.names {
            listeners.entry(name.clone()).or_default().push((id, sender.clone()));
        }
        Ok(interest)
    }

    fn unregister(&self) {
        lock(&FOLDERS).unwatch(&self.folder);
        let mut listeners = lock(&LISTENERS);
        let Some(listeners) = listeners.as_mut() else { return };
        for name in &self.names {
            if let Some(list) = listeners.get_mut(name) {
                list.retain(|(id, _)| *id != self.id);
            }
        }
        listeners.retain(|_, list| !list.is_empty());
    }
}

impl Folders {
    fn watch(&mut self, folder: &Path) -> notify::Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(notify::recommended_watcher(tell)?),
        };
        if !self.uses.contains_key(folder) {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        *self.uses.entry(folder.to_owned()).or_default() += 1;
        Ok(())
    }

    fn unwatch(&mut self, folder: &Path) {
        let Some(uses) = self.uses.get_mut(folder) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(folder);
            // A folder that is gone is watched no more anyway.
            let unwatched = self.watcher.as_mut().map(|watcher| watcher.unwatch(folder));
            unwatched.transpose().map(drop).unwrap_or_default();
        }
    }
}

fn tell(event: notify::Result<Event>) {
    let listeners = lock(&LISTENERS);
    let Some(listeners) = listeners.as_ref() else { return };
    match event {
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) if !event.need_rescan() => {
            let names = event.paths.iter().filter_map(|path| listeners.get(path));
            wake(names.flatten());
        }
        // Events were lost: everybody looks.
        Ok(_) | Err(_) => {
            wake(listeners.values().flatten());
        }
    }
}

fn wake<'a>(listeners: impl Iterator<Item = &'a (u64, watch::Sender<()>)>) {
    for (_, sender) in listeners {
        sender.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
