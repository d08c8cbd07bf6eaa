//! What `jetbridge-limit` promises over processes, on every store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod fleet;
mod rig;

/// The cases that hold on every store.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::rig::Row;

            row!(@cases $row, a_fleet_of_tries_gets_the_burst_and_no_more,
                a_fleet_of_waiters_keeps_the_rate, a_log_holds_over_a_fleet,
                a_cancelled_waiter_leaves_its_slot, a_peek_takes_nothing);
        }
    };
    (@cases $row:expr, $($case:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() { super::fleet::$case(&$row.open().await).await })+
    };
}

row!(memory, Row::Memory);
row!(local, Row::Local);
row!(nats_2_9_25, Row::Nats(jetbridge_testkit::Release::Oldest));
row!(nats_2_15_2, Row::Nats(jetbridge_testkit::Release::Newest));
