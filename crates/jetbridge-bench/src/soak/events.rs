//! Follows the messages of the stream as server-sent events, and comes back where it was cut off.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use jetbridge_core::Tasks;
use serde_json::Value;
use tokio::time::sleep;

use super::client::Client;

/// How long to wait before coming back.
const BACK_AFTER: Duration = Duration::from_millis(200);
const PATH: &str = "/v1/subscribe/orders.%3E?stream=ORDERS&after=0";

/// What was heard. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// The messages.
    names: BTreeSet<String>,
    /// The id of the last event.
    last: Option<String>,
    /// How often the events ended.
    ends: u64,
}

impl Events {
    /// Follows until `tasks` stop.
    pub(super) fn follow(client: Client, tasks: &Tasks) -> Self {
        let this = Self::default();
        let events = this.clone();
        tasks.spawn_until_stop(async move {
            loop {
                events.listen(&client).await;
                sleep(BACK_AFTER).await;
            }
        });
        this
    }

    /// Hears until the events end, whyever.
    async fn listen(&self, client: &Client) {
        let last = self.heard(|heard| heard.last.clone());
        let Some(mut body) = client.events(PATH, last.as_deref()).await else { return };
        let mut text = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                self.take(&String::from_utf8_lossy(&event));
            }
        }
        self.heard(|heard| heard.ends += 1);
    }

    fn take(&self, event: &str) {
        let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
        let payload = data.as_ref().and_then(|data| data["payload"].as_str());
        self.heard(|heard| {
            heard.names.extend(payload.map(|name| name.trim().to_owned()));
            if let Some(id) = field("id: ") {
                heard.last = Some(id.to_owned());
            }
        });
    }

    /// Those of `names` that were not heard.
    pub(super) fn missing(&self, names: &BTreeSet<String>) -> Vec<String> {
        self.heard(|heard| names.difference(&heard.names).cloned().collect())
    }

    /// How often the events ended.
    pub(super) fn ends(&self) -> u64 {
        self.heard(|heard| heard.ends)
    }

    fn heard<T>(&self, work: impl FnOnce(&mut Heard) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
