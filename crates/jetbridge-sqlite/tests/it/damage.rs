//! Damage of any byte of any object: a restore is right, or it refuses and leaves nothing.

use jetbridge_core::{ErrorKind, ObjectName, ObjectPut, ObjectsExt as _};
use jetbridge_sqlite::Txid;
use jetbridge_sqlite::restore::{Options, Overwrite, restore};
use jetbridge_sqlite::store::LtxFile;

use super::history::History;
use super::rig::{Rig, Row};

/// A file as it was stored.
struct Stored {
    name: ObjectName,
    bytes: Vec<u8>,
}

/// A chain of a snapshot, a merged file, and two files of level 0, of which one is in both.
async fn chain(rig: &Rig) -> (History, Vec<Stored>) {
    let mut history = History::new(3, 5);
    while history.txid() < Txid(5) {
        history.step();
    }
    let replica = rig.replica();
    let mut files: Vec<LtxFile> = Vec::new();
    for (level, min, max) in [(9, 1, 2), (1, 3, 4), (0, 4, 4), (0, 5, 5)] {
        files.push(history.put(&replica, level, min, max).await);
    }
    let mut stored = Vec::new();
    for file in files {
        let name = replica.name(file.level, file.range).unwrap();
        let bytes = rig.objects.get_bytes(&name, u64::MAX).await.unwrap().unwrap().to_vec();
        stored.push(Stored { name, bytes });
    }
    (history, stored)
}

/// Stores other bytes under the name, with a digest that is right: as if they had been written so.
async fn replace(rig: &Rig, file: &Stored, bytes: Vec<u8>) {
    let info = rig.objects.info(&file.name).await.unwrap().unwrap();
    let opts = ObjectPut::new().headers(info.headers);
    rig.objects.put_bytes(&file.name, bytes, opts).await.unwrap();
}

/// Restores; true if it came out right, and false if it was refused.
async fn is_right(rig: &Rig, history: &History, what: &str) -> bool {
    let mut options = Options::new(rig.dir.path().join("out.db"));
    options.overwrite = Overwrite::Yes;
    match restore(&rig.replica(), &options, &|_bytes| ()).await {
        Ok(done) => {
            assert_eq!(done.txid, Txid(5), "{what}");
            let bytes = std::fs::read(&options.output).unwrap();
            assert!(bytes == history.bytes(done.txid), "{what}: another database");
            std::fs::remove_file(&options.output).unwrap();
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
            assert!(error.fact("lost_from").is_some(), "{what}: {error:?}");
            let left = std::fs::read_dir(rig.dir.path()).unwrap().count();
            assert_eq!(left, 0, "{what}: something is left");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_any_byte_is_never_restored() {
    let rig = Row::Memory.open().await;
    let (history, files) = chain(&rig).await;
    assert!(is_right(&rig, &history, "as it was").await);
    for file in &files {
        // Only what others carry too can be made up for.
        let spare = file.name.as_str().contains("/0/0000000000000004-");
        let mut refused = 0;
        for at in 0..file.bytes.len() {
            let mut bytes = file.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            replace(&rig, file, bytes).await;
            let what = format!("byte {at} of {}", file.name);
            let right = is_right(&rig, &history, &what).await;
            assert!(right || !spare, "{what}");
            refused += usize::from(!right);
        }
        // A compressed page may say the same in another way: then it is right.
        assert!(spare || refused > file.bytes.len() * 9 / 10, "{refused} of {}", file.name);
        replace(&rig, file, file.bytes.clone()).await;
    }
    assert!(is_right(&rig, &history, "as it was").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_cut_or_goes_on_is_never_restored() {
    let rig = Row::Memory.open().await;
    let (history, files) = chain(&rig).await;
    for file in &files {
        let spare = file.name.as_str().contains("/0/0000000000000004-");
        for length in 0..file.bytes.len() {
            replace(&rig, file, file.bytes[..length].to_vec()).await;
            let what = format!("{length} bytes of {}", file.name);
            assert_eq!(is_right(&rig, &history, &what).await, spare, "{what}");
        }
        let longer = [file.bytes.as_slice(), &[0]].concat();
        replace(&rig, file, longer).await;
        assert_eq!(is_right(&rig, &history, "a byte more").await, spare);
        replace(&rig, file, file.bytes.clone()).await;
    }
    assert!(is_right(&rig, &history, "as it was").await);
}
