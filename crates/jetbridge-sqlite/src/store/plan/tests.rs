use std::time::Duration;

use super::*;
use crate::TxidRange;

/// A file of `(level, first, last, second of its capture)`.
type Spec = (u8, u64, u64, u64);

fn time(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn file((level, min, max, second): Spec) -> LtxFile {
    LtxFile {
        level: Level::new(level).unwrap(),
        range: TxidRange::new(Txid(min), Txid(max)).unwrap(),
        bytes: 1,
        time: time(second),
        digest: None,
        base: None,
    }
}

fn manifest(files: &[Spec]) -> Manifest {
    let mut manifest = Manifest::default();
    files.iter().for_each(|spec| manifest.insert(file(*spec)));
    manifest
}

fn chain(plan: &Plan) -> Vec<(u8, u64, u64)> {
    let brief = |file: &LtxFile| (file.level.get(), file.range.min().0, file.range.max().0);
    plan.files.iter().map(brief).collect()
}

fn check(files: &[Spec], target: Target, expected: &[(u8, u64, u64)]) {
    assert_eq!(chain(&plan(&manifest(files), target).unwrap()), expected, "{files:?} {target:?}");
}

fn refused(files: &[Spec], target: Target) -> Error {
    plan(&manifest(files), target).unwrap_err()
}

#[test]
fn a_snapshot_and_what_follows_it() {
    let files = [(9, 1, 5, 1), (1, 6, 8, 2), (0, 9, 9, 3)];
    check(&files, Target::Latest, &[(9, 1, 5), (1, 6, 8), (0, 9, 9)]);
    check(&files, Target::Txid(Txid(8)), &[(9, 1, 5), (1, 6, 8)]);
    check(&files, Target::Txid(Txid(5)), &[(9, 1, 5)]);
}

#[test]
fn a_chain_from_the_first_transaction_needs_no_snapshot() {
    check(&[(0, 1, 1, 1), (0, 2, 2, 1)], Target::Latest, &[(0, 1, 1), (0, 2, 2)]);
    check(&[(1, 1, 4, 1), (0, 4, 4, 1), (0, 5, 5, 1)], Target::Latest, &[(1, 1, 4), (0, 5, 5)]);
}

#[test]
fn the_file_that_reaches_furthest_wins_whatever_its_level() {
    let files = [(9, 1, 5, 1), (2, 6, 8, 1), (1, 6, 10, 1), (0, 6, 6, 1)];
    check(&files, Target::Latest, &[(9, 1, 5), (1, 6, 10)]);
    // Files may overlap what is there.
    let files = [(9, 1, 5, 1), (3, 2, 9, 1), (1, 6, 8, 1), (0, 9, 9, 1)];
    check(&files, Target::Latest, &[(9, 1, 5), (3, 2, 9)]);
}

#[test]
fn ties_go_to_more_history_then_to_the_higher_level() {
    check(&[(1, 1, 3, 1), (2, 1, 3, 1)], Target::Latest, &[(2, 1, 3)]);
    let files = [(9, 1, 3, 1), (2, 3, 6, 1), (1, 2, 6, 1)];
    check(&files, Target::Latest, &[(9, 1, 3), (1, 2, 6)]);
}

#[test]
fn a_target_is_not_passed() {
    let files = [(9, 1, 10, 5), (1, 1, 4, 2), (0, 5, 5, 3), (0, 6, 6, 4)];
    check(&files, Target::Txid(Txid(6)), &[(1, 1, 4), (0, 5, 5), (0, 6, 6)]);
    let error = refused(&[(1, 1, 10, 1)], Target::Txid(Txid(7)));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = refused(&[(0, 1, 1, 1)], Target::Txid(Txid(7)));
    assert!(error.hint_text().unwrap().contains("0000000000000001"), "{error:?}");
}

#[test]
fn a_time_is_strictly_later_than_what_is_restored() {
    let files = [(0, 1, 1, 10), (0, 2, 2, 20), (0, 3, 3, 30)];
    check(&files, Target::Before(time(21)), &[(0, 1, 1), (0, 2, 2)]);
    check(&files, Target::Before(time(20)), &[(0, 1, 1)]);
    let error = refused(&files, Target::Before(time(10)));
    assert!(error.to_string().contains("timestamp does not exist"), "{error}");
}

#[test]
fn a_gap_is_an_error_for_the_newest_state_alone() {
    let files = [(9, 1, 5, 1), (0, 7, 7, 2)];
    let error = refused(&files, Target::Latest);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("have up to 0000000000000005 but next file starts at"));
    assert_eq!((error.fact("lost_from"), error.fact("lost_to")), {
        (Some("0000000000000006"), Some("0000000000000006"))
    });
    check(&files, Target::Txid(Txid(5)), &[(9, 1, 5)]);
    check(&files, Target::Before(time(9)), &[(9, 1, 5)]);
}

#[test]
fn nothing_is_refused() {
    assert_eq!(refused(&[], Target::Latest).kind(), ErrorKind::NotFound);
    assert_eq!(refused(&[(0, 4, 4, 1)], Target::Latest).kind(), ErrorKind::Corrupt);
    assert_eq!(refused(&[(0, 4, 4, 1)], Target::Before(time(2))).kind(), ErrorKind::NotFound);
}

/// A base whose parts carry the transactions `first` to `last`.
fn with_base(manifest: &mut Manifest, first: u64, last: u64, parts: &[u64]) {
    for end in parts {
        let min = if *end == first { 1 } else { *end };
        let base = TxidRange::new(Txid(first), Txid(last));
        manifest.insert(LtxFile { base, ..file((3, min, *end, 7)) });
    }
}

#[test]
fn a_base_in_parts_is_used_whole_or_not_at_all() {
    let mut files = manifest(&[]);
    with_base(&mut files, 1, 3, &[1, 2, 3]);
    files.insert(file((0, 4, 4, 7)));
    let parts = [(3, 1, 1), (3, 2, 2), (3, 3, 3)];
    assert_eq!(chain(&plan(&files, Target::Txid(Txid(3))).unwrap()), parts);
    for torn in [1, 2] {
        let error = plan(&files, Target::Txid(Txid(torn))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(plan(&files, Target::Latest).unwrap().txid, Txid(4));
}

#[test]
fn an_unfinished_base_hides_nothing() {
    let mut files = manifest(&[(9, 1, 5, 1), (0, 6, 6, 2)]);
    with_base(&mut files, 7, 9, &[8, 9]);
    assert_eq!(chain(&plan(&files, Target::Latest).unwrap()), [(9, 1, 5), (0, 6, 6)]);
    assert_eq!(files.abandoned().len(), 2);
    with_base(&mut files, 7, 9, &[7]);
    assert!(files.abandoned().is_empty());
    let whole = [(9, 1, 5), (3, 1, 7), (3, 8, 8), (3, 9, 9)];
    assert_eq!(chain(&plan(&files, Target::Latest).unwrap()), whole);
}
