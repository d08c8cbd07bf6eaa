//! What cannot work says what is wrong, and what to do.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge_core::{Backend as _, Error, ErrorKind, Open, PutOpts, Read, Verdict};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_testkit::process::{Process, say};

use crate::child::ROLES;
use crate::support::{bucket, close, fetch, key, kv, objects, open, pattern, store_object};

#[track_caller]
fn check(error: &Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.hint_text().is_some(), "{error:?}");
}

/// The directory of the only bucket in `root`.
fn only_bucket(root: &Path) -> PathBuf {
    let mut directories: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(directories.len(), 1);
    directories.remove(0)
}

#[tokio::test]
async fn a_damaged_database_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    let written = kv(&store, "k").await;
    for n in 0..200 {
        written.put(&key(&format!("k{n}")), vec![0; 100].into(), PutOpts::new()).await.unwrap();
    }
    drop(written);
    close(store).await;

    let database = only_bucket(&path.join("kv")).join("data.db");
    let length = fs::metadata(&database).unwrap().len();
    let file = fs::File::options().write(true).open(&database).unwrap();
    file.write_all_at(&vec![0xA5; usize::try_from(length).unwrap() - 2048], 2048).unwrap();
    let store = open(&path).await;
    let error = match store.kv(&bucket("k"), Open::existing()).await {
        Err(error) => error,
        Ok(kv) => kv.get(&key("k1"), Read::Fresh).await.unwrap_err(),
    };
    check(&error, ErrorKind::Corrupt);
    close(store).await;

    file.write_all_at(&[0; 100], 0).unwrap();
    let store = open(&path).await;
    let error = store.kv(&bucket("k"), Open::existing()).await.unwrap_err();
    check(&error, ErrorKind::Corrupt);
    close(store).await;
}

#[tokio::test]
async fn a_damaged_body_ends_with_corrupt_and_never_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    let objects = objects(&store, "o").await;
    store_object(&objects, "x", pattern(300_000, 1)).await;
    assert_eq!(fetch(&objects, "x").await.unwrap(), pattern(300_000, 1));
    let bodies = only_bucket(&path.join("objects")).join("bodies");
    let body = fs::read_dir(only_bucket(&bodies)).unwrap().next().unwrap().unwrap().path();

    let read_to_end = async || {
        let found = objects.get(&crate::support::object("x"), None).await?;
        let body = found.map(|object| object.body);
        let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(body.unwrap()).await?;
        Ok::<usize, Error>(pieces.iter().map(bytes::Bytes::len).sum())
    };
    let file = fs::File::options().write(true).open(&body).unwrap();
    file.write_all_at(b"!", 200_000).unwrap();
    check(&read_to_end().await.unwrap_err(), ErrorKind::Corrupt);
    file.set_len(1000).unwrap();
    assert_eq!(read_to_end().await.unwrap_err().kind(), ErrorKind::Corrupt);
    fs::remove_file(&body).unwrap();
    check(&read_to_end().await.unwrap_err(), ErrorKind::Corrupt);
    close(store).await;
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    close(open(&path).await).await;
    fs::write(path.join("layout"), "jetbridge local store, layout 2\n").unwrap();
    let error = LocalBackend::open(&path, LocalOptions::default()).await.unwrap_err();
    check(&error, ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_directory_that_is_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "").unwrap();
    let error = LocalBackend::open(dir.path(), LocalOptions::default()).await.unwrap_err();
    check(&error, ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put there");
}

/// A user who may not write. Root may, so root becomes somebody else first.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_directory_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = open(&path).await;
    kv(&store, "k").await.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap();
    close(store).await;
    let binary = dir.path().join("binary");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    set_mode(&path, &|directory| if directory { 0o555 } else { 0o444 });
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();

    let mut command = ROLES.command(&binary, "open", &path);
    if rustix_is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = Process::run(command);
    assert_eq!(child.line(), "permission denied with a hint");
    set_mode(&path, &|directory| if directory { 0o755 } else { 0o644 });
}

fn rustix_is_root() -> bool {
    // The owner of what we have just made is who we are.
    let probe = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::MetadataExt::uid(&probe.as_file().metadata().unwrap()) == 0
}

fn set_mode(path: &Path, mode: &dyn Fn(bool) -> u32) {
    let directory = path.is_dir();
    // Inwards first when opening, outwards last when closing: root may do either.
    if directory {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            set_mode(&entry.unwrap().path(), mode);
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode(directory))).unwrap();
}

/// The role of a process that says what happens when it opens a store and a bucket.
pub(crate) async fn try_to_open(directory: &Path) {
    let tried = async {
        let store = LocalBackend::open(directory, LocalOptions::default()).await?;
        store.kv(&bucket("k"), Open::existing()).await.map(drop)
    };
    match tried.await {
        Ok(()) => say("it is open"),
        Err(error) => {
            let hint = if error.hint_text().is_some() { "with a hint" } else { "without a hint" };
            say(format_args!("{} {hint}", error.kind().as_str()));
        }
    }
}

#[tokio::test]
async fn a_closed_store_refuses_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).await;
    let (kv, objects) = (kv(&store, "k").await, objects(&store, "o").await);
    let healthy = store.diagnose().await;
    assert!(healthy.iter().all(|check| check.verdict != Verdict::Fails), "{healthy:?}");
    close(store.clone()).await;
    let kinds = [
        kv.get(&key("a"), Read::Fresh).await.unwrap_err(),
        kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap_err(),
        objects.info(&crate::support::object("a")).await.unwrap_err(),
        store.kv(&bucket("k"), Open::existing()).await.unwrap_err(),
        store.status().await.unwrap_err(),
    ];
    for error in kinds {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    assert!(store.diagnose().await.iter().any(|check| check.verdict == Verdict::Fails));
    assert!(store.close(Duration::from_secs(1)).await.is_clean(), "closing twice is fine");
}
