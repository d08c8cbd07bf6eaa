//! One server of each release for a whole process.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::sync::Mutex;

use super::Release;

/// What the tests of a process share, by version. Nothing in here is ever dropped: the
/// supervisor ends what outlives the process.
pub(super) struct Shared<T: 'static>(Mutex<BTreeMap<&'static str, &'static T>>);

impl<T> Shared<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::const_new(BTreeMap::new()))
    }

    /// The one of `release`, started by whoever asks first.
    pub(super) async fn of<F>(&self, release: Release, start: impl FnOnce() -> F) -> &'static T
    where
        F: Future<Output = T>,
    {
        let mut started = self.0.lock().await;
        if let Some(found) = started.get(release.version()) {
            return found;
        }
        let fresh: &'static T = Box::leak(Box::new(start().await));
        started.insert(release.version(), fresh);
        fresh
    }
}
