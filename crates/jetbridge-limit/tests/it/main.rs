//! What `jetbridge-limit` promises over processes, on every store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod away;
mod composite;
mod contention;
mod coverage;
mod expiry;
mod faults;
mod fleet;
mod golden;
mod layer;
mod races;
mod refunds;
mod reset;
mod rig;
mod slots;
mod stock;
mod tickets;

/// The cases that hold on every store.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::rig::Row;

            row!(@cases $row, fleet: a_fleet_of_tries_gets_the_burst_and_no_more,
                a_fleet_of_waiters_keeps_the_rate, a_log_holds_over_a_fleet,
                a_cancelled_waiter_leaves_its_slot, a_peek_takes_nothing);
            row!(@cases $row, slots: slots_hold_over_a_fleet, whoever_waits_for_a_slot_gets_one,
                a_crowd_that_waits_keeps_nobody_from_an_answer,
                a_slot_that_comes_back_wakes_another_process,
                the_slots_of_a_dead_process_come_back, a_denial_of_either_charges_neither,
                cancelled_calls_leave_no_slot);
            row!(@cases $row, api: a_stream_is_throttled, several_permits_are_taken_together,
                a_wait_that_is_too_short_is_denied_at_once, a_permit_is_a_guard,
                waiters_are_served_in_order, a_cancelled_waiters_slot_goes_to_the_next,
                a_cancelled_waiters_permit_goes_to_the_next);
            row!(@cases $row, expiry: a_value_in_use_is_kept_no_longer_than_it_is_of_use);
            row!(@cases $row, composite: nothing_is_charged_unless_all_agree,
                one_of_several_is_enough);
            row!(@cases $row, tickets: whoever_competes_is_counted_out_where_the_store_counts,
                a_rest_leaves_the_whole_burst, a_denied_try_costs_no_ticket,
                several_limiters_that_must_agree_lose_no_ticket, a_reset_reaches_everybody,
                another_policy_ends_tickets, tickets_that_a_dead_process_ended_end,
                a_counter_that_somebody_deleted_is_noticed,
                counters_that_somebody_deleted_are_made_again, nobody_left_ends_tickets,
                who_may_not_make_a_bucket_begins_no_tickets);
            row!(@cases $row, stock: a_hot_caller_takes_ahead_and_the_rest_comes_back,
                hot_callers_of_a_fleet_get_no_more_than_the_rate);
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
