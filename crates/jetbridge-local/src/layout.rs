//! The store's directory: made, recognised, refused.
//!
//! ```text
//! layout            what this directory is, and the version of its layout
//! hub.lock hub.sock how its processes reach each other
//! kv/NAME.GEN/      one bucket of keys: data.db and its log, data.turn and data.lock
//! objects/NAME.GEN/ one bucket of objects: the same, and its bodies
//! streams/NAME.GEN/ one stream
//! ```
//! `docs/formats/local.md` has the rest.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use jetbridge_core::{Error, ErrorKind, Result, random};
use rustix::fs::statfs;

use crate::db::{Durability, sync_parent};
use crate::fault::from_io;

/// The version of the layout that this library writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// The file that says so.
const FILE: &str = "layout";
/// What the file says before the version.
const LABEL: &str = "jetbridge local store, layout ";
/// File systems whose locks or shared memory do not reach from one machine to the next, by the
/// number that `statfs` gives and by name.
const NETWORK_FILE_SYSTEMS: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
];

/// Makes the store's directory if it is missing, else checks that it is one.
///
/// [`InvalidInput`](ErrorKind::InvalidInput) if something else is there,
/// [`Unsupported`](ErrorKind::Unsupported) if a newer version wrote it or if it is on a network
/// file system, [`PermissionDenied`](ErrorKind::PermissionDenied) if it cannot be written.
pub(crate) fn prepare(directory: &Path, durability: Durability) -> Result<()> {
    let failed = |error| from_io(error, "local.open", directory);
    // What is kept here is nobody else's to read.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    check_file_system(directory)?;
    match fs::read_to_string(directory.join(FILE)) {
        Ok(text) => check_version(directory, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !is_empty(directory).map_err(failed)? {
                return Err(foreign(directory));
            }
            mark(directory, durability).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(foreign(directory)),
        Err(error) => Err(failed(error)),
    }
}

fn check_file_system(directory: &Path) -> Result<()> {
    let found =
        statfs(directory).map_err(|error| from_io(error.into(), "local.open", directory))?;
    let number = u64::try_from(found.f_type).unwrap_or_default() & 0xFFFF_FFFF;
    match NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == number) {
        None => Ok(()),
        Some((_, name)) => Err(Error::new(ErrorKind::Unsupported, "local.open")
            .because(format!(
                "the directory is on a network file system ({name}), whose processes cannot \
                 share memory"
            ))
            .with("directory", directory.display())
            .hint("name a directory on a local disk; to share between machines use NATS")),
    }
}

fn check_version(directory: &Path, text: &str) -> Result<()> {
    let version = text.trim_end().strip_prefix(LABEL).and_then(|version| version.parse().ok());
    match version {
        None => Err(foreign(directory)),
        Some(VERSION) => Ok(()),
        Some(version @ 0u32..VERSION) => Err(unsupported(directory, version)
            .because("the store was written by a jetbridge that is too old")),
        Some(version) => Err(unsupported(directory, version)
            .because("a newer jetbridge wrote this store")
            .hint("upgrade this jetbridge, or name another directory")),
    }
}

fn unsupported(directory: &Path, version: u32) -> Error {
    Error::new(ErrorKind::Unsupported, "local.open")
        .with("directory", directory.display())
        .with("layout", version)
        .with("known_up_to", VERSION)
}

fn foreign(directory: &Path) -> Error {
    Error::new(ErrorKind::InvalidInput, "local.open")
        .because("the directory is not empty, and no store of jetbridge's")
        .with("directory", directory.display())
        .hint("name an empty directory, or one that does not exist yet")
}

/// True if nothing is there but what another process that is making the store has put there.
fn is_empty(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with(FILE) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mark(directory: &Path, durability: Durability) -> io::Result<()> {
    let unfinished = directory.join(format!("{FILE}.{}", random::name()));
    let mut file = File::create_new(&unfinished)?;
    writeln!(file, "{LABEL}{VERSION}")?;
    let target = directory.join(FILE);
    if durability == Durability::Full {
        file.sync_all()?;
    }
    fs::rename(&unfinished, &target)?;
    if durability == Durability::Full {
        sync_parent(&target)?;
        sync_parent(directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(directory: &Path, kind: ErrorKind) {
        let error = prepare(directory, Durability::Process).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }

    #[test]
    fn a_directory_is_made_and_recognised() {
        let dir = tempfile::tempdir().unwrap();
        for durability in [Durability::Full, Durability::Process] {
            let path = dir.path().join(format!("{durability:?}/store"));
            prepare(&path, durability).unwrap();
            prepare(&path, durability).unwrap();
            let text = fs::read_to_string(path.join(FILE)).unwrap();
            assert_eq!(text, "jetbridge local store, layout 1\n");
        }
    }

    #[test]
    fn what_is_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "").unwrap();
        refused(dir.path(), ErrorKind::InvalidInput);
        refused(&dir.path().join("thesis.txt"), ErrorKind::InvalidInput);
        fs::write(dir.path().join(FILE), "how the rooms are laid out").unwrap();
        refused(dir.path(), ErrorKind::InvalidInput);
        fs::write(dir.path().join(FILE), format!("{LABEL}2\n")).unwrap();
        refused(dir.path(), ErrorKind::Unsupported);
        let hint = prepare(dir.path(), Durability::Process).unwrap_err();
        assert!(hint.hint_text().unwrap().contains("upgrade"));
    }
}
