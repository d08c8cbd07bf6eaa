//! The file that is made: under another name until it is right and on disk.
//!
//! That name is nobody else's, and the file is locked while it is written: restores to one path
//! do not see each other before the first has given its file the name. What a restore that was
//! killed has left is known by its lock, which is gone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind, Result, random};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::source::blocking;
use super::{OPERATION, Overwrite};

/// What SQLite keeps beside a database. What is left there of another database would be taken
/// for this one's.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Where Litestream keeps the position of what it follows.
pub(crate) const POSITION_SUFFIX: &str = "-txid";
/// What the name of a draft goes on with behind that of the output; a random name follows.
const DRAFT_SUFFIX: &str = ".jetbridge-restore-";
/// The same for the empty file that a draft takes the place of.
const ASIDE_SUFFIX: &str = ".jetbridge-aside-";

/// True if a file of this name is one that a restore has not finished, or has set aside: no
/// database of anybody.
pub fn is_draft(name: &str) -> bool {
    name.contains(DRAFT_SUFFIX) || name.contains(ASIDE_SUFFIX)
}

/// Where a database is restored to.
#[derive(Clone, Debug)]
pub(super) struct Output {
    path: PathBuf,
    overwrite: Overwrite,
}

impl Output {
    /// Checks that nothing is lost by it.
    pub(super) fn new(path: &Path, overwrite: Overwrite) -> Result<Self> {
        let output = Self { path: path.to_owned(), overwrite };
        if overwrite == Overwrite::No {
            output.check_free()?;
        }
        Ok(output)
    }

    fn check_free(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if found.len() > 0 || !found.is_file() => return Err(self.taken()),
            Ok(_empty) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(error)),
        }
        match self.sidecars().find(|sidecar| sidecar.exists()) {
            Some(sidecar) => {
                Err(taken(&sidecar, "a file of another database is beside the output path"))
            }
            None => Ok(()),
        }
    }

    fn taken(&self) -> Error {
        taken(&self.path, "output path already exists and is not empty")
    }

    fn sidecars(&self) -> impl Iterator<Item = PathBuf> {
        SIDECARS.iter().map(|suffix| with_suffix(&self.path, suffix))
    }

    /// A new file under another name.
    pub(super) fn draft(&self) -> Result<Draft<'_>> {
        self.sweep();
        loop {
            let suffix = format!("{DRAFT_SUFFIX}{}", random::name());
            let path = with_suffix(&self.path, &suffix);
            let made = File::options().read(true).write(true).create_new(true).open(&path);
            let locked =
                made.and_then(|file| file.lock().and(file.metadata()).map(|it| (file, it)));
            let (file, facts) =
                locked.map_err(|error| unwritten(error).with("path", path.display()))?;
            // Another restore may have swept it before it was locked.
            if facts.nlink() > 0 {
                return Ok(Draft { output: self, path, file: Some(Arc::new(file)) });
            }
        }
    }

    /// Removes the drafts of restores that were killed. What cannot be removed only takes room.
    fn sweep(&self) {
        let Some(name) = self.path.file_name() else { return };
        let prefix = with_suffix(Path::new(name), DRAFT_SUFFIX);
        let prefix = prefix.as_os_str().as_encoded_bytes();
        let Ok(entries) = fs::read_dir(directory_of(&self.path)) else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(prefix) {
                sweep_draft(&entry.path()).unwrap_or_default();
            }
        }
    }

    /// Gives the file `draft` the name of the output.
    fn take_name(&self, draft: &Path) -> Result<()> {
        match self.overwrite {
            Overwrite::Yes => {
                for sidecar in self.sidecars() {
                    remove(&sidecar)?;
                }
                // It says where the old one stood.
                remove(&with_suffix(&self.path, POSITION_SUFFIX))?;
                fs::rename(draft, &self.path).map_err(unwritten)
            }
            Overwrite::No => {
                // It was free when the restore began; an application may have come since.
                self.check_free()?;
                self.remove_empty()?;
                match rename_to_free(draft, &self.path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(self.taken()),
                    other => other.map_err(unwritten),
                }
            }
        }
    }

    /// Removes the empty file of the output's name, aside, where nobody fills it between the look
    /// and the removal.
    fn remove_empty(&self) -> Result<()> {
        let aside = with_suffix(&self.path, &format!("{ASIDE_SUFFIX}{}", random::name()));
        match fs::rename(&self.path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(unwritten)?,
        }
        if fs::metadata(&aside).map_err(unwritten)?.len() == 0 {
            return remove(&aside);
        }
        rename_to_free(&aside, &self.path).map_err(unwritten)?;
        Err(self.taken())
    }
}

fn taken(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, OPERATION)
        .because(format!("cannot restore, {why}: {}", path.display()))
        .hint("Use -force to overwrite")
}

/// Removes a draft unless somebody writes it.
fn sweep_draft(path: &Path) -> io::Result<()> {
    // With two names it is a database already, which is not to be opened and closed here.
    if fs::metadata(path)?.nlink() == 1 {
        File::open(path)?.try_lock()?;
    }
    fs::remove_file(path)
}

/// Renames a file, unless there is one of the new name.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can; every other way to do it takes two steps.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => other.map_err(io::Error::from),
    }
}

/// A database that is not ready; removed when dropped.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    output: &'a Output,
    path: PathBuf,
    file: Option<Arc<File>>,
}

impl Draft<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> Result<Arc<File>> {
        self.file.clone().ok_or_else(|| Error::new(ErrorKind::Internal, OPERATION))
    }

    /// Brings it to disk and gives it its name.
    pub(super) async fn publish(&mut self) -> Result<()> {
        let file = self.file()?;
        let (draft, output) = (self.path.clone(), self.output.clone());
        blocking(move || {
            file.sync_all().map_err(unwritten)?;
            output.take_name(&draft)?;
            sync_directory(&output.path)
        })
        .await?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It is a file that nobody knows of; the next restore removes it.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritten(error)),
        _ => Ok(()),
    }
}

/// Brings the names of the directory of `path` to disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(directory_of(path)).and_then(|directory| directory.sync_all()).map_err(unwritten)
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A database file that cannot be written.
pub(crate) fn unwritten(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::LimitExceeded,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::InvalidInput,
    };
    Error::new(kind, OPERATION).because("the database file cannot be written").caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn two_restores_to_one_path_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let output = Output::new(&path, Overwrite::Yes).unwrap();
        let mut first = output.draft().unwrap();
        first.file().unwrap().write_all(b"first").unwrap();
        let second = output.draft().unwrap();
        second.file().unwrap().write_all(b"2").unwrap();
        first.publish().await.unwrap();
        second.file().unwrap().write_all(b"nd").unwrap();
        drop(second);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_restore_left_is_removed_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(&dir.path().join("a.db"), Overwrite::No).unwrap();
        let left = with_suffix(&output.path, ".jetbridge-restore-left");
        fs::write(&left, "half").unwrap();
        let living = output.draft().unwrap();
        assert!(!left.exists());
        let _other = output.draft().unwrap();
        assert!(living.path().exists());
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "").unwrap();
        let error = rename_to_free(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&to).unwrap();
        rename_to_free(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }
}
