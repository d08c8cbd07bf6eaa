//! What is to be merged and what deleted. Pure.

use std::time::{Duration, SystemTime};

use crate::store::{Level, LtxFile, Manifest};
use crate::{Txid, TxidRange};

/// Bytes of files that are merged into one, which are held in memory; pages take about twice
/// that. Stock Litestream restores objects of this size on any line.
pub(super) const MERGE_BYTES_MAX: u64 = 16 << 20;

/// The files that `level` is to be given, each group to be merged into one file: in a row,
/// without gaps, and not too large together.
pub(super) fn groups(manifest: &Manifest, level: Level) -> Vec<Vec<LtxFile>> {
    let Some(source) = level.source() else { return Vec::new() };
    // What a base carries is above this level, wherever it stands.
    let own = manifest.level(level).filter(|file| file.base.is_none());
    let merged = own.map(|file| file.range.max()).max().unwrap_or(Txid::NONE);
    let mut groups: Vec<Vec<LtxFile>> = Vec::new();
    let mut bytes = 0;
    let sources = manifest.level(source).filter(|it| it.base.is_none() && it.range.min() > merged);
    for file in sources {
        bytes += file.bytes;
        let last = groups.last().and_then(|group| group.last());
        let follows = last.is_some_and(|last| last.range.max().next() == file.range.min());
        match groups.last_mut() {
            Some(group) if follows && bytes <= MERGE_BYTES_MAX => group.push(file.clone()),
            _ => {
                bytes = file.bytes;
                groups.push(vec![file.clone()]);
            }
        }
    }
    groups
}

/// The transactions of files in a row.
pub(super) fn span(files: &[LtxFile]) -> Option<TxidRange> {
    let first = files.first()?.range.min();
    TxidRange::new(first, files.iter().map(|file| file.range.max()).max()?)
}

/// Files of level 0 that level 1 has, and that are older than `retention`: from the oldest up to
/// the first that is not, and never the newest.
pub(super) fn captured_to_delete(
    manifest: &Manifest,
    now: SystemTime,
    retention: Duration,
) -> Vec<LtxFile> {
    let merged = Level::new(1).and_then(|level| manifest.last_of(level)).unwrap_or_default();
    let newest = manifest.last_of(Level::CAPTURED);
    let is_old = |file: &&LtxFile| {
        file.range.max() <= merged
            && Some(file.range.max()) < newest
            && is_older(file, now, retention)
    };
    manifest.level(Level::CAPTURED).take_while(is_old).cloned().collect()
}

/// True if there is something that no snapshot has, and the newest snapshot is old.
pub(super) fn snapshot_due(manifest: &Manifest, now: SystemTime, every: Duration) -> bool {
    let newest = manifest.level(Level::SNAPSHOT).next_back();
    let bases = manifest.bases();
    // A base is as good: the first snapshot is due when the base is old.
    let base = manifest.files().filter(|it| it.base.is_some_and(|base| bases.contains(&base)));
    let since = newest.into_iter().chain(base).map(|file| file.time).max();
    let captured = manifest.last_of(Level::CAPTURED).unwrap_or_default();
    let news = newest.is_none_or(|snapshot| snapshot.range.max() < captured);
    let age = since.and_then(|time| now.duration_since(time).ok());
    news && !manifest.is_empty() && (since.is_none() || age.is_some_and(|age| age >= every))
}

/// Snapshots older than `retention`, but for the newest, and every file that ends before the
/// newest of those: restores of what is kept do not need them. Of each level one file stays.
pub(super) fn superseded(
    manifest: &Manifest,
    now: SystemTime,
    retention: Duration,
) -> Vec<LtxFile> {
    let Some(newest) = manifest.level(Level::SNAPSHOT).next_back() else { return Vec::new() };
    let snapshots: Vec<&LtxFile> = manifest
        .level(Level::SNAPSHOT)
        .filter(|file| file.range != newest.range && is_older(file, now, retention))
        .collect();
    let Some(floor) = snapshots.iter().map(|file| file.range.max()).max() else {
        return Vec::new();
    };
    let last = |level: Level| manifest.last_of(level);
    let below = manifest.files().filter(|file| {
        let merged = file.level != Level::CAPTURED && file.level != Level::SNAPSHOT;
        let end = file.base.map_or(file.range.max(), |base| base.max());
        merged && end < floor && Some(file.range.max()) != last(file.level)
    });
    // What leads to the parts of a base goes first: the others then count for nothing.
    snapshots.into_iter().chain(below).cloned().collect()
}

fn is_older(file: &LtxFile, now: SystemTime, than: Duration) -> bool {
    now.duration_since(file.time).is_ok_and(|age| age > than)
}
