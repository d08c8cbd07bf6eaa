//! The consumers this process has made and not deleted yet, so that none is left behind: each is
//! deleted when its reader goes, and those whose readers are still held when the connection is
//! closed are deleted then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::api::Api;
use crate::request::{Call, Repeat};

/// How long a deletion may take; the consumer goes by itself soon after its client.
const DELETE_WITHIN: Duration = Duration::from_secs(2);

/// Consumers that are to be deleted, by their names, which are random.
#[derive(Debug, Default)]
pub(crate) struct Consumers(Mutex<HashMap<String, Arc<Made>>>);

/// A consumer on the server.
#[derive(Debug)]
struct Made {
    api: Api,
    stream: String,
    name: String,
}

impl Made {
    async fn delete(&self) {
        let call = Call::new("consumer.delete", Repeat::Safe, DELETE_WITHIN);
        if let Err(error) = self.api.delete_consumer(&self.stream, &self.name, &call).await {
            tracing::debug!(stream = %self.stream, consumer = %self.name, %error,
                "a consumer is left to go by itself");
        }
    }
}

impl Consumers {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Made>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Deletes all that are left.
    pub(crate) async fn delete_all(&self) {
        let left = self.with(std::mem::take);
        join_all(left.values().map(|made| made.delete())).await;
    }
}

/// A consumer that is deleted when this is dropped. Made before the consumer is, so that a
/// cancelled request leaves nothing behind either.
#[derive(Debug)]
pub(crate) struct Registered {
    made: Arc<Made>,
    turn: Option<Turn>,
}

/// The right to have a consumer where there are many; the next one's when this is dropped, if not
/// before.
pub(crate) type Turn = oneshot::Sender<()>;

impl Registered {
    pub(crate) fn new(api: &Api, stream: &str, name: &str) -> Self {
        let made =
            Arc::new(Made { api: api.clone(), stream: stream.to_owned(), name: name.to_owned() });
        api.link().consumers().with(|all| all.insert(name.to_owned(), Arc::clone(&made)));
        Self { made, turn: None }
    }

    /// Keeps `turn` until the consumer is deleted.
    pub(crate) fn in_turn(mut self, turn: Option<Turn>) -> Self {
        self.turn = turn;
        self
    }

    /// Lets the next one have a consumer though this one stays.
    pub(crate) fn gives_up_its_turn(&mut self) {
        self.turn = None;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let (made, turn) = (Arc::clone(&self.made), self.turn.take());
        let link = made.api.link().clone();
        // Once closing has begun, whoever closes deletes what is left.
        if tokio::runtime::Handle::try_current().is_err() || link.cleanups().is_stopping() {
            return;
        }
        link.cleanups().spawn(async move {
            made.delete().await;
            made.api.link().consumers().with(|all| all.remove(&made.name));
            drop(turn);
        });
    }
}
