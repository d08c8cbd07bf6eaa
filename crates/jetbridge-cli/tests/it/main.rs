//! The whole process: the built binary, its exit codes, what it says on stdout and on stderr.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod binary;

/// Each case on the embedded store, and on the oldest and the newest server.
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(crate::binary::Store::local()).await })+
        }
        mod nats_2_9_25 {
            use jetbridge_testkit::Release;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::binary::Store::nats(Release::Oldest).await).await
            })+
        }
        mod nats_2_15_2 {
            use jetbridge_testkit::Release;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::binary::Store::nats(Release::Newest).await).await
            })+
        }
    };
}

mod bus;
mod copy;
mod errors;
mod guide;
mod help;
mod json;
mod kv;
mod limit;
mod limit_faults;
mod limit_page;
mod limit_slow;
mod object;
mod options;
mod page;
mod render;
mod sqlite;
mod template;
mod tour;
mod traces;
mod up;
mod up_large;
mod wasi;
