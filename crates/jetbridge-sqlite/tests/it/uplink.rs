//! What a capture ships, on every store: durable, restorable, by one writer.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jetbridge_core::{Error, ErrorKind, Tasks};
use jetbridge_sqlite::capture::{Delta, Page, Pages, Progress, Scope, Uplink as _};
use jetbridge_sqlite::restore::{Options, Overwrite, restore};
use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
use jetbridge_sqlite::{PageSize, Pgno, Txid};
use tokio::time::Instant;

use super::history::{History, PAGE_SIZE, time};
use super::rig::Rig;

/// Pages of the test's small parts.
pub(crate) const PART_PAGES: usize = 16;

pub(crate) fn uplink(rig: &Rig, writer: &str, tasks: &Tasks) -> StoreUplink {
    let mut fence = FenceOptions::new(writer);
    fence.ttl = Duration::from_secs(2);
    let part_bytes = (PART_PAGES * PAGE_SIZE.bytes()) as u64;
    StoreUplink::new(rig.replica(), fence, tasks.clone()).part_bytes(part_bytes)
}

pub(crate) fn pages(list: impl IntoIterator<Item = (Pgno, Vec<u8>)>) -> Vec<Page> {
    list.into_iter().map(|(pgno, data)| Page { pgno, data: data.into() }).collect()
}

/// Those of `list` in memory.
pub(crate) fn held(list: Vec<Page>) -> Pages {
    Pages::Held(list.into())
}

/// Those of `list` as they are read.
pub(crate) fn streamed(list: Vec<Page>) -> Pages {
    Pages::Streamed(stream::iter(list.into_iter().map(Ok)).boxed())
}

pub(crate) fn delta(txid: Txid, commit: usize, scope: Scope, pages: Pages) -> Delta {
    Delta {
        txid,
        page_size: PAGE_SIZE,
        commit: Pgno::try_from(commit).unwrap(),
        time: time(txid),
        wal: None,
        scope,
        pages,
        progress: Progress::default(),
    }
}

/// The newest state as a base.
pub(crate) fn base(history: &History, txid: Txid, pages_of: fn(Vec<Page>) -> Pages) -> Delta {
    let state = history.states.last().unwrap();
    let all = (1..).zip(state.iter().cloned());
    delta(txid, state.len(), Scope::Base, pages_of(pages(all)))
}

/// What the newest state changed.
pub(crate) fn change(history: &History, txid: Txid, pages_of: fn(Vec<Page>) -> Pages) -> Delta {
    let range = jetbridge_sqlite::TxidRange::one(history.txid()).unwrap();
    let commit = history.states.last().unwrap().len();
    delta(txid, commit, Scope::Change, pages_of(pages(history.changes(range))))
}

pub(crate) async fn newest(rig: &Rig) -> jetbridge_core::Result<(Txid, Vec<u8>)> {
    let mut options = Options::new(rig.dir.path().join("out.db"));
    options.overwrite = Overwrite::Yes;
    let done = restore(&rig.replica(), &options, &|_bytes| ()).await?;
    Ok((done.txid, std::fs::read(&options.output).unwrap()))
}

pub(crate) async fn check(rig: &Rig, history: &History, txid: Txid) {
    let (restored, bytes) = newest(rig).await.unwrap();
    assert_eq!(restored, txid);
    assert!(bytes == history.bytes(history.txid()), "the state at {txid} is another");
}

pub(crate) async fn what_is_shipped_is_restored(rig: &Rig) {
    let tasks = Tasks::new();
    let up = uplink(rig, "a", &tasks);
    let mut history = History::new(3, 100);
    assert_eq!(up.head().await.unwrap(), None);
    let mut txid = up.ship(base(&history, Txid(1), held)).await.unwrap();
    assert_eq!(txid, Txid(2), "a base, and the file behind it");
    for _ in 0..20 {
        history.step();
        txid = up.ship(change(&history, txid.next(), held)).await.unwrap();
        check(rig, &history, txid).await;
    }
    let head = up.head().await.unwrap().unwrap();
    assert_eq!((head.txid, head.page_size, head.time), (txid, PAGE_SIZE, time(txid)));
    up.close().await.unwrap();
    let next = uplink(rig, "b", &tasks);
    assert_eq!(next.head().await.unwrap(), Some(head));
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

pub(crate) async fn what_is_large_is_cut_and_shown_whole(rig: &Rig) {
    let tasks = Tasks::new();
    let up = uplink(rig, "a", &tasks);
    let mut history = History::new(4, 100);
    let mut txid = up.ship(base(&history, Txid(1), streamed)).await.unwrap();
    assert_eq!(txid, Txid(9), "seven parts, what leads to them, and the file behind");
    check(rig, &history, txid).await;
    for pages_of in [held, streamed, held, streamed] {
        history.step();
        txid = up.ship(change(&history, txid.next(), pages_of)).await.unwrap();
        check(rig, &history, txid).await;
        history.step();
        txid = up.ship(base(&history, txid.next(), pages_of)).await.unwrap();
        check(rig, &history, txid).await;
    }
}

pub(crate) async fn a_base_that_failed_is_no_part_of_the_chain(rig: &Rig) {
    let tasks = Tasks::new();
    let up = uplink(rig, "a", &tasks);
    let mut history = History::new(5, 100);
    let before = up.ship(base(&history, Txid(1), held)).await.unwrap();
    let failing = |state: &[Vec<u8>]| {
        let all = pages((1..).zip(state[..50].iter().cloned()));
        let broken = Error::new(ErrorKind::Unavailable, "test").because("the disk is gone");
        let list = all.into_iter().map(Ok).chain([Err(broken)]);
        Pages::Streamed(stream::iter(list.collect::<Vec<_>>()).boxed())
    };
    let state = history.states.last().unwrap();
    let half = delta(before.next(), state.len(), Scope::Base, failing(state));
    let error = up.ship(half).await.unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error:?}");
    check(rig, &history, before).await;
    assert!(!rig.replica().manifest().await.unwrap().abandoned().is_empty());
    history.step();
    let after = up.ship(base(&history, before.next(), streamed)).await.unwrap();
    check(rig, &history, after).await;
    assert!(rig.replica().manifest().await.unwrap().abandoned().is_empty());
}

