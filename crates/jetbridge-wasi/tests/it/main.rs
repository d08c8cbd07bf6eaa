//! What guests of each dialect can rely on, on every store, through the real component ABI.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod assemble;
mod coverage;
mod draft;
mod draft2;
mod faults;
#[cfg(feature = "host")]
mod follower;
mod guest;
mod hostile;
mod load;
mod promises;
#[cfg(feature = "host")]
mod python;
mod restarts;
mod rig;
mod spin;
mod stores;
mod wasmcloud;
mod watcher;

/// The cases that hold on every store.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::rig::Row;

            row!(@cases $row, draft: the_conformance_program_of_wasmtime,
                the_reactor_of_wasmcloud_v1, pages_end_and_forged_cursors_are_refused,
                counters_never_go_negative);
            row!(@cases $row, draft2: a_swap_wins_only_over_what_it_saw,
                a_swap_of_an_absent_key_creates_it, counters_go_both_ways,
                batches_are_positional, cursors_are_opaque_and_checked);
            row!(@cases $row, spin: the_component_of_spin, an_answer_of_256_mib_is_refused);
            row!(@cases $row, wasmcloud: the_fixture_of_wash, writes_under_conditions,
                listings_by_prefix);
            row!(@cases $row, hostile: keys_of_every_kind, values_over_the_limit,
                counters_that_are_no_numbers, tombstones_are_absent,
                a_bucket_with_foreign_settings,
                handles_hold_no_more_than_an_answer_may_have, a_result_over_the_limit_is_refused);
            row!(@cases $row, stores: unknown_and_ungranted_stores,
                links_come_and_go_alone, a_bucket_that_is_gone_is_no_such_store,
                encodings_of_other_hosts,
                a_bucket_of_counters_counts_and_does_nothing_else, eight_hosts_count_exactly);
            row!(@cases $row, watcher: changes_reach_the_guest_in_order,
                a_link_that_is_taken_away_tells_nothing_more);
            row!(@cases $row, promises: a_component_speaks_several_dialects,
                a_store_that_fails_is_an_error_and_never_a_trap,
                a_batch_that_failed_in_part_says_so,
                a_race_for_a_first_increment_loses_none,
                a_listing_under_rewrites_misses_none,
                a_value_over_what_a_message_may_have);
            #[cfg(feature = "host")]
            row!(@cases $row, follower: a_bucket_that_was_made_again_is_told_whole,
                a_watch_that_broke_off_is_taken_up_where_it_was,
                another_version_goes_on_where_the_one_before_stood);
        }
    };
    (@cases $row:expr, $group:ident: $($case:ident),+ $(,)?) => {
        mod $group {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { crate::$group::$case(&$row.open().await).await })+
        }
    };
}

row!(memory, Row::Memory);
row!(local, Row::Local);
row!(nats_2_9_25, Row::Nats(jetbridge_testkit::Release::Oldest));
row!(nats_2_15_2, Row::Nats(jetbridge_testkit::Release::Newest));
