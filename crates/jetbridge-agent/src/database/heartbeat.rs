//! Heartbeats: a URL that is asked for as long as every database is shipped.

use std::time::{Duration, SystemTime};

use jetbridge::settings::Heartbeat;
use jetbridge::{DatabaseState, DatabaseStatus};
use jetbridge_core::{Clock, Result};

use super::desk::{DatabaseDesk, lag};
use crate::handler::HttpClient;

/// How long the other side may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks for the URL each interval in which all databases were seen to be well; never ends.
pub(super) async fn beat(
    heartbeat: &Heartbeat,
    desk: &DatabaseDesk,
    clock: &dyn Clock,
) -> Result<()> {
    let client = HttpClient::new()?;
    loop {
        let now = clock.now();
        if is_well(&desk.databases(), heartbeat.interval, now) {
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

/// True if there are databases, and all of them were shipped within the interval.
fn is_well(databases: &[DatabaseStatus], interval: Duration, now: SystemTime) -> bool {
    let well = |it: &DatabaseStatus| {
        let runs = it.state == DatabaseState::Running && it.error().is_none();
        let shipped = lag(it, now).is_some_and(|lag| lag < interval.as_secs_f64());
        runs && shipped && it.capture.txid.0 > 0
    };
    !databases.is_empty() && databases.iter().all(well)
}
