//! What `jetbridge-nats` promises, on real servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Each case on the oldest and the newest server.
macro_rules! on_every_server {
    ($($case:ident),+ $(,)?) => {
        mod nats_2_9_25 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(jetbridge_testkit::Release::Oldest).await })+
        }
        mod nats_2_15_2 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(jetbridge_testkit::Release::Newest).await })+
        }
    };
}

mod bus;
mod connection;
mod contract;
mod kv_bucket;
mod kv_faults;
mod kv_watch;
mod object;
mod permissions;
mod store;

/// The whole contract over a row of the matrix.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            async fn open() -> jetbridge_testkit::Fixture {
                use jetbridge_testkit::Release;

                use super::contract::Row;
                Row::open($row).await
            }

            jetbridge_testkit::contract!(open);
        }
    };
}

row!(nats_2_9_25, Row::Single(Release::Oldest));
row!(nats_2_15_2, Row::Single(Release::Newest));