pub(crate) async fn a_delta_sent_twice_is_acknowledged_twice(rig: &Rig) {
    let tasks = Tasks::new();
    let up = uplink(rig, "a", &tasks);
    let mut history = History::new(6, 10);
    let txid = up.ship(base(&history, Txid(1), held)).await.unwrap();
    history.step();
    for _ in 0..2 {
        assert_eq!(up.ship(change(&history, txid.next(), held)).await.unwrap(), Txid(3));
    }
    check(rig, &history, Txid(3)).await;
    history.step();
    // Another one of that number, and one that leaves a number out.
    for wrong in [Txid(3), Txid(5)] {
        let error = up.ship(change(&history, wrong, held)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(up.ship(change(&history, Txid(4), held)).await.unwrap(), Txid(4));
    check(rig, &history, Txid(4)).await;
}

pub(crate) async fn what_is_held_tells_that_it_gets_on(rig: &Rig) {
    const PAGES: usize = 512;
    let up = uplink(rig, "a", &Tasks::new());
    // Pages that no compression makes smaller.
    let mut noise = 1_u64;
    let mut byte = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_be_bytes()[0]
    };
    let page = |pgno| (pgno, (0..PAGE_SIZE.bytes()).map(|_| byte()).collect());
    let all = pages((1..).map(page).take(PAGES));
    let change = delta(Txid(1), PAGES, Scope::Change, held(all));
    up.head().await.unwrap();
    let progress = change.progress.clone();
    up.ship(Delta { scope: Scope::Base, ..change }).await.unwrap();
    let pieces = (PAGES * PAGE_SIZE.bytes()) as u64 / (128 << 10);
    assert!(progress.ticks() >= pieces, "{} of {pieces}", progress.ticks());
}

pub(crate) async fn what_was_touched_since_is_told(rig: &Rig) {
    let tasks = Tasks::new();
    let up = uplink(rig, "a", &tasks);
    let mut history = History::new(8, 60);
    let first = up.ship(base(&history, Txid(1), held)).await.unwrap();
    let mut expected: Vec<Pgno> = Vec::new();
    for at in 0..5 {
        history.step();
        let range = jetbridge_sqlite::TxidRange::one(history.txid()).unwrap();
        expected.extend(history.changes(range).keys());
        up.ship(change(&history, Txid(first.0 + 1 + at), held)).await.unwrap();
    }
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(up.touched_since(first).await.unwrap().pages, expected);
    assert!(up.touched_since(Txid(first.0 + 5)).await.unwrap().pages.is_empty());
    let gone = jetbridge_sqlite::TxidRange::one(Txid(first.0 + 2)).unwrap();
    let level = jetbridge_sqlite::store::Level::CAPTURED;
    rig.replica().delete(level, gone).await.unwrap();
    assert_eq!(up.head().await.unwrap(), None, "the chain has a gap");
    assert_eq!(up.touched_since(first).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let healed = up.ship(base(&history, Txid(1), streamed)).await.unwrap();
    check(rig, &history, healed).await;
}

pub(crate) async fn one_of_two_writers_wins_and_the_other_says_so(rig: &Rig) {
    let tasks = Tasks::new();
    let mine = uplink(rig, "mine", &tasks);
    let history = History::new(1, 4);
    mine.ship(base(&history, Txid(1), held)).await.unwrap();
    let rival = uplink(rig, "rival", &tasks);
    let error = rival.head().await.unwrap_err();
    assert_eq!((error.kind(), error.fact("writer")), (ErrorKind::Conflict, Some("mine")));
    // Come back, it is let in at once, and the one it was before is out.
    let again = uplink(rig, "mine", &tasks);
    let began = Instant::now();
    assert!(again.head().await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_secs(1));
    again.close().await.unwrap();
    assert!(rival.head().await.unwrap().is_some());
    let error = again.head().await.unwrap_err();
    assert_eq!((error.kind(), error.fact("writer")), (ErrorKind::Conflict, Some("rival")));
    // Dead, it keeps its place for its TTL and no longer.
    drop(rival);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
    let tasks = Tasks::new();
    let heir = uplink(rig, "heir", &tasks);
    assert!(heir.head().await.unwrap().is_some());
}

/// The pages of a database file.
pub(crate) fn file_pages(bytes: &[u8], page_size: PageSize) -> Vec<Page> {
    let chunks = bytes.chunks(page_size.bytes());
    (1..)
        .zip(chunks)
        .filter(|(pgno, _)| *pgno != page_size.lock_page())
        .map(|(pgno, data)| Page { pgno, data: bytes::Bytes::copy_from_slice(data) })
        .collect()
}

/// A delta that leads from one database file to another.
pub(crate) fn file_delta(txid: Txid, before: &[u8], after: &[u8], size: PageSize) -> Delta {
    let old = file_pages(before, size);
    let changed = file_pages(after, size).into_iter().filter(|page| !old.contains(page));
    let commit = Pgno::try_from(after.len() / size.bytes()).unwrap();
    Delta {
        txid,
        page_size: size,
        commit,
        time: time(txid),
        wal: None,
        scope: if before.is_empty() { Scope::Base } else { Scope::Change },
        pages: streamed(changed.collect()),
        progress: Progress::default(),
    }
}
