//! Slots that were given over HTTP. Whoever has one may be gone, so each ends with its lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge::limit::Permit;
use jetbridge_core::{Result, Tasks, random};

/// The slots, by what their holders call them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permits {
    given: Arc<Mutex<HashMap<String, Given>>>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Given {
    /// What was asked for.
    id: String,
    permit: Permit,
}

impl Permits {
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Keeps a slot of `id` until it is released, at most for `lease`; its name.
    pub(crate) fn give(&self, id: &str, permit: Permit, lease: Duration) -> String {
        let name = random::name();
        let given = Given { id: id.to_owned(), permit };
        self.lock().insert(name.clone(), given);
        let (permits, ends) = (self.clone(), name.clone());
        self.tasks.spawn_until_stop(async move {
            tokio::time::sleep(lease).await;
            drop(permits.lock().remove(&ends));
        });
        name
    }

    /// Gives a slot back; false if it is not held, or not of `id`.
    pub(crate) async fn release(&self, id: &str, name: &str) -> Result<bool> {
        let given = {
            let mut all = self.lock();
            if all.get(name).is_none_or(|given| given.id != id) {
                return Ok(false);
            }
            all.remove(name)
        };
        let Some(given) = given else { return Ok(false) };
        if !given.permit.is_held() {
            return Ok(false);
        }
        given.permit.release().await.map(|()| true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
