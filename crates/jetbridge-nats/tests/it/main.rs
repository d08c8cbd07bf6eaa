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
mod object;
mod store;
