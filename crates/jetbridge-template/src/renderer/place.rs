//! The file on disk: replaced as a whole or not at all.
//!
//! New bytes go to a hidden neighbour of the target, are synced there, and take its name only
//! when everything about them is settled. Who opens the target sees the old file or the new one.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};

use super::spec::RenderSpec;

/// The permissions of a file that was not there before, unless the spec says otherwise: what
/// comes from a store may be a secret.
const MODE_NEW: u32 = 0o600;

/// The bits of a mode that are permissions.
const MODE_BITS: u32 = 0o7777;

/// How often the neighbour is opened again because another process has just moved it away.
const OPEN_ATTEMPTS_MAX: usize = 100;

/// Whose a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// What is at the target now.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) bytes: Vec<u8>,
    mode: u32,
    owner: Owner,
}

/// Reads the target; `None` if it is not there.
pub(super) fn present(target: &Path) -> Result<Option<Present>> {
    let read = || -> io::Result<Present> {
        let bytes = fs::read(target)?;
        let found = fs::metadata(target)?;
        let owner = Owner { uid: found.uid(), gid: found.gid() };
        Ok(Present { bytes, mode: found.mode() & MODE_BITS, owner })
    };
    match read() {
        Ok(present) => Ok(Some(present)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("template.read", target, error)),
    }
}

/// True if writing `bytes` would change nothing.
pub(super) fn is_same(present: &Present, bytes: &[u8], spec: &RenderSpec) -> bool {
    present.bytes == bytes && spec.mode.is_none_or(|mode| mode == present.mode)
}

/// New bytes beside the target, synced. Dropped without [`Staged::commit`], they are gone.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    target: PathBuf,
    /// Holds the lock on the neighbour.
    _file: File,
    committed: bool,
}

