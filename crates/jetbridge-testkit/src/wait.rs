//! Waiting for what must come true, without fixed sleeps.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks: short against every deadline, long against the work of one look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` finds something and returns it; panics with `what` after `within`.
///
/// ```
/// use std::time::Duration;
/// use jetbridge_testkit::eventually;
///
/// # async fn example() {
/// let answer = eventually("the answer", Duration::from_secs(1), async || Some(42)).await;
/// assert_eq!(answer, 42);
/// # }
/// ```
#[track_caller]
pub fn eventually<T, L>(what: &str, within: Duration, look: L) -> impl Future<Output = T>
where
    L: AsyncFnMut() -> Option<T>,
{
    let caller = std::panic::Location::caller();
    wait(what, within, look, caller)
}

async fn wait<T, L>(
    what: &str,
    within: Duration,
    mut look: L,
    caller: &'static std::panic::Location<'static>,
) -> T
where
    L: AsyncFnMut() -> Option<T>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{caller}: not within {within:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
