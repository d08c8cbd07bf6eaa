//! Which of two writes counts. What a copy wrote carries a mark, until somebody writes it again:
//! it stands for what the source had, however the clocks are. Two writes of applications are told
//! apart by when they were made, each by its own store's clock; one that cannot surely be called
//! older is never overwritten.

use std::time::{Duration, Instant, SystemTime};

use jetbridge_core::{Headers, Result, Revision};

use super::{Stores, into, out_of};

/// On what a copy wrote: the revision it had in the source.
const COPIED: &str = "Jetbridge-Copied";

/// One side's write of a key or an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    at: SystemTime,
    is_copy: bool,
}

impl Write {
    pub(super) fn new(at: SystemTime, headers: &Headers) -> Self {
        Self { at, is_copy: headers.get(COPIED).is_some() }
    }

    /// A deletion, which nothing is written on.
    pub(super) fn deletion(at: SystemTime) -> Self {
        Self { at, is_copy: false }
    }
}

/// The headers of the source's write as the copy has them.
pub(super) fn marked(headers: &Headers, revision: Revision) -> Result<Headers> {
    let mut headers = headers.clone();
    headers.set(COPIED, &revision.to_string())?;
    Ok(headers)
}

/// True if this is what a copy made of that revision.
pub(super) fn is_copy_of(headers: &Headers, revision: Revision) -> bool {
    headers.get(COPIED) == Some(&revision.to_string())
}

/// Headers as they can be compared: a store need not keep the order of names.
pub(super) fn fields(headers: &Headers) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> = headers.iter().filter(|(name, _)| *name != COPIED).collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

/// What the two stores' clocks say at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The source's.
    pub(super) from: SystemTime,
    to: SystemTime,
    /// How far both together may be wrong.
    error: Duration,
}

impl Clocks {
    pub(super) async fn of(stores: &Stores) -> Result<Self> {
        let begun = Instant::now();
        let from = stores.from.now().await.map_err(out_of)?;
        let to = stores.to.now().await.map_err(into)?;
        // The first clock went on while the other was asked. What is added too much makes the
        // source's writes older than they are, which keeps too much rather than too little.
        Ok(Self { from: from.now + begun.elapsed(), to: to.now, error: from.error + to.error })
    }

    /// True if the destination's write stays: an application made it, and it cannot be told to be
    /// older than the source's.
    pub(super) fn is_kept(self, there: Write, here: Write) -> bool {
        let age = |now: SystemTime, then: SystemTime| now.duration_since(then).unwrap_or_default();
        let is_older = age(self.to, there.at) > age(self.from, here.at) + self.error;
        !there.is_copy && (here.is_copy || !is_older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(1_700_000_000);

    fn at(second: u64, headers: &Headers) -> Write {
        Write::new(SystemTime::UNIX_EPOCH + NOON + Duration::from_secs(second), headers)
    }

    #[test]
    fn what_may_be_newer_stays_and_what_a_copy_wrote_does_not() {
        let now = SystemTime::UNIX_EPOCH + NOON + Duration::from_secs(100);
        let an_hour = Duration::from_secs(3600);
        let clocks = Clocks { from: now, to: now + an_hour, error: Duration::from_secs(2) };
        let (ours, copied) = (Headers::new(), marked(&Headers::new(), Revision(7)).unwrap());
        // Their clock is an hour ahead of ours.
        let there = |second: u64, headers| at(3600 + second, headers);
        for (theirs, source, is_kept) in [
            (there(50, &ours), at(40, &ours), true),
            (there(50, &ours), at(52, &ours), true),
            (there(50, &ours), at(53, &ours), false),
            (there(50, &copied), at(40, &ours), false),
            (there(50, &copied), at(40, &copied), false),
            (there(50, &ours), at(90, &copied), true),
        ] {
            assert_eq!(clocks.is_kept(theirs, source), is_kept, "{theirs:?} {source:?}");
        }
    }

    #[test]
    fn a_mark_is_no_difference() {
        let headers = Headers::new().with("B", "1").unwrap().with("A", "2").unwrap();
        let copied = marked(&headers, Revision(7)).unwrap();
        assert_eq!(fields(&copied), fields(&headers));
        assert_eq!(marked(&copied, Revision(8)).unwrap().len(), 3);
        assert!(is_copy_of(&copied, Revision(7)) && !is_copy_of(&copied, Revision(8)));
    }
}
