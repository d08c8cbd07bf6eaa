use super::*;
use crate::TxidRange;
use crate::store::Manifest;

fn time(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn manifest(files: &[(u8, u64, u64, u64)]) -> Manifest {
    let mut manifest = Manifest::default();
    for (level, min, max, second) in files {
        manifest.insert(LtxFile {
            level: Level::new(*level).unwrap(),
            range: TxidRange::new(Txid(*min), Txid(*max)).unwrap(),
            bytes: 1 << 20,
            time: time(*second),
            digest: None,
            base: None,
        });
    }
    manifest
}

fn ends(files: &[LtxFile]) -> Vec<(u8, u64)> {
    files.iter().map(|file| (file.level.get(), file.range.max().0)).collect()
}

#[test]
fn a_level_is_given_what_it_has_not_in_rows_without_gaps() {
    let one = Level::new(1).unwrap();
    let files =
        [(1, 1, 3, 1), (0, 2, 2, 1), (0, 3, 3, 1), (0, 4, 4, 1), (0, 5, 5, 1), (0, 8, 8, 1)];
    let groups = groups(&manifest(&files), one);
    let spans: Vec<_> = groups.iter().map(|group| decide::span(group).unwrap()).collect();
    assert_eq!(
        spans,
        [TxidRange::new(Txid(4), Txid(5)), TxidRange::one(Txid(8))].map(Option::unwrap)
    );
    assert_eq!(decide::groups(&manifest(&[(0, 1, 1, 1)]), Level::CAPTURED).len(), 0);
}

#[test]
fn what_is_too_large_together_becomes_several_files() {
    let files: Vec<_> = (1..=40).map(|txid| (0, txid, txid, 1)).collect();
    let groups = groups(&manifest(&files), Level::new(1).unwrap());
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
}

/// What of level 0 goes because it is merged, and because a state is behind it.
fn captured(manifest: &Manifest, now: u64) -> [Vec<(u8, u64)>; 2] {
    let old = captured_to_delete(manifest, time(now), Duration::from_secs(60));
    [ends(&old.merged), ends(&old.passed_over)]
}

#[test]
fn files_of_level_0_go_when_they_are_merged_and_old() {
    let files = [(1, 1, 4, 4), (0, 1, 1, 1), (0, 2, 2, 2), (0, 3, 3, 90), (0, 4, 4, 4)];
    let merged = captured(&manifest(&files), 100);
    assert_eq!(merged, [vec![(0, 1), (0, 2)], vec![]], "up to the first that is too new");
    let all = [(1, 1, 4, 4), (0, 3, 3, 3), (0, 4, 4, 4)];
    assert_eq!(captured(&manifest(&all), 999), [vec![(0, 3)], vec![]]);
    let unmerged = [(0, 1, 1, 1), (0, 2, 2, 1)];
    assert_eq!(captured(&manifest(&unmerged), 999), [vec![], vec![]]);
    // Level 1 let it go, and level 2 has it.
    let higher = [(2, 1, 3, 1), (1, 4, 4, 1), (0, 2, 2, 1), (0, 5, 5, 1)];
    assert_eq!(captured(&manifest(&higher), 999), [vec![(0, 2)], vec![]]);
}

#[test]
fn files_of_level_0_in_a_hole_stay_until_the_newest_state_is_behind_them() {
    let hole: Vec<_> = (1..=12).map(|txid| (0, txid, txid, 1)).collect();
    let mut files = manifest(&[&hole[..], &[(1, 1, 4, 1), (1, 8, 10, 1)]].concat());
    let outside = vec![(0, 1), (0, 2), (0, 3), (0, 4), (0, 8), (0, 9), (0, 10)];
    assert_eq!(captured(&files, 999), [outside.clone(), vec![]]);
    // A snapshot before the hole, and one within it.
    for (end, behind) in [(4, vec![]), (6, vec![(0, 5), (0, 6)])] {
        files.insert(manifest(&[(9, 1, end, 1)]).files().next().unwrap().clone());
        assert_eq!(captured(&files, 999), [outside.clone(), behind]);
    }
    based(&mut files, (8, 10), 2);
    assert_eq!(captured(&files, 999), [outside, vec![(0, 5), (0, 6), (0, 7)]], "the newest state");
}

#[test]
fn what_only_an_old_snapshot_needed_goes_with_it() {
    let day = Duration::from_secs(86400);
    let files = [
        (9, 1, 10, 0),
        (9, 1, 20, 86_400),
        (9, 1, 30, 172_800),
        (1, 1, 8, 0),
        (1, 9, 19, 0),
        (1, 20, 30, 0),
        (3, 1, 9, 0),
        (0, 30, 30, 0),
    ];
    let old = superseded(&manifest(&files), time(180_000), day);
    assert_eq!(ends(&old), [(9, 10), (9, 20), (1, 8), (1, 19)], "one file stays of each level");
    assert!(superseded(&manifest(&[(9, 1, 10, 0)]), time(999_999), day).is_empty());
}

#[test]
fn a_snapshot_is_due_when_the_last_is_old_and_there_is_news() {
    let hour = Duration::from_secs(3600);
    let due = |files: &[_], now| snapshot_due(&manifest(files), time(now), hour);
    assert!(!due(&[], 9999));
    assert!(due(&[(0, 1, 1, 0)], 1), "nothing but changes");
    assert!(!due(&[(9, 1, 5, 100), (0, 6, 6, 200)], 3000));
    assert!(due(&[(9, 1, 5, 100), (0, 6, 6, 200)], 3700));
    assert!(!due(&[(9, 1, 5, 100), (0, 5, 5, 100)], 3700));
}

/// A base of `parts` files, as it is cut: what leads to them, and those behind it.
fn based(manifest: &mut Manifest, (first, last): (u64, u64), second: u64) {
    let base = TxidRange::new(Txid(first), Txid(last));
    for txid in first..=last {
        let min = if txid == first { 1 } else { txid };
        manifest.insert(LtxFile {
            level: Level::BASE,
            range: TxidRange::new(Txid(min), Txid(txid)).unwrap(),
            bytes: 32 << 20,
            time: time(second),
            digest: None,
            base,
        });
    }
}

#[test]
fn a_newer_base_supersedes_an_older_one_and_what_lies_between() {
    let day = Duration::from_secs(86400);
    let between = [(1, 4, 8, 100), (2, 4, 20, 100), (3, 4, 29, 100), (0, 44, 44, 180_000)];
    let mut files = manifest(&between);
    based(&mut files, (1, 3), 0);
    based(&mut files, (30, 32), 90_000);
    assert!(superseded(&files, time(100_000), day).iter().all(|file| file.base.is_some()));
    assert_eq!(ends(&superseded(&files, time(100_000), day)), [(3, 1), (3, 2), (3, 3)]);
    based(&mut files, (40, 42), 179_000);
    let old = superseded(&files, time(180_000), day);
    let gone = [(3, 1), (3, 30), (3, 2), (3, 3), (3, 29), (3, 31), (3, 32)];
    assert_eq!(ends(&old), gone, "and of each level one file stays");
}

#[test]
fn a_base_that_is_on_its_way_makes_no_snapshot_due() {
    let hour = Duration::from_secs(3600);
    let mut files = Manifest::default();
    based(&mut files, (1, 3), 0);
    assert!(files.remove(Level::BASE, TxidRange::one(Txid(3)).unwrap()).is_some());
    assert!(!snapshot_due(&files, time(9999), hour));
    files.insert(manifest(&[(0, 4, 4, 0)]).files().next().unwrap().clone());
    assert!(snapshot_due(&files, time(9999), hour), "it was never finished");
}

#[test]
fn an_idle_database_is_given_no_new_base() {
    let hour = Duration::from_secs(3600);
    let mut files = manifest(&[(0, 4, 4, 0)]);
    based(&mut files, (1, 3), 0);
    assert!(!snapshot_due(&files, time(9999), hour), "the file behind a base is no news");
    files.insert(manifest(&[(0, 5, 5, 10)]).files().next().unwrap().clone());
    assert!(!snapshot_due(&files, time(3000), hour));
    assert!(snapshot_due(&files, time(9999), hour));
}
