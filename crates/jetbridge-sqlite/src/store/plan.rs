//! Which files lead to a state, in the order in which they apply. Pure.
//!
//! The same files give the same plan as in Litestream: the newest snapshot that is not too new,
//! then again and again the file that reaches furthest without leaving a gap. What differs is
//! bases cut into parts: a plan uses all parts of one or none.

use std::cmp::Reverse;
use std::time::SystemTime;

use jetbridge_core::{Error, ErrorKind, Result};

use super::level::Level;
use super::manifest::{LtxFile, Manifest};
use crate::Txid;

const OPERATION: &str = "sqlite.plan";

/// Which state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there are these three ways to name a state")]
pub enum Target {
    /// The newest.
    Latest,
    /// That after one transaction.
    Txid(Txid),
    /// The newest that was captured before a time.
    Before(SystemTime),
}

/// Files that lead to a state, oldest first; at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The files.
    pub files: Vec<LtxFile>,
    /// The transaction they lead to.
    pub txid: Txid,
}

impl Plan {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The files that lead to `target`.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if none do, [`Corrupt`](ErrorKind::Corrupt) if the newest
/// state is asked for and files lie beyond a gap.
pub fn plan(manifest: &Manifest, target: Target) -> Result<Plan> {
    let plan = reach(manifest, target);
    match target {
        Target::Latest => check_gap(manifest, plan.txid)?,
        Target::Txid(wanted) if plan.txid < wanted => return Err(unreached(wanted, plan.txid)),
        Target::Txid(_) | Target::Before(_) => {}
    }
    if plan.files.is_empty() {
        return Err(nothing(manifest, target));
    }
    Ok(plan)
}

/// As far as files lead towards `target`; no file if nothing does.
pub(crate) fn reach(manifest: &Manifest, target: Target) -> Plan {
    let usable: Vec<&LtxFile> = manifest.usable().filter(|file| is_within(file, target)).collect();
    let (snapshots, mut others): (Vec<_>, Vec<_>) =
        usable.into_iter().partition(|file| file.level == Level::SNAPSHOT);
    // The last of those in the order of their names, as Litestream lists them.
    let mut files: Vec<LtxFile> =
        snapshots.last().map(|file| (*file).clone()).into_iter().collect();
    let mut reached = files.last().map_or(Txid::NONE, |file| file.range.max());
    others.sort_by_key(|file| file.range.min());
    let mut others = others.into_iter().peekable();
    let mut best: Option<&LtxFile> = None;
    loop {
        // What extends the chain goes on doing so until it is passed: the best is never far.
        while let Some(file) = others.next_if(|file| file.range.min() <= reached.next()) {
            best = best.into_iter().chain([file]).max_by_key(|file| rank(file));
        }
        let Some(next) = best.take_if(|file| file.range.extends(reached)) else { break };
        reached = next.range.max();
        files.push(next.clone());
    }
    Plan { files, txid: reached }
}

/// The times of the oldest and the newest state that can be restored; `None` if nothing can be.
pub fn restorable(manifest: &Manifest) -> Option<(SystemTime, SystemTime)> {
    // Whatever begins a chain is a state of its own; of a base, its last part is.
    let begins = manifest.usable().filter(|file| file.range.min() == Txid(1));
    let oldest = begins.map(|file| file.time).min()?;
    let newest = reach(manifest, Target::Latest).files.last()?.time;
    Some((oldest, newest.max(oldest)))
}

/// Files that lead from the state at `from` on, as far as any do, with as little before it as
/// possible; none if nothing does.
pub(crate) fn reach_from(manifest: &Manifest, from: Txid) -> Plan {
    let mut usable: Vec<&LtxFile> = manifest.usable().collect();
    usable.sort_by_key(|file| (file.range.min(), file.range.max()));
    let mut plan = Plan { files: Vec::new(), txid: from };
    loop {
        let begun = usable.partition_point(|file| file.range.min() <= plan.txid.next());
        let next = usable[..begun].iter().rev().find(|file| file.range.extends(plan.txid));
        let Some(next) = next else { return plan };
        plan.txid = next.range.max();
        plan.files.push((*next).clone());
    }
}

/// What reaches furthest is best; of several that with the most before it, of the highest level,
/// the oldest.
fn rank(file: &LtxFile) -> impl Ord + use<> {
    (file.range.max(), Reverse(file.range.min()), file.level, Reverse(file.time))
}

fn is_within(file: &LtxFile, target: Target) -> bool {
    match target {
        Target::Latest => true,
        Target::Txid(wanted) => {
            file.range.max() <= wanted && file.base.is_none_or(|base| base.max() <= wanted)
        }
        Target::Before(time) => file.time < time,
    }
}

/// Files that nothing leads to: what was captured between is lost, and the newest state with it.
fn check_gap(manifest: &Manifest, reached: Txid) -> Result<()> {
    let beyond = manifest
        .usable()
        .filter(|file| file.level != Level::SNAPSHOT && file.range.min() > reached.next());
    let Some(next) = beyond.map(|file| file.range.min()).min() else { return Ok(()) };
    let text =
        format!("non-contiguous ltx files: have up to {reached} but next file starts at {next}");
    let error = Error::new(ErrorKind::Corrupt, OPERATION)
        .because(text)
        .with("lost_from", reached.next())
        .with("lost_to", Txid(next.0 - 1));
    Err(match reached {
        Txid::NONE => error.hint("nothing of this replica can be restored without them"),
        reached => error.hint(format!("the newest that can be restored is -txid {reached}")),
    })
}

fn unreached(wanted: Txid, reached: Txid) -> Error {
    let error = Error::new(ErrorKind::NotFound, OPERATION)
        .because("no matching backup files available")
        .with("txid", wanted);
    match reached {
        Txid::NONE => error.hint("`jetbridge sqlite ltx -level all` lists what there is"),
        reached => error.hint(format!("the newest before it that can be restored is {reached}")),
    }
}

fn nothing(manifest: &Manifest, target: Target) -> Error {
    let error = Error::new(ErrorKind::NotFound, OPERATION);
    match (target, manifest.times()) {
        (_, None) => error.because("no matching backup files available: the replica is empty"),
        (Target::Before(_), Some((oldest, _))) => {
            let age = oldest.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            error
                .because("timestamp does not exist: nothing was captured before it")
                .with("oldest_unix_ms", age.as_millis())
        }
        _ => error.because("no matching backup files available: no chain begins at TXID 1"),
    }
}

#[cfg(test)]
mod tests;
