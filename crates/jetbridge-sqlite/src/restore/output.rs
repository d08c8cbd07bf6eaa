//! The file that is made: under another name until it is right and on disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind, Result};

use super::source::blocking;
use super::{OPERATION, Overwrite};

/// What SQLite keeps beside a database. What is left there of another database would be taken
/// for this one's.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];
const DRAFT_SUFFIX: &str = ".jetbridge-restore";

/// Where a database is restored to.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
}

impl Output {
    /// Checks that nothing is lost by it.
    pub(super) fn new(path: &Path, overwrite: Overwrite) -> Result<Self> {
        let output = Self { path: path.to_owned() };
        if overwrite == Overwrite::No {
            output.check_free()?;
        }
        Ok(output)
    }

    fn check_free(&self) -> Result<()> {
        let taken = |path: &Path, why: &str| {
            Error::new(ErrorKind::AlreadyExists, OPERATION)
                .because(format!("cannot restore, {why}: {}", path.display()))
                .hint("Use -force to overwrite")
        };
        match fs::metadata(&self.path) {
            Ok(found) if found.len() > 0 || !found.is_file() => {
                return Err(taken(&self.path, "output path already exists and is not empty"));
            }
            Ok(_empty) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(error)),
        }
        for sidecar in self.sidecars() {
            if sidecar.exists() {
                return Err(taken(
                    &sidecar,
                    "a file of another database is beside the output path",
                ));
            }
        }
        Ok(())
    }

    fn sidecars(&self) -> impl Iterator<Item = PathBuf> {
        SIDECARS.iter().map(|suffix| with_suffix(&self.path, suffix))
    }

    /// A new file under another name.
    pub(super) fn draft(&self) -> Result<Draft<'_>> {
        let path = with_suffix(&self.path, DRAFT_SUFFIX);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|error| unwritten(error).with("path", path.display()))?;
        Ok(Draft { output: self, path, file: Some(Arc::new(file)) })
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
        let (draft, path) = (self.path.clone(), self.output.path.clone());
        let sidecars: Vec<PathBuf> = self.output.sidecars().collect();
        blocking(move || {
            file.sync_all().map_err(unwritten)?;
            for sidecar in sidecars {
                remove(&sidecar)?;
            }
            fs::rename(&draft, &path).map_err(unwritten)?;
            sync_directory(&path)
        })
        .await?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It is a file that nobody knows of; the next restore writes over it.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritten(error)),
        _ => Ok(()),
    }
}

/// Brings the names of the directory of `path` to disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritten)
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
