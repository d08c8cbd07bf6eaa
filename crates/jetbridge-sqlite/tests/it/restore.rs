//! Restoring on every store: right, or refused with the name of what is lost.

use std::time::Duration;

use jetbridge_core::ErrorKind;
use jetbridge_sqlite::restore::{Options, Overwrite, Restored, is_draft, restore, verify};
use jetbridge_sqlite::store::{Level, LtxFile, Put, Target};
use jetbridge_sqlite::{Txid, TxidRange};

use super::faults;
use super::history::{History, time};
use super::rig::Rig;

async fn restored(rig: &Rig, target: Target) -> jetbridge_core::Result<(Vec<u8>, Restored)> {
    let mut options = Options::new(rig.dir.path().join("out.db"));
    options.target = target;
    options.overwrite = Overwrite::Yes;
    let done = restore(&rig.replica(), &options, &|_bytes| ()).await?;
    let left: Vec<_> = std::fs::read_dir(rig.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    Ok((std::fs::read(&options.output).unwrap(), done))
}

async fn check(rig: &Rig, history: &History, target: Target, txid: u64) {
    let (bytes, done) = restored(rig, target).await.unwrap();
    assert_eq!(done.txid, Txid(txid));
    assert!(bytes == history.bytes(done.txid), "the state at {txid} is another");
}

/// Files of level 0 for each transaction, and merged ones above some of them.
async fn written(rig: &Rig) -> History {
    let replica = rig.replica();
    let mut history = History::new(7, 40);
    while history.txid() < Txid(30) {
        history.step();
    }
    history.put(&replica, 9, 1, 8).await;
    for (level, min, max) in [(1, 1, 6), (1, 7, 12), (1, 13, 18), (2, 7, 18), (1, 19, 24)] {
        history.put(&replica, level, min, max).await;
    }
    for txid in 5..=30 {
        history.put(&replica, 0, txid, txid).await;
    }
    history
}

pub(crate) async fn every_state_of_a_history_is_restored(rig: &Rig) {
    let history = written(rig).await;
    check(rig, &history, Target::Latest, 30).await;
    for txid in [6, 8, 12, 13, 18, 24, 29] {
        check(rig, &history, Target::Txid(Txid(txid)), txid).await;
    }
    for txid in [12, 18, 30] {
        let just_after = time(Txid(txid)) + Duration::from_millis(1);
        check(rig, &history, Target::Before(just_after), txid).await;
        if txid < 30 {
            check(rig, &history, Target::Before(time(Txid(txid + 1))), txid).await;
        }
    }
    for txid in [4, 31] {
        let error = restored(rig, Target::Txid(Txid(txid))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

pub(crate) async fn a_base_in_parts_is_restored(rig: &Rig) {
    let replica = rig.replica();
    let mut history = History::new(9, 5000);
    history.states.extend((0..3).map(|_| history.states[0].clone()).collect::<Vec<_>>());
    // Three parts, of which the first transaction carries the last pages; then a change.
    let base = TxidRange::new(Txid(1), Txid(3)).unwrap();
    let all = history.changes(base);
    for (part, txid) in [(0, 3), (1, 2), (2, 1)] {
        let range = TxidRange::one(Txid(txid)).unwrap();
        let pages = all.iter().filter(|(pgno, _)| (**pgno - 1) / 1700 == part);
        let pages = pages.map(|(pgno, page)| (*pgno, page.clone())).collect();
        let file = history.encode(range, &pages);
        let put = Put { level: Level::BASE, range, time: time(Txid(3)), base: Some(base) };
        let empty = restored(rig, Target::Latest).await.unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::NotFound, "{empty}");
        replica.put(put, file.into()).await.unwrap();
    }
    history.put(&replica, 0, 4, 4).await;
    history.step();
    history.put(&replica, 0, 5, 5).await;
    check(rig, &history, Target::Latest, 5).await;
    check(rig, &history, Target::Txid(Txid(3)), 3).await;
    assert!(restored(rig, Target::Txid(Txid(2))).await.is_err());
}

pub(crate) async fn a_broken_file_is_made_up_for_or_named(rig: &Rig) {
    let history = written(rig).await;
    let files: Vec<LtxFile> = rig.replica().manifest().await.unwrap().files().cloned().collect();
    let find = |level, txid| {
        let found = files.iter().find(|it| (it.level.get(), it.range.max().0) == (level, txid));
        found.unwrap().clone()
    };
    // Level 2 carries 7 to 18, and so do the two files of level 1 below it.
    faults::flip(rig, &find(2, 18)).await;
    let (bytes, done) = restored(rig, Target::Latest).await.unwrap();
    assert!(bytes == history.bytes(Txid(30)));
    assert_eq!(done.broken.len(), 1);
    // Nothing else carries transaction 27.
    faults::flip(rig, &find(0, 27)).await;
    let error = restored(rig, Target::Latest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.fact("lost_from"), Some("000000000000001b"), "{error:?}");
    assert_eq!(error.fact("lost_to"), Some("000000000000001b"));
    assert!(error.hint_text().unwrap().ends_with("-txid 000000000000001a"), "{error:?}");
    check(rig, &history, Target::Txid(Txid(26)), 26).await;
}

pub(crate) async fn a_purged_file_is_named(rig: &Rig) {
    let history = written(rig).await;
    rig.replica().delete(Level::CAPTURED, TxidRange::one(Txid(28)).unwrap()).await.unwrap();
    let error = restored(rig, Target::Latest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.fact("lost_from"), Some("000000000000001c"), "{error:?}");
    check(rig, &history, Target::Txid(Txid(27)), 27).await;
}

pub(crate) async fn what_is_there_is_not_written_over(rig: &Rig) {
    written(rig).await;
    let options = Options::new(rig.dir.path().join("out.db"));
    let attempt = async || restore(&rig.replica(), &options, &|_bytes| ()).await;
    std::fs::write(&options.output, "mine").unwrap();
    let error = attempt().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("already exists and is not empty"), "{error}");
    assert_eq!(std::fs::read(&options.output).unwrap(), b"mine");
    std::fs::write(&options.output, "").unwrap();
    let wal = rig.dir.path().join("out.db-wal");
    std::fs::write(&wal, "old").unwrap();
    assert_eq!(attempt().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    std::fs::remove_file(&wal).unwrap();
    attempt().await.unwrap();
}

pub(crate) async fn what_came_meanwhile_is_not_written_over(rig: &Rig) {
    written(rig).await;
    let options = Options::new(rig.dir.path().join("out.db"));
    let wal = rig.dir.path().join("out.db-wal");
    let files = [&options.output, &wal];
    // An application begins while the replica is read.
    let begin = |_bytes| files.iter().for_each(|file| std::fs::write(file, "mine").unwrap());
    let error = restore(&rig.replica(), &options, &begin).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for file in files {
        assert_eq!(std::fs::read(file).unwrap(), b"mine");
    }
    assert_eq!(std::fs::read_dir(rig.dir.path()).unwrap().count(), 2, "and no draft is left");
}

pub(crate) async fn a_proof_is_never_a_database(rig: &Rig) {
    written(rig).await;
    let names = || {
        let entries = std::fs::read_dir(rig.dir.path()).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    // One that was killed has left this.
    let left = rig.dir.path().join(".jetbridge-verify.jetbridge-restore-left");
    std::fs::write(left, "half").unwrap();
    let look = |_bytes| {
        let names = names();
        assert!(names.len() == 1 && names.iter().all(|it| is_draft(it)), "{names:?}");
    };
    // These pages are no database: SQLite says so, and nothing is left.
    let place = (rig.dir.path(), Target::Latest);
    let error = verify(&rig.replica(), place, &look).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert_eq!(names(), Vec::<String>::new());
}
