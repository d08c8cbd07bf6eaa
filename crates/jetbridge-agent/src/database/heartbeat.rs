//! Heartbeats: a URL that is asked for as long as every database is shipped.

use std::time::Duration;

use jetbridge::settings::Heartbeat;
use jetbridge::{DatabaseState, DatabaseStatus};
use jetbridge_core::Result;

use super::desk::DatabaseDesk;
use crate::handler::HttpClient;

/// How long the other side may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for the URL each interval in which all databases were seen to be well; never ends.
pub(super) async fn beat(heartbeat: &Heartbeat, desk: &DatabaseDesk) -> Result<()> {
    let client = HttpClient::new()?;
    loop {
        if is_well(&desk.databases()) {
            match client.get(heartbeat.url.expose(), TIMEOUT).await {
                Ok(()) => tracing::debug!("heartbeat"),
                Err(reason) => tracing::warn!(reason, "the heartbeat was not taken"),
            }
        } else {
            tracing::debug!("no heartbeat: a database is not shipped");
        }
        tokio::time::sleep(heartbeat.interval).await;
    }
}

/// True if there are databases and everything of all of them is shipped.
fn is_well(databases: &[DatabaseStatus]) -> bool {
    let well = |it: &DatabaseStatus| {
        it.state == DatabaseState::Running && it.error().is_none() && it.capture.txid.0 > 0
    };
    !databases.is_empty() && databases.iter().all(well)
}
