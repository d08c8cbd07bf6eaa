//! What became of a write whose acknowledgement was lost: the rules, without input or output.
//!
//! Every write carries a name of its own. When it is unclear whether it landed, the last message
//! on its subject is read from the leader and judged:
//!
//! * it bears the write's name: it landed;
//! * a conditional write whose condition still holds has not landed, and sending it again is
//!   safe, even if the first copy is still on its way: only one of them can pass;
//! * the message there was written over the very revision that the write expected: somebody else
//!   won, and the write can never land;
//! * an unconditional write that the stream remembers by its id is sent again, over what was
//!   read: the stream drops the copy if it has the first, unless it was restarted in between and
//!   somebody else has overwritten it;
//! * else nobody can tell, and the caller is told so.

use std::time::SystemTime;

/// What is known of the write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unclear<'a> {
    /// Its name; `None` if it had no room for one.
    pub(crate) id: Option<&'a str>,
    /// The sequence it expected; 0 is "no message", `None` is no condition.
    pub(crate) expected: Option<u64>,
    /// Whether the stream remembers it by its id.
    pub(crate) fenced: bool,
    /// A time before it was sent, by the store's clock.
    pub(crate) began: Option<SystemTime>,
    /// Whether the server may have been restarted since.
    pub(crate) restarted: bool,
}

/// The last message on its subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last<'a> {
    pub(crate) sequence: u64,
    pub(crate) id: Option<&'a str>,
    pub(crate) expected: Option<u64>,
    pub(crate) time: SystemTime,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    /// It landed, at this sequence.
    Landed(u64),
    /// It has not landed; send it again, on the condition that this is still the last sequence.
    Again(u64),
    /// It can never land: somebody else wrote first.
    Lost,
    /// What is there does not tell.
    Unknown,
}

/// Judges by the last message on the subject.
pub(crate) fn judge(write: &Unclear<'_>, last: Option<&Last<'_>>) -> Judgement {
    let sequence = last.map_or(0, |last| last.sequence);
    let is_ours = last.is_some_and(|last| write.id.is_some() && last.id == write.id);
    if is_ours {
        return Judgement::Landed(sequence);
    }
    match write.expected {
        Some(expected) if sequence == expected => Judgement::Again(expected),
        // A message without a name could be ours.
        Some(_) if write.id.is_none() => Judgement::Unknown,
        Some(expected) if last.is_some_and(|last| last.expected == Some(expected)) => {
            Judgement::Lost
        }
        Some(expected) if last.is_some_and(|last| last.sequence < expected) => Judgement::Lost,
        Some(_) => Judgement::Unknown,
        None => judge_unconditional(write, last),
    }
}

fn judge_unconditional(write: &Unclear<'_>, last: Option<&Last<'_>>) -> Judgement {
    if !write.fenced {
        return Judgement::Unknown;
    }
    let Some(last) = last else {
        return if write.restarted { Judgement::Unknown } else { Judgement::Again(0) };
    };
    let older = write.began.is_some_and(|began| last.time < began);
    if older || !write.restarted { Judgement::Again(last.sequence) } else { Judgement::Unknown }
}

/// What the messages between the expected one and the last tell, where they are still stored.
/// `sequences` are those behind `expected`, oldest first, with their names; `expected_is_stored`
/// says that none between it and the first of them can be missing.
pub(crate) fn judge_history(
    id: &str,
    sequences: &[(u64, Option<String>)],
    expected_is_stored: bool,
) -> Judgement {
    if let Some((landed, _)) = sequences.iter().find(|(_, name)| name.as_deref() == Some(id)) {
        return Judgement::Landed(*landed);
    }
    if expected_is_stored && !sequences.is_empty() { Judgement::Lost } else { Judgement::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BEGAN: SystemTime = SystemTime::UNIX_EPOCH;

    fn conditional(expected: u64) -> Unclear<'static> {
        Unclear {
            id: Some("me"),
            expected: Some(expected),
            fenced: false,
            began: Some(BEGAN),
            restarted: true,
        }
    }

    fn unconditional(restarted: bool) -> Unclear<'static> {
        Unclear { expected: None, fenced: true, restarted, ..conditional(0) }
    }

    fn last(sequence: u64, id: &'static str, expected: Option<u64>) -> Last<'static> {
        Last { sequence, id: Some(id), expected, time: BEGAN + Duration::from_secs(1) }
    }

    #[track_caller]
    fn check(write: Unclear<'_>, last: Option<Last<'_>>, expected: Judgement) {
        assert_eq!(judge(&write, last.as_ref()), expected);
    }

    #[test]
    fn a_write_that_is_there_landed() {
        check(conditional(3), Some(last(4, "me", Some(3))), Judgement::Landed(4));
        check(unconditional(true), Some(last(4, "me", None)), Judgement::Landed(4));
    }

    #[test]
    fn a_condition_that_still_holds_is_tried_again() {
        check(conditional(3), Some(last(3, "other", None)), Judgement::Again(3));
        check(conditional(0), None, Judgement::Again(0));
    }

    #[test]
    fn who_wrote_over_the_same_revision_has_won() {
        check(conditional(3), Some(last(4, "other", Some(3))), Judgement::Lost);
        check(conditional(9), Some(last(4, "other", None)), Judgement::Lost);
    }

    #[test]
    fn a_write_that_was_overwritten_leaves_no_trace() {
        check(conditional(3), Some(last(5, "other", Some(4))), Judgement::Unknown);
        check(conditional(3), Some(last(5, "other", None)), Judgement::Unknown);
        check(conditional(3), None, Judgement::Unknown);
        let nameless = Unclear { id: None, ..conditional(3) };
        check(nameless, Some(last(4, "other", Some(3))), Judgement::Unknown);
    }

    #[test]
    fn an_unconditional_write_is_sent_again_only_under_the_streams_memory() {
        check(unconditional(false), Some(last(5, "other", None)), Judgement::Again(5));
        check(unconditional(true), Some(last(5, "other", None)), Judgement::Unknown);
        let old = Last { time: BEGAN - Duration::from_secs(1), ..last(5, "other", None) };
        check(unconditional(true), Some(old), Judgement::Again(5));
        let unfenced = Unclear { fenced: false, ..unconditional(false) };
        check(unfenced, Some(last(5, "other", None)), Judgement::Unknown);
    }

    #[test]
    fn a_history_that_goes_back_far_enough_tells() {
        let names = |names: &[&str]| -> Vec<(u64, Option<String>)> {
            (4..).zip(names.iter().map(|name| Some((*name).to_owned()))).collect()
        };
        assert_eq!(judge_history("me", &names(&["me", "other"]), false), Judgement::Landed(4));
        assert_eq!(judge_history("me", &names(&["other"]), true), Judgement::Lost);
        assert_eq!(judge_history("me", &names(&["other"]), false), Judgement::Unknown);
    }
}
