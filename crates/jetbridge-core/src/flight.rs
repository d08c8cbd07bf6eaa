//! Single flight: callers that want the same absent key wait for one of them to make it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::name::Key;

/// Keys being made, and who waits. Bounded by the callers at work: a key leaves with its last one.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

impl Flights {
    /// The right to make `key`; waits for whoever has it.
    pub(crate) async fn enter(&self, key: &Key) -> Flight<'_> {
        let lock = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(key.clone()).or_default())
        };
        // Made before the wait, so that one who gives up waiting leaves like everybody else.
        let mut flight = Flight { flights: self, key: key.clone(), guard: None, lock };
        flight.guard = Some(Arc::clone(&flight.lock).lock_owned().await);
        flight
    }
}

/// The right to make one key, or the wait for it; dropping it passes it on.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    key: Key,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and ours are the only ones: nobody waits.
        if Arc::strong_count(&self.lock) == 2 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_passes_on_and_nothing_is_left_behind() {
        let flights = Flights::default();
        let (a, b) = (Key::parse("a").unwrap(), Key::parse("b").unwrap());
        let first = flights.enter(&a).await;
        let mut second = Box::pin(flights.enter(&a));
        let mut third = Box::pin(flights.enter(&a));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(flights.enter(&b).await);
        drop(first);
        drop(second);
        drop(third.await);
        assert!(flights.0.lock().unwrap().is_empty());
    }
}
