//! What `jetbridge-sqlite` promises on stores, and with Litestream's own binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod history;
mod interop;
mod litestream;
mod restore;
mod rig;

/// The cases that hold on every store.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::rig::Row;

            row!(@cases $row, restore: every_state_of_a_history_is_restored,
                a_base_in_parts_is_restored, a_broken_file_is_made_up_for_or_named,
                a_purged_file_is_named, what_is_there_is_not_written_over);
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
