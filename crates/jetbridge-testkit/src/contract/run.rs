//! One case: open, run, close cleanly, all before a deadline.

use std::future::Future;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::Fixture;

/// A case of the contract.
pub type Case = for<'a> fn(&'a Fixture) -> LocalBoxFuture<'a, ()>;

/// A case that takes longer hangs. The longest waits for a server to notice a deleted bucket,
/// and a loaded machine makes it slower by an order of magnitude.
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// How long an answer or a delivery may take. Only failures wait this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

tokio::task_local! {
    static PATIENCE: Duration;
}

/// Runs `case` on what `open` opens, on a runtime of its own with two workers, as most
/// applications have more than one.
///
/// # Panics
/// If the case fails or hangs, or the backend does not close cleanly.
pub fn run(open: impl Future<Output = Fixture>, case: Case) {
    run_within(ANSWER_WITHIN, open, case);
}

/// As [`run`], with another patience for each single answer.
///
/// # Panics
/// As [`run`].
pub fn run_within(answer: Duration, open: impl Future<Output = Fixture>, case: Case) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let whole = Box::pin(async {
            let fixture = open.await;
            case(&fixture).await;
            fixture.close().await;
        });
        let ended = tokio::time::timeout(CASE_WITHIN, PATIENCE.scope(answer, whole)).await;
        assert!(ended.is_ok(), "the case hangs: not done within {CASE_WITHIN:?}");
    });
}

/// How long an answer may take in this case.
pub(crate) fn patience() -> Duration {
    PATIENCE.try_with(|patience| *patience).unwrap_or(ANSWER_WITHIN)
}
