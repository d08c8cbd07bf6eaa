//! What is to be merged and what deleted. Pure.

use std::time::{Duration, SystemTime};

use crate::store::{Level, LtxFile, Manifest};
use crate::{Txid, TxidRange};

/// Bytes of files that are merged into one; they and the result are held in memory, compressed.
/// Stock Litestream restores objects of this size on any line.
pub(super) const MERGE_BYTES_MAX: u64 = 16 << 20;

/// The files that `level` is to be given, each group to be merged into one file: in a row,
/// without gaps, and not too large together.
pub(super) fn groups(manifest: &Manifest, level: Level) -> Vec<Vec<LtxFile>> {
    let Some(source) = level.source() else { return Vec::new() };
    // What a base carries is above this level, wherever it stands.
    let own = manifest.level(level).filter(|file| file.base.is_none());
    let own = own.map(|file| file.range.max()).max();
    // What lies before every state that is kept is on its way out: it is not carried up any more.
    let oldest = || states(manifest).iter().map(|state| state.end).min();
    let merged = own.or_else(oldest).unwrap_or(Txid::NONE);
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

/// Files of level 0 that may go.
#[derive(Debug, Default)]
pub(super) struct Captured {
    /// One file of a higher level has all they have.
    pub(super) merged: Vec<LtxFile>,
    /// None has: they lie in a hole of the levels above, as a merge that was cut off or another
    /// program leaves it. The newest state is behind them, and they may go once it is proven.
    pub(super) passed_over: Vec<LtxFile>,
}

/// Files of level 0 that are older than `retention` and behind which level 1 has come: from the
/// oldest up to the first that is not, and never the newest. What lies in a hole of the levels
/// above leads to the newest state for as long as no snapshot and no base is behind it, and stays.
pub(super) fn captured_to_delete(
    manifest: &Manifest,
    now: SystemTime,
    retention: Duration,
) -> Captured {
    let merged = Level::new(1).and_then(|level| manifest.last_of(level)).unwrap_or_default();
    let newest = manifest.last_of(Level::CAPTURED);
    let is_old = |file: &&LtxFile| {
        file.range.max() <= merged
            && Some(file.range.max()) < newest
            && is_older(file, now, retention)
    };
    let state = newest_state(manifest).map_or(Txid::NONE, |(end, _)| end);
    let is_merged = |file: &&LtxFile| {
        file.base.is_none() && file.level != Level::CAPTURED && file.level != Level::SNAPSHOT
    };
    let mut above: Vec<TxidRange> =
        manifest.files().filter(is_merged).map(|file| file.range).collect();
    above.sort_unstable();
    let mut above = above.into_iter().peekable();
    let mut reached = Txid::NONE;
    let mut captured = Captured::default();
    for file in manifest.level(Level::CAPTURED).take_while(is_old) {
        while let Some(range) = above.next_if(|it| TxidRange::min(*it) <= file.range.min()) {
            reached = reached.max(TxidRange::max(range));
        }
        if file.range.max() <= reached {
            captured.merged.push(file.clone());
        } else if file.range.max() <= state {
            captured.passed_over.push(file.clone());
        }
    }
    captured
}

/// True if there is something that no snapshot and no base has, and the newest of these is old.
pub(super) fn snapshot_due(manifest: &Manifest, now: SystemTime, every: Duration) -> bool {
    let newest = states(manifest).into_iter().max_by_key(|state| state.end);
    let captured = manifest.last_of(Level::CAPTURED).unwrap_or_default();
    // The file without pages behind a base is no news.
    let known = newest.map(|it| if it.base { it.end.next() } else { it.end });
    // Without either a base is on its way, in parts: what is not captured is no news.
    let news = known.unwrap_or_default() < captured;
    let age = newest.and_then(|state| now.duration_since(state.time).ok());
    news && (newest.is_none() || age.is_some_and(|age| age >= every))
}

/// Snapshots and bases older than `retention`, but for the newest of both, and every file that
/// ends before the newest of those: restores of what is kept do not need them. Of each level one
/// file stays.
pub(super) fn superseded(
    manifest: &Manifest,
    now: SystemTime,
    retention: Duration,
) -> Vec<LtxFile> {
    let states = states(manifest);
    let Some(newest) = states.iter().map(|state| state.end).max() else { return Vec::new() };
    let is_old = |time| now.duration_since(time).is_ok_and(|age| age > retention);
    let old = states.iter().filter(|state| state.end != newest && is_old(state.time));
    let Some(floor) = old.map(|state| state.end).max() else { return Vec::new() };
    let last = |level: Level| manifest.last_of(level);
    let is_below = |file: &&LtxFile| match (file.level, file.base) {
        (Level::CAPTURED, _) => false,
        (Level::SNAPSHOT, _) => file.range.max() <= floor,
        (_, Some(base)) => base.max() <= floor,
        (level, None) => file.range.max() < floor && Some(file.range.max()) != last(level),
    };
    // What leads to the parts of a base goes first: the others then count for nothing.
    let (snapshots, below): (Vec<_>, Vec<_>) =
        manifest.files().filter(is_below).partition(|file| file.level == Level::SNAPSHOT);
    snapshots.into_iter().chain(below).cloned().collect()
}

/// The newest snapshot or base: the transaction it is at, and its files.
pub(super) fn newest_state(manifest: &Manifest) -> Option<(Txid, Vec<LtxFile>)> {
    let state = states(manifest).into_iter().max_by_key(|state| state.end)?;
    let is_of_it = |file: &&LtxFile| match file.base {
        Some(base) => state.base && base.max() == state.end,
        None => !state.base && file.level == Level::SNAPSHOT && file.range.max() == state.end,
    };
    Some((state.end, manifest.files().filter(is_of_it).cloned().collect()))
}

/// What a chain may begin with.
#[derive(Clone, Copy, Debug)]
struct State {
    end: Txid,
    time: SystemTime,
    base: bool,
}

/// The snapshots, and the bases that are complete and stand on nothing.
fn states(manifest: &Manifest) -> Vec<State> {
    let state = |file: &LtxFile, end, base| State { end, time: file.time, base };
    let snapshots = manifest.level(Level::SNAPSHOT).map(|it| state(it, it.range.max(), false));
    let begins = |file: &&LtxFile| file.range.min() == Txid(1);
    let leading = manifest.files().filter(begins).filter_map(|file| Some((file, file.base?)));
    let complete = leading.filter(|(_, base)| manifest.is_complete(*base));
    snapshots.chain(complete.map(|(file, base)| state(file, base.max(), true))).collect()
}

fn is_older(file: &LtxFile, now: SystemTime, than: Duration) -> bool {
    now.duration_since(file.time).is_ok_and(|age| age > than)
}
