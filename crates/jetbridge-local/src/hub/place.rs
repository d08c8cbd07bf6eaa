//! The two files by which processes meet: the lock that makes one of them the owner, and the
//! socket it listens on.
//!
//! The lock is an advisory one on an open file, so it ends with its process however that ends,
//! and two handles of one process compete like two processes. Only who holds it may touch the
//! socket. The lock file also lists who was connected last: after a takeover the next owner
//! waits for these to come back before it routes. Nothing here is written through to the disk;
//! after a crash of the machine there is nobody to come back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

const LOCK_FILE: &str = "hub.lock";
const SOCKET_FILE: &str = "hub.sock";
/// Only the user who runs the processes may join.
const FILE_MODE: u32 = 0o600;
/// The longest path a socket address takes on every Unix, less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 103;
/// Connections that may wait to be accepted; more than processes that start at once.
const BACKLOG: i32 = 256;
/// Bytes of the list of members that are read: some ten thousand of them.
const MEMBERS_BYTES_MAX: usize = 256 << 10;

/// A directory where processes meet.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Keeps the directory in reach when its path is too long for a socket address.
    directory: File,
}

impl Place {
    /// The directory at `path`, which must be there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let path = path.canonicalize()?;
            Ok(Self { directory: File::open(&path)?, path })
        };
        open().map_err(|error| failed(&error, path))
    }

    /// The directory's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ownership, if nobody has it.
    pub(super) fn try_own(&self) -> Result<Option<Ownership>> {
        self.try_lock().map_err(|error| failed(&error, &self.path))
    }

    fn try_lock(&self) -> io::Result<Option<Ownership>> {
        let path = self.path.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // A lock on a file that was removed or replaced meanwhile keeps nobody out.
        let (locked, present) = (file.metadata()?, std::fs::metadata(&path)?);
        let same = locked.ino() == present.ino() && locked.dev() == present.dev();
        Ok(same.then(|| Ownership { file, socket: self.path.join(SOCKET_FILE) }))
    }

    /// Connects to the owner.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.address()?).await
    }

    /// Listens, in place of whatever was left there. The socket's permissions are set before it
    /// accepts anybody.
    pub(super) fn listen(&self, ownership: &Ownership) -> Result<UnixListener> {
        let listen = || {
            match std::fs::remove_file(&ownership.socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(self.address()?)?)?;
            let permissions = std::fs::Permissions::from_mode(FILE_MODE);
            std::fs::set_permissions(&ownership.socket, permissions)?;
            rustix::net::listen(&socket, BACKLOG)?;
            UnixListener::from_std(socket.into())
        };
        listen().map_err(|error| failed(&error, &self.path))
    }

    /// A path of the socket that fits an address: by way of the open directory if need be.
    fn address(&self) -> io::Result<PathBuf> {
        let direct = self.path.join(SOCKET_FILE);
        if direct.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(direct);
        }
        let short = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        if !Path::new(&short).exists() {
            let why = "the path is too long for a socket, and there is no /proc to shorten it by";
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, why));
        }
        Ok(Path::new(&short).join(SOCKET_FILE))
    }
}

/// The right to listen, until dropped.
#[derive(Debug)]
pub(super) struct Ownership {
    file: File,
    socket: PathBuf,
}

impl Ownership {
    /// Who was connected to the last owner when it ended.
    pub(super) fn members(&self) -> Vec<u64> {
        let mut raw = vec![0; MEMBERS_BYTES_MAX];
        let length = self.file.read_at(&mut raw, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&raw[..length]);
        text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect()
    }

    /// Notes who is connected, for the next owner.
    pub(super) fn record(&self, members: impl Iterator<Item = u64>) -> io::Result<()> {
        let text: String = members.map(|member| format!("{member:016x}\n")).collect();
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// Takes the socket away, so that nobody waits at a door that stays shut.
    pub(super) fn remove_socket(&self) {
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

/// The one place that says what a failure of these files means.
fn failed(error: &io::Error, path: &Path) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::LimitExceeded,
        io::ErrorKind::InvalidFilename => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "hub.join")
        .because(format!("the files by which processes share the directory: {error}"))
        .with("directory", path.display())
        .hint("the directory must be on this machine and writable by the user of the process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_who_leaves_a_list_of_members() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path()).unwrap();
        let first = place.try_own().unwrap().unwrap();
        assert!(place.try_own().unwrap().is_none(), "the same process competes like another");
        assert!(first.members().is_empty());
        first.record([1, u64::MAX].into_iter()).unwrap();
        first.record([u64::MAX].into_iter()).unwrap();
        drop(first);
        assert_eq!(place.try_own().unwrap().unwrap().members(), [u64::MAX]);
    }

    #[tokio::test]
    async fn the_socket_is_the_users_alone_and_its_path_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        let place = Place::open(&deep).unwrap();
        let ownership = place.try_own().unwrap().unwrap();
        let listener = place.listen(&ownership).unwrap();
        for name in [LOCK_FILE, SOCKET_FILE] {
            let mode = std::fs::metadata(deep.join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, FILE_MODE, "{name}");
        }
        let (connected, accepted) = tokio::join!(place.connect(), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let error = Place::open(&dir.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
