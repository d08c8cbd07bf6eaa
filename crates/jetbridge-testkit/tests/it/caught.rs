//! The contract notices broken promises.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jetbridge_testkit::contract::{Case, backend, bus, kv, model, object, run_within};

use crate::flawed::{Flaw, open};

/// For a case that fails by waiting; the store in memory answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Each flaw, and the cases that have to notice it.
const CAUGHT: &[(Flaw, &[Case])] = &[
    (Flaw::CatchesUpTwice, &[kv::watch::an_empty_bucket_is_caught_up_with]),
    (Flaw::HidesThePresentRevision, &[kv::condition::create_is_refused_over_a_value]),
    (Flaw::IgnoresCase, &[kv::name::similar_keys_are_different]),
    (Flaw::IgnoresIds, &[bus::append::ids_are_deduplicated]),
    (
        Flaw::IgnoresTtl,
        &[
            kv::expiry::entries_know_when_they_expire,
            kv::expiry::a_brief_value_expires_or_is_refused,
            model::seeds::one_revision_is_kept,
        ],
    ),
    (Flaw::KeepsTornBodies, &[object::put::a_failing_body_leaves_nothing]),
    (Flaw::LeavesATask, &[backend::connection::capabilities_make_sense]),
    (
        Flaw::ListsOneTooFew,
        &[
            kv::list::keys_are_the_live_ones,
            kv::list::pages_add_up,
            model::seeds::one_revision_is_kept,
        ],
    ),
    (Flaw::LosesTheLastByte, &[object::put::bodies_of_every_size_come_back]),
    (
        Flaw::LosesUpdates,
        &[
            kv::condition::stale_revision_conflicts,
            kv::condition::one_update_wins,
            model::seeds::one_revision_is_kept,
        ],
    ),
    (Flaw::NeverCatchesUp, &[kv::watch::an_empty_bucket_is_caught_up_with]),
    (Flaw::ReadsStale, &[kv::value::the_peer_reads_what_was_acknowledged]),
    (
        Flaw::WritesForDeleting,
        &[kv::value::empty_value_is_a_value, model::seeds::one_revision_is_kept],
    ),
];

fn passes(flaw: Flaw, case: Case) -> bool {
    catch_unwind(AssertUnwindSafe(|| run_within(PATIENCE, open(flaw), case))).is_ok()
}

#[test]
fn each_flaw_is_caught() {
    for (flaw, cases) in CAUGHT {
        for (at, case) in cases.iter().enumerate() {
            assert!(!passes(*flaw, *case), "{flaw:?} is not noticed by case {at}");
        }
    }
}

#[test]
fn the_same_cases_pass_without_a_flaw() {
    for (flaw, cases) in CAUGHT {
        for (at, case) in cases.iter().enumerate() {
            assert!(passes(Flaw::None, *case), "case {at} of {flaw:?} fails by itself");
        }
    }
}
