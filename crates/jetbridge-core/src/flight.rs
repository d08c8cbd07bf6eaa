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
        let guard = Arc::clone(&lock).lock_owned().await;
        Flight { flights: self, key: key.clone(), guard: Some(guard), lock }
    }
}

/// The right to make one key; dropping it passes it on.
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