impl Staged {
    /// Writes `bytes` beside `target`, with the mode that the spec wants, else with that of the
    /// present file, and with its owner.
    pub(super) fn write(
        target: &Path,
        bytes: &[u8],
        present: Option<&Present>,
        spec: &RenderSpec,
    ) -> Result<Self> {
        let target = led_to(target)?;
        let path = neighbour(&target, "")?;
        let fail = |error| cannot("template.write", &path, error);
        let file = open_alone(&path)?;
        let staged = Self { path: path.clone(), target, _file: file, committed: false };
        let mut file = &staged._file;
        let mode = spec.mode.or(present.map(|present| present.mode)).unwrap_or(MODE_NEW);
        file.set_len(0).map_err(fail)?;
        file.set_permissions(Permissions::from_mode(MODE_NEW)).map_err(fail)?;
        file.write_all(bytes).map_err(fail)?;
        if let Some(owner) = present.map(|present| present.owner) {
            let found = file.metadata().map_err(fail)?;
            if (Owner { uid: found.uid(), gid: found.gid() }) != owner {
                fchown(file, Some(owner.uid), Some(owner.gid)).map_err(fail)?;
            }
        }
        // After the owner: changing that takes special bits away.
        file.set_permissions(Permissions::from_mode(mode)).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        Ok(staged)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the new file in the target's place, keeping `backups` earlier ones. From then on
    /// nothing fails: the new file is what readers find. That its name may not survive a crash of
    /// the machine is returned as a warning.
    pub(super) fn commit(self, backups: usize) -> Result<Option<Error>> {
        self.commit_with(backups, |folder| File::open(folder)?.sync_all())
    }

    fn commit_with(
        mut self,
        backups: usize,
        sync: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Option<Error>> {
        let fail = |error| cannot("template.write", &self.target, error);
        keep_backups(&self.target, backups).map_err(fail)?;
        fs::rename(&self.path, &self.target).map_err(fail)?;
        self.committed = true;
        if backups > 0 {
            self.close_backup();
        }
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        Ok(sync(folder).err().map(|error| cannot("template.write", folder, error)))
    }
}

impl Staged {
    /// Who may not read the new file may not read the one before it either.
    fn close_backup(&self) {
        let backup = numbered(&self.target, 1);
        let mode = |found: fs::Metadata| found.mode() & MODE_BITS;
        let (Ok(old), Ok(new)) = (fs::metadata(&backup), self._file.metadata()) else { return };
        // The backup is the old file: where its mode cannot be changed, it is what it was.
        fs::set_permissions(&backup, Permissions::from_mode(mode(old) & mode(new)))
            .unwrap_or_default();
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed is overwritten by the next one.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// What a symbolic link leads to is replaced, not the link.
fn led_to(target: &Path) -> Result<PathBuf> {
    fs::canonicalize(target)
        .or_else(|_absent| std::path::absolute(target))
        .map_err(|error| cannot("template.write", target, error))
}

/// The mark beside a file that its reload is owed. It outlives a process that ends between a swap
/// and the reload: the next one finds the file as it should be, and would tell nobody.
#[derive(Debug)]
pub(super) struct Owed {
    path: PathBuf,
}

impl Owed {
    pub(super) fn beside(target: &Path) -> Result<Self> {
        Ok(Self { path: neighbour(&led_to(target)?, "-reload")? })
    }

    pub(super) fn is_set(&self) -> bool {
        self.path.exists()
    }

    pub(super) fn set(&self) -> Result<()> {
        fs::write(&self.path, []).map_err(|error| cannot("template.write", &self.path, error))
    }

    /// What cannot be removed means one reload too many, later.
    pub(super) fn clear(&self) {
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// `.NAME.jetbridge` beside `NAME`, with `suffix` behind it.
fn neighbour(target: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        let message = format!("{} is no name of a file", target.display());
        return Err(Error::new(ErrorKind::InvalidInput, "template.write").because(message));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".jetbridge");
    hidden.push(suffix);
    Ok(target.with_file_name(hidden))
}

/// Opens the neighbour with nobody else at it. Its name may have been given to the target by
/// another process between opening and locking: then it is no neighbour any more.
fn open_alone(path: &Path) -> Result<File> {
    let fail = |error| cannot("template.write", path, error);
    for _ in 0..OPEN_ATTEMPTS_MAX {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE_NEW)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Conflict, "template.write")
                    .because(format!("another process is writing {}", path.display()))
                    .hint("let one process render each file"));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let ours = file.metadata().map_err(fail)?.ino();
        if fs::symlink_metadata(path).is_ok_and(|there| there.ino() == ours) {
            return Ok(file);
        }
    }
    Err(Error::new(ErrorKind::Conflict, "template.write")
        .because(format!("other processes go on writing {}", path.display())))
}

/// `NAME.1` is the latest before this one, `NAME.2` the one before that.
fn keep_backups(target: &Path, backups: usize) -> io::Result<()> {
    if backups == 0 || !target.exists() {
        return Ok(());
    }
    let numbered = |number| numbered(target, number);
    for number in (1..backups).rev() {
        if numbered(number).exists() {
            fs::rename(numbered(number), numbered(number + 1))?;
        }
    }
    match fs::remove_file(numbered(1)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The target keeps its name meanwhile: whoever opens it finds it. Not every file system has
    // links.
    fs::hard_link(target, numbered(1)).or_else(|_no_link| fs::copy(target, numbered(1)).map(drop))
}

/// `NAME.1`: the latest file before this one.
fn numbered(target: &Path, number: usize) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

pub(super) fn cannot(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::LimitExceeded,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, operation).with("file", path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(target: &Path) -> RenderSpec {
        RenderSpec::new(Vec::new(), target)
    }

    fn put(target: &Path, bytes: &[u8], spec: &RenderSpec) {
        let present = present(target).unwrap();
        Staged::write(target, bytes, present.as_ref(), spec).unwrap().commit(spec.backups).unwrap();
    }

    #[test]
    fn mode_and_link_are_kept_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("a.yml"), folder.path().join("link.yml"));
        put(&target, b"one", &spec(&target));
        assert_eq!(fs::metadata(&target).unwrap().mode() & MODE_BITS, MODE_NEW);
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        put(&link, b"two", &spec(&link));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::metadata(&target).unwrap().mode() & MODE_BITS, 0o640);
        drop(Staged::write(&target, b"three", None, &spec(&target)).unwrap());
        let mut wish = spec(&target);
        wish.mode = Some(0o644);
        assert!(!is_same(&present(&target).unwrap().unwrap(), b"two", &wish));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn so_many_earlier_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut spec = spec(&target);
        spec.backups = 2;
        for text in ["1", "2", "3", "4"] {
            put(&target, text.as_bytes(), &spec);
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let found = ["a", "a.1", "a.2", "a.3"].map(read);
        assert_eq!(found, [Some("4".into()), Some("3".into()), Some("2".into()), None]);
    }

    #[test]
    fn a_backup_is_no_more_open_than_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut spec = spec(&target);
        (spec.backups, spec.mode) = (1, Some(0o644));
        put(&target, b"1", &spec);
        spec.mode = Some(0o600);
        put(&target, b"2", &spec);
        let backup = numbered(&target, 1);
        assert_eq!(fs::read(&backup).unwrap(), b"1");
        assert_eq!(fs::metadata(&backup).unwrap().mode() & MODE_BITS, 0o600);
    }

    #[test]
    fn two_at_once_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let first = Staged::write(&target, b"1", None, &spec(&target)).unwrap();
        let second = Staged::write(&target, b"2", None, &spec(&target)).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Conflict);
        first.commit(0).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"1");
    }

    #[test]
    fn a_file_in_place_is_no_failure_though_its_folder_cannot_be_synced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        put(&target, b"1", &spec(&target));
        let staged = Staged::write(&target, b"2", None, &spec(&target)).unwrap();
        let warning = staged.commit_with(0, |_| Err(io::Error::other("no sync here"))).unwrap();
        assert!(warning.unwrap().to_string().contains("write"));
        assert_eq!(fs::read(&target).unwrap(), b"2");
        let staged = Staged::write(&target, b"3", None, &spec(&target)).unwrap();
        fs::remove_file(staged.path()).unwrap();
        staged.commit_with(0, |_| Ok(())).unwrap_err();
        assert_eq!(fs::read(&target).unwrap(), b"2");
    }
}
