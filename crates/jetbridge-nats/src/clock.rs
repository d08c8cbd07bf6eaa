//! The store's time, asked for when nothing has told it lately.
//!
//! Servers since 2.10 stamp their answers about streams. Older ones stamp only what they make, so
//! a consumer is made that nobody reads, and deleted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use jetbridge_core::{Clock as _, Error, ErrorKind, Result, StoreTime, SystemClock, random};

use crate::api::Api;
use crate::request::Call;
use crate::time;
use crate::wire::{AckPolicy, ConsumerConfig, DeliverPolicy, Storage, StreamConfig};

/// The consumer or stream that was made for its time stamp goes after this even if its deletion
/// fails.
const PROBE_LIFE: Duration = Duration::from_secs(5);
/// How far two machines' clocks may be apart when the store has not told its time. Only then.
const UNTOLD_ERROR: Duration = Duration::from_secs(1);

/// A stream that is known to be there, to ask for the time.
#[derive(Debug, Default)]
pub(crate) struct Witness(Mutex<Option<StreamConfig>>);

impl Witness {
    /// Takes note of a stream.
    pub(crate) fn note(&self, stream: &StreamConfig) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.name != stream.name) {
            *known = Some(stream.clone());
        }
    }

    fn stream(&self) -> Option<StreamConfig> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store's time, asked for anew if the last sample is old.
    pub(crate) async fn now(&self, api: &Api, call: &Call) -> Result<StoreTime> {
        let clock = api.link().clock();
        if clock.is_stale() {
            self.ask(api, call).await?;
        }
        clock.now().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, call.operation).because("the server tells no time")
        })
    }

    async fn ask(&self, api: &Api, call: &Call) -> Result<()> {
        if let Some(stream) = self.stream() {
            // The answer feeds the clock where it carries a stamp.
            let info = api.stream(&stream.name, call).await;
            let told =
                info.as_ref().is_ok_and(|info| info.as_ref().is_some_and(|it| it.ts.is_some()));
            if told {
                return Ok(());
            }
            let gone = info.is_ok_and(|info| info.is_none());
            if !gone && ask_consumer(api, &stream, call).await.is_ok() {
                return Ok(());
            }
        }
        ask_stream(api, call).await
    }
}

/// The estimate if there is one, else this machine's clock with a generous error: good enough to
/// tell what expired long ago, which is all it is used for.
pub(crate) fn estimate(api: &Api) -> StoreTime {
    api.link()
        .clock()
        .now()
        .unwrap_or_else(|| StoreTime { now: SystemClock.now(), error: UNTOLD_ERROR })
}

async fn ask_consumer(api: &Api, stream: &StreamConfig, call: &Call) -> Result<()> {
    let name = random::name();
    let config = ConsumerConfig {
        name: Some(name.clone()),
        deliver_policy: DeliverPolicy::New,
        ack_policy: AckPolicy::Explicit,
        // Permissions are given for filters, where they are given sparingly.
        filter_subject: stream.subjects.last().cloned(),
        mem_storage: true,
        num_replicas: 1,
        inactive_threshold: time::to_nanos(PROBE_LIFE),
        ..ConsumerConfig::default()
    };
    let sent = Instant::now();
    let made = api.create_consumer(&stream.name, &config, call).await?;
    let received = Instant::now();
    let info = made.map_err(|refused| refused.into_error(call.operation))?;
    observe(api, sent, received, &info.created);
    // It goes by itself if this fails.
    drop(api.delete_consumer(&stream.name, &name, call).await);
    Ok(())
}

async fn ask_stream(api: &Api, call: &Call) -> Result<()> {
    let name = format!("JETBRIDGE_CLOCK_{}", random::name());
    let mut config = StreamConfig::new(&name, vec![name.clone()]);
    config.storage = Storage::Memory;
    config.max_age = time::to_nanos(PROBE_LIFE);
    config.duplicate_window = config.max_age;
    config.max_bytes = 1024;
    let sent = Instant::now();
    let made = api.create_stream(&config, call).await?;
    let received = Instant::now();
    let info = made.map_err(|refused| refused.into_error(call.operation))?;
    observe(api, sent, received, &info.created);
    api.delete_stream(&name, call).await?;
    Ok(())
}

fn observe(api: &Api, sent: Instant, received: Instant, stamp: &str) {
    if let Some(now) = time::parse(stamp) {
        api.link().clock().observe(sent, received, now);
    }
}

/// This machine's time for want of a better one, as a plain time stamp.
pub(crate) fn now(api: &Api) -> SystemTime {
    estimate(api).now
}
