//! Tells when a file of `up` has changed.
//!
//! Folders are watched, not files: editors and deployments replace files, and a watch on the old
//! one would hear nothing more. Where a file is reached through symbolic links, so are the folders
//! of those: a ConfigMap is changed by swapping a link that its files lead through. Whatever
//! happens in a folder, what counts is whether the file is another one, or has changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use jetbridge_core::{Error, ErrorKind, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// How long a file must be left alone before it counts as changed: writers take several steps.
const SETTLES: Duration = Duration::from_millis(200);
/// Links that are followed for one file; more are a circle, as for the system.
const LINKS_MAX: usize = 40;

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
    seen: Vec<Option<Seen>>,
    events: watch::Receiver<()>,
    watcher: RecommendedWatcher,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileWatch {
    /// Watches `files`.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the system cannot watch a folder.
    pub fn new(files: &[PathBuf]) -> Result<Self> {
        let files: Vec<PathBuf> = files.iter().map(|file| absolute(file)).collect();
        let (sender, events) = watch::channel(());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be missing: then the files are looked at too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                sender.send_replace(());
            }
        })
        .map_err(|cause| cannot(cause, None))?;
        let (seen, folders) = (look(&files), BTreeSet::new());
        let mut watch = Self { files, folders, seen, events, watcher };
        for folder in watch.folders_now() {
            watch.add(folder)?;
        }
        Ok(watch)
    }

    /// Resolves when a file has changed and has then been left alone for a moment.
    pub async fn changed(&mut self) {
        loop {
            if self.events.changed().await.is_err() {
                // The watcher is gone, which only dropping this does.
                std::future::pending::<()>().await;
            }
            // However busy the folder is, it is not looked at more often than this.
            tokio::time::sleep(SETTLES).await;
            self.events.mark_unchanged();
            self.follow();
            let mut now = look(&self.files);
            if now == self.seen {
                continue;
            }
            loop {
                tokio::time::sleep(SETTLES).await;
                let later = look(&self.files);
                if later == now {
                    break;
                }
                now = later;
            }
            self.follow();
            self.seen = now;
            return;
        }
    }

    /// Watches where the files are now, and no longer where they were.
    fn follow(&mut self) {
        let now = self.folders_now();
        for left in self.folders.difference(&now) {
            // One that was removed is not watched any more already.
            drop(self.watcher.unwatch(left));
        }
        self.folders.retain(|folder| now.contains(folder));
        for folder in now {
            if let Err(error) = self.add(folder) {
                tracing::warn!(%error, "changes of a file may go unnoticed");
            }
        }
    }

    fn add(&mut self, folder: PathBuf) -> Result<()> {
        if self.folders.contains(&folder) {
            return Ok(());
        }
        let added = self.watcher.watch(&folder, RecursiveMode::NonRecursive);
        added.map_err(|cause| cannot(cause, Some(&folder)))?;
        self.folders.insert(folder);
        Ok(())
    }

    fn folders_now(&self) -> BTreeSet<PathBuf> {
        self.files.iter().flat_map(|file| folders_of(file)).collect()
    }
}

fn look(files: &[PathBuf]) -> Vec<Option<Seen>> {
    let look = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Seen {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    };
    files.iter().map(look).collect()
}

/// The folders in which the way to `file` can change: those of the links on it, and its own.
fn folders_of(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = file.parent().map(Path::to_owned).into_iter().collect();
    let mut rest: Vec<OsString> = parts(file);
    let mut way = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            way.pop();
            continue;
        }
        let next = way.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                folders.insert(way.clone());
                if target.is_absolute() {
                    way = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ if rest.is_empty() && way.is_dir() => drop(folders.insert(way.clone())),
            _ => way = next,
        }
    }
    folders
}

/// The names that `path` leads through, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
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
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    async fn hears(watch: &mut FileWatch, what: &str) {
        assert!(tokio::time::timeout(SOON, watch.changed()).await.is_ok(), "unnoticed: {what}");
    }

    async fn hears_nothing(watch: &mut FileWatch, what: &str) {
        let silent = tokio::time::timeout(Duration::from_millis(600), watch.changed()).await;
        assert!(silent.is_err(), "no change of the file: {what}");
    }

    #[tokio::test]
    async fn a_replaced_file_is_a_change_and_a_neighbour_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("up.yml");
        fs::write(&file, "a").unwrap();
        let mut watch = FileWatch::new(std::slice::from_ref(&file)).unwrap();
        fs::write(folder.path().join("other.yml"), "x").unwrap();
        fs::write(folder.path().join("up.yml.new"), "b").unwrap();
        fs::rename(folder.path().join("up.yml.new"), &file).unwrap();
        hears(&mut watch, "it was replaced").await;
        fs::write(folder.path().join("other.yml"), "y").unwrap();
        hears_nothing(&mut watch, "a neighbour was written").await;
        fs::write(&file, "longer").unwrap();
        hears(&mut watch, "it was written").await;
    }

    /// As Kubernetes mounts a ConfigMap: the file leads through `..data`, which is swapped.
    #[tokio::test]
    async fn a_link_on_the_way_that_is_swapped_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("up.yml"), "as long").unwrap();
            symlink(name, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        version("..1");
        symlink("..data/up.yml", at("up.yml")).unwrap();
        let mut watch = FileWatch::new(&[at("up.yml")]).unwrap();
        for (old, new) in [("..1", "..2"), ("..2", "..3")] {
            version(new);
            fs::remove_dir_all(at(old)).unwrap();
            hears(&mut watch, "the link was swapped").await;
        }
        // Where it leads now is watched too.
        fs::write(at("..3").join("up.yml"), "edited in place").unwrap();
        hears(&mut watch, "it was written where it leads").await;
        hears_nothing(&mut watch, "nothing happened").await;
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(folders_of(&folder.path().join("a")).contains(folder.path()));
    }
}
