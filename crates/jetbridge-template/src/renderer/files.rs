//! Tells when something has happened in the folders of some local files.
//!
//! Folders are watched, not files: editors and deployments replace files, and a watch on the old
//! one would hear nothing more. Whether a file itself has changed says its stamp, also where it
//! is reached through links that lead elsewhere now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// Watches folders until it is dropped.
#[derive(Debug)]
pub(super) struct FolderWatch {
    folders: BTreeSet<PathBuf>,
    watcher: RecommendedWatcher,
}

impl FolderWatch {
    /// Watches nothing yet; counts up `changes` for each event.
    pub(super) fn new(changes: watch::Sender<u64>) -> Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be missing: then everything may have changed.
            if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
                changes.send_modify(|count| *count += 1);
            }
        })
        .map_err(|cause| cannot(cause, None))?;
        Ok(Self { folders: BTreeSet::new(), watcher })
    }

    /// Watches exactly the folders of `files` from now on.
    pub(super) fn set<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
        let folders: BTreeSet<PathBuf> = files.filter_map(|file| folder(file)).collect();
        for folder in self.folders.difference(&folders) {
            // A folder that is gone is not watched any more anyway.
            self.watcher.unwatch(folder).unwrap_or_default();
        }
        self.folders.retain(|folder| folders.contains(folder));
        for folder in folders {
            if !self.folders.contains(&folder) {
                self.watcher
                    .watch(&folder, RecursiveMode::NonRecursive)
                    .map_err(|cause| cannot(cause, Some(&folder)))?;
                self.folders.insert(folder);
            }
        }
        Ok(())
    }
}

/// The nearest folder of `file` that is there.
fn folder(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    file.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn cannot(cause: notify::Error, folder: Option<&Path>) -> Error {
    let error = Error::new(ErrorKind::Unavailable, "template.watch").caused_by(cause);
    match folder {
        Some(folder) => error.with("folder", folder.display()),
        None => error,
    }
}
