//! What `jetbridge-sqlite` promises of live databases, on stores, and with Litestream's own binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod capture;
use capture::stores as captures;
mod coverage;
mod damage;
mod faults;
mod frozen;
mod gate;
mod history;
mod interop;
mod litestream;
mod orphans;
mod overtaken;
mod restore;
mod rig;
mod trouble;
mod upkeep;
mod uplink;

/// The cases that hold on every store.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::rig::Row;

            row!(@cases $row, restore: every_state_of_a_history_is_restored,
                a_base_in_parts_is_restored, a_broken_file_is_made_up_for_or_named,
                a_purged_file_is_named, what_is_there_is_not_written_over,
                what_came_meanwhile_is_not_written_over, a_proof_is_never_a_database);
            row!(@cases $row, uplink: what_is_shipped_is_restored,
                what_is_large_is_cut_and_shown_whole, a_base_that_failed_is_no_part_of_the_chain,
                a_delta_sent_twice_is_acknowledged_twice,
                what_is_held_tells_that_it_gets_on, what_was_touched_since_is_told,
                one_of_two_writers_wins_and_the_other_says_so);
            row!(@cases $row, overtaken:
                a_change_planned_before_the_place_was_taken_is_not_shipped,
                a_base_begun_before_the_place_was_taken_is_not_completed);
            row!(@cases $row, captures: what_is_committed_is_restored,
                a_writer_that_was_overtaken_says_so);
        }
    };
    (@cases $row:expr, $group:ident: $($case:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() { super::$group::$case(&$row.open().await).await })+
    };
}

row!(memory, Row::Memory);
row!(local, Row::Local);
row!(nats_2_9_25, Row::Nats(jetbridge_testkit::Release::Oldest));
row!(nats_2_15_2, Row::Nats(jetbridge_testkit::Release::Newest));
