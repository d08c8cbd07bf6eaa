//! What `jetbridge-nats` promises, on real servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bus;
mod connection;
mod contract;
mod counters;
mod counting;
mod crowd;
mod defects;
mod interop;
mod kv_bucket;
mod kv_bursts;
mod kv_faults;
mod kv_watch;
mod object;
mod object_faults;
mod permissions;
mod replicated;
mod store;

/// The whole contract over a row of the matrix.
macro_rules! row {
    ($name:ident, $row:expr) => {
        mod $name {
            use super::contract::Row;

            async fn open() -> jetbridge_testkit::Fixture {
                $row.open().await
            }

            async fn open_bus() -> jetbridge_testkit::Fixture {
                $row.open_bus().await
            }

            jetbridge_testkit::backend_contract!(open);
            jetbridge_testkit::bus_contract!(open_bus);
            jetbridge_testkit::kv_contract!(open);
            jetbridge_testkit::model_contract!(open);
            jetbridge_testkit::object_contract!(open);
        }
    };
}

row!(nats_2_9_25, Row::Single(jetbridge_testkit::Release::Oldest));
row!(nats_2_15_2, Row::Single(jetbridge_testkit::Release::Newest));
/// A cluster of three answers in the time the cases allow only where it has the machine for itself.
mod slow {
    use super::contract;

    row!(nats_r3, Row::Cluster);
}
