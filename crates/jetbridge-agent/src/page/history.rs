//! The last minutes of what has no history of its own: how far each replica was behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jetbridge_core::{Clock, Tasks};

use crate::database::{DatabaseDesk, lag};

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// How many are kept: ten minutes.
pub(super) const KEPT: usize = 120;

/// The lag of each database by its path, oldest first. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<BTreeMap<String, VecDeque<Option<f64>>>>>);

impl History {
    /// Notes how all databases do; those that are gone are forgotten.
    fn note(&self, now: impl IntoIterator<Item = (String, Option<f64>)>) {
        let mut known = self.lock();
        let mut next = BTreeMap::new();
        for (path, seconds) in now {
            let mut lags = known.remove(&path).unwrap_or_default();
            if lags.len() == KEPT {
                lags.pop_front();
            }
            lags.push_back(seconds);
            next.insert(path, lags);
        }
        *known = next;
    }

    /// What is known of one.
    pub(super) fn of(&self, path: &str) -> Vec<Option<f64>> {
        self.lock().get(path).map(|lags| lags.iter().copied().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Option<f64>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the databases until `tasks` stop.
pub(crate) fn sample(desk: DatabaseDesk, clock: Arc<dyn Clock>, tasks: &Tasks) -> History {
    let history = History::default();
    let noted = history.clone();
    tasks.spawn_until_stop(async move {
        loop {
            let now = clock.now();
            let databases = desk.databases();
            let lags = databases.iter().map(|it| (it.path.display().to_string(), lag(it, now)));
            noted.note(lags);
            tokio::time::sleep(EVERY).await;
        }
    });
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_so_do_databases_that_are_gone() {
        let history = History::default();
        for number in 0..=KEPT {
            let seconds = u32::try_from(number).unwrap().into();
            history.note([("a".to_owned(), Some(seconds)), ("b".to_owned(), None)]);
        }
        let lags = history.of("a");
        assert_eq!((lags.len(), lags[0]), (KEPT, Some(1.0)));
        history.note([("b".to_owned(), Some(1.0))]);
        assert!(history.of("a").is_empty());
    }
}
