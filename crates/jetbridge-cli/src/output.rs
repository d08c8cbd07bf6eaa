//! A file that appears whole or not at all: written beside its place, synced, then moved there.
//! What is no regular file (a device, a pipe) is written directly, for nothing could be moved
//! over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jetbridge_core::{Result, random};

use crate::input::file_error;

/// A file being written.
#[derive(Debug)]
pub(crate) struct OutputFile {
    target: PathBuf,
    /// Where the bytes are until they are complete; `None` if they go to the target directly.
    draft: Option<PathBuf>,
    file: File,
}

impl OutputFile {
    /// Begins to write `path`. What is there stays until [`OutputFile::commit`].
    pub(crate) fn create(path: &Path) -> Result<Self> {
        begin(path).map_err(|error| file_error("file.write", path, error))
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| file_error("file.write", &self.target, error))
    }

    /// Makes the bytes durable and the file appear.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.publish().map_err(|error| file_error("file.write", &self.target, error))
    }

    fn publish(&mut self) -> io::Result<()> {
        let Some(draft) = &self.draft else { return self.file.flush() };
        self.file.sync_all()?;
        fs::rename(draft, &self.target)?;
        self.draft = None;
        File::open(directory(&self.target))?.sync_all()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // It cannot be told to anybody, and a stale draft harms nobody.
            let _removed = fs::remove_file(draft);
        }
    }
}

fn begin(path: &Path) -> io::Result<OutputFile> {
    // Through a link, so that the file it leads to is replaced and not the link.
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let present = match fs::metadata(&target) {
        Ok(facts) => Some(facts),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if present.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if present.as_ref().is_some_and(|facts| !facts.is_file()) {
        let file = OpenOptions::new().write(true).open(&target)?;
        return Ok(OutputFile { target, draft: None, file });
    }
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{:016x}.part", random::u64()));
    let draft = directory(&target).join(draft);
    let file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
    let output = OutputFile { target, draft: Some(draft), file };
    if let Some(facts) = present {
        output.file.set_permissions(facts.permissions())?;
    }
    Ok(output)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut abandoned = OutputFile::create(&path).unwrap();
        abandoned.write(b"half").unwrap();
        drop(abandoned);
        assert!(names(directory.path()).is_empty());

        let mut output = OutputFile::create(&path).unwrap();
        output.write(b"whole").unwrap();
        assert!(!path.exists());
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn what_was_there_keeps_its_mode_and_its_links() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("out"), directory.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut output = OutputFile::create(&link).unwrap();
        output.write(b"new").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn devices_are_written_and_directories_are_refused() {
        let mut null = OutputFile::create(Path::new("/dev/null")).unwrap();
        null.write(b"gone").unwrap();
        null.commit().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(OutputFile::create(Path::new("/")).is_err());
        assert!(OutputFile::create(Path::new("/no/such/dir/out")).is_err());
    }
}
