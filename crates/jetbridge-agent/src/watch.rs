//! Tells when a file of `up` has changed.
//!
//! Folders are watched, not files: editors and deployments replace files, and a watch on the old
//! one would hear nothing more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// How long a file must be left alone before it counts as changed: writers take several steps.
const SETTLES: Duration = Duration::from_millis(200);

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    changes: watch::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    /// Watches `files`.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the system cannot watch a folder.
    pub fn new(files: &[PathBuf]) -> Result<Self> {
        let names: BTreeSet<PathBuf> = files.iter().map(|file| absolute(file)).collect();
        let folders: BTreeSet<PathBuf> =
            names.iter().filter_map(|name| name.parent().map(Path::to_owned)).collect();
        let (sender, changes) = watch::channel(());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be missing: then the files are read again too.
            let ours = event.as_ref().map_or(true, |event| {
                !matches!(event.kind, EventKind::Access(_))
                    && event.paths.iter().any(|path| names.contains(path))
            });
            if ours {
                sender.send_replace(());
            }
        })
        .map_err(|cause| cannot(cause, None))?;
        for folder in &folders {
            watcher
                .watch(folder, RecursiveMode::NonRecursive)
                .map_err(|cause| cannot(cause, Some(folder)))?;
        }
        Ok(Self { changes, _watcher: watcher })
    }

    /// Resolves when a file has changed and has then been left alone for a moment.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The watcher is gone, which only dropping this does.
            std::future::pending::<()>().await;
        }
        while let Ok(Ok(())) = tokio::time::timeout(SETTLES, self.changes.changed()).await {}
    }
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_no_directory| file.to_owned())
}

fn cannot(cause: notify::Error, folder: Option<&Path>) -> Error {
    let error = Error::new(ErrorKind::Unavailable, "file.watch").caused_by(cause);
    match folder {
        Some(folder) => error.with("folder", folder.display()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_a_change_and_a_neighbour_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("up.yml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = FileWatch::new(std::slice::from_ref(&file)).unwrap();
        std::fs::write(folder.path().join("other.yml"), "x").unwrap();
        std::fs::write(folder.path().join("up.yml.new"), "b").unwrap();
        std::fs::rename(folder.path().join("up.yml.new"), &file).unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
        std::fs::write(folder.path().join("other.yml"), "y").unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(silent.is_err(), "another file's change is no change");
    }
}
