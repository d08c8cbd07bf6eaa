//! Cases on several servers, each a test of its own under the name of its row.

/// Makes each case, an asynchronous function of a [`Release`](crate::Release), a test on the oldest
/// server and one on the newest.
#[macro_export]
macro_rules! on_every_server {
    ($($case:ident),+ $(,)?) => {
        mod nats_2_9_25 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case($crate::Release::Oldest).await })+
        }
        mod nats_2_15_2 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case($crate::Release::Newest).await })+
        }
    };
}
