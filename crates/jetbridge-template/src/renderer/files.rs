//! Tells when something has happened in the folders of some local files.
//!
//! Folders are watched, not files: editors and deployments replace files, and a watch on the old
//! one would hear nothing more. A folder that is replaced itself is watched again. What happens to
//! links on the way is not heard here: whether a file has changed says its stamp.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// Device and inode of a folder: another one may have its path later.
type Identity = (u64, u64);

/// Watches folders until it is dropped.
#[derive(Debug)]
pub(super) struct FolderWatch {
    folders: BTreeMap<PathBuf, Identity>,
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
        Ok(Self { folders: BTreeMap::new(), watcher })
    }

    /// Watches exactly the folders of `files` from now on.
    pub(super) fn set<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
        let folders: BTreeMap<PathBuf, Identity> = files.filter_map(|file| folder(file)).collect();
        let is_wanted = |folder: &PathBuf, known: &Identity| folders.get(folder) == Some(known);
        for (folder, _) in self.folders.iter().filter(|(folder, known)| !is_wanted(folder, known)) {
            // A folder that is gone is not watched any more anyway.
            self.watcher.unwatch(folder).unwrap_or_default();
        }
        self.folders.retain(|folder, known| is_wanted(folder, known));
        for (folder, identity) in folders {
            if !self.folders.contains_key(&folder) {
                self.watcher
                    .watch(&folder, RecursiveMode::NonRecursive)
                    .map_err(|cause| cannot(cause, Some(&folder)))?;
                self.folders.insert(folder, identity);
            }
        }
        Ok(())
    }
}

/// The nearest folder of `file` that is there.
fn folder(file: &Path) -> Option<(PathBuf, Identity)> {
    let file = std::path::absolute(file).ok()?;
    file.ancestors().skip(1).find_map(|folder| {
        let found = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
        Some((folder.to_owned(), (found.dev(), found.ino())))
    })
}

fn cannot(cause: notify::Error, folder: Option<&Path>) -> Error {
    let error = Error::new(ErrorKind::Unavailable, "template.watch").caused_by(cause);
    match folder {
        Some(folder) => error.with("folder", folder.display()),
        None => error,
    }
}
