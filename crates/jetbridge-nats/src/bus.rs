//! Subjects and streams on NATS.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use jetbridge_core::{
    AppendOpts, Appended, Bus, Consume, Consumer, ConsumerName, Error, ErrorKind, Message, Pattern,
    ReadStream, Result, StreamInfo, StreamMessage, StreamName, StreamSpec, Subscribe, Subscription,
};

use crate::api::{Api, Purge, Stored};
use crate::error::{code, lost, not_sent};
use crate::intake::Intake;
use crate::link::Link;
use crate::reader::{self, Begin, Event, Follow, ReaderSpec};
use crate::request::{Call, Ended, Repeat, denied};
use crate::{append, consumer, headers, message, stream};

/// How long a flush listens for refusals. They stand before its own message in the connection, but
/// the client tells them by a task of its own, which may come to it a little later.
const REFUSALS_WITHIN: Duration = Duration::from_millis(3);
/// Streams behind buckets, which are no streams to the seam's users.
const BUCKET_PREFIXES: [&str; 2] = ["KV_", "OBJ_"];

/// The bus of one account.
#[derive(Clone, Debug)]
pub(crate) struct NatsBus {
    api: Api,
    /// Refusals that are not this handle's to tell (any more).
    told: Arc<AtomicU64>,
    /// Whether something was published since the last flush.
    published: Arc<AtomicBool>,
}

impl NatsBus {
    pub(crate) fn new(api: Api) -> Self {
        let told = Arc::new(AtomicU64::new(api.link().waiters().unheard().count));
        Self { api, told, published: Arc::default() }
    }

    fn link(&self) -> &Link {
        self.api.link()
    }

    /// What the server has refused since this was asked last.
    fn refusal(&self) -> Option<Error> {
        let unheard = self.link().waiters().unheard();
        let told = self.told.swap(unheard.count, Ordering::Relaxed);
        let messages = unheard.count.checked_sub(told).filter(|messages| *messages > 0)?;
        Some(denied("bus.publish", &unheard.last?).with("messages", messages))
    }

    async fn find_stream(
        &self,
        name: &StreamName,
        operation: &'static str,
    ) -> Result<crate::wire::StreamInfo> {
        let call = self.link().repeatable(operation);
        let found = self.api.stream(name.as_str(), &call).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, operation)
                .because("the stream is not there")
                .with("stream", name)
                .hint(format!("make it with `jetbridge stream add {name}`"))
        })
    }
}

impl Display for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bus of {}", self.link().location())
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, message: Message) -> Result<()> {
        const OPERATION: &str = "bus.publish";
        let (out, reply) = message::into_wire(message, OPERATION)?;
        if !self.published.load(Ordering::Relaxed) {
            self.published.store(true, Ordering::Relaxed);
        }
        self.link().tell(out, reply, OPERATION).await
    }

    async fn flush(&self) -> Result<()> {
        self.link().barrier(&self.link().repeatable("bus.flush")).await?;
        if self.published.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(REFUSALS_WITHIN).await;
        }
        self.refusal().map_or(Ok(()), Err)
    }

    async fn append(&self, message: Message, opts: AppendOpts) -> Result<Appended> {
        append::append(&self.api, &message, &opts).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message> {
        let out = message::to_wire(&message, None, "bus.request")?;
        let call = Call::new("bus.request", Repeat::Never, timeout).patient();
        let ended = match self.link().begin(&out, &call, None).await {
            Ok(pending) => match pending.await {
                Ok(answer) => return message::from_wire(answer),
                Err(ended) => ended,
            },
            Err(ended) => ended,
        };
        Err(match ended {
            Ended::Final(error) => error,
            Ended::NoResponders => not_sent("bus.request", "nobody listens on this subject")
                .with("subject", &message.subject),
            Ended::NotSent => not_sent("bus.request", "the connection was lost"),
            Ended::Unclear(why) => lost("bus.request", why).with("subject", &message.subject),
        })
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let call = self.link().repeatable("bus.subscribe");
        let group = subscribe.group.as_ref().map(AsRef::as_ref);
        let feed = self.link().subscribe(subscribe.pattern.as_str(), group, &call).await?;
        let intake = Intake::new(feed, subscribe.capacity);
        let (stop, stopping) = watch::channel(false);
        self.link().tasks().spawn_until_stop(Arc::clone(&intake).guard(stopping));
        Ok(Subscription::new(intake.read(), move || {
            stop.send_replace(true);
        }))
    }

    async fn consume(&self, consume: Consume) -> Result<Consumer> {
        consumer::open(&self.api, consume).await
    }

    async fn delete_consumer(&self, stream: &StreamName, durable: &ConsumerName) -> Result<bool> {
        let call = self.link().repeatable("bus.delete_consumer");
        self.api.delete_consumer(stream.as_str(), durable.as_str(), &call).await
    }

    async fn create_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        const OPERATION: &str = "stream.create";
        let call = self.link().repeatable(OPERATION);
        match self.api.create_stream(&stream::config(spec), &call).await? {
            Ok(made) => stream::info(&made, OPERATION),
            Err(refused) if refused.err_code == code::STREAM_NAME_IN_USE => {
                let present =
                    stream::info(&self.find_stream(&spec.name, OPERATION).await?, OPERATION)?;
                if stream::differences(spec, &present.spec).is_empty() {
                    return Ok(present);
                }
                Err(stream::exists(spec, &present.spec))
            }
            Err(refused) => Err(refused.into_error(OPERATION).with("stream", &spec.name)),
        }
    }

    async fn update_stream(&self, spec: &StreamSpec) -> Result<StreamInfo> {
        const OPERATION: &str = "stream.update";
        let mut config = self.find_stream(&spec.name, OPERATION).await?.config;
        stream::apply(spec, &mut config);
        let call = self.link().repeatable(OPERATION);
        let updated = self.api.update_stream(&config, &call).await;
        stream::info(&updated.map_err(|error| error.with("stream", &spec.name))?, OPERATION)
    }

    async fn streams(&self) -> Result<Vec<StreamInfo>> {
        let call = self.link().repeatable("stream.list");
        let all = self.api.streams(None, &call).await?;
        let is_bucket = |name: &str| BUCKET_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let mut found = all
            .iter()
            .filter(|info| !is_bucket(&info.config.name))
            .map(|info| stream::info(info, "stream.list"))
            .collect::<Result<Vec<_>>>()?;
        found.sort_unstable_by(|a, b| a.spec.name.cmp(&b.spec.name));
        Ok(found)
    }

    async fn stream(&self, name: &StreamName) -> Result<StreamInfo> {
        stream::info(&self.find_stream(name, "stream.info").await?, "stream.info")
    }

    async fn delete_stream(&self, name: &StreamName) -> Result<bool> {
        self.api.delete_stream(name.as_str(), &self.link().repeatable("stream.delete")).await
    }

    async fn purge_stream(&self, name: &StreamName, filter: Option<&Pattern>) -> Result<u64> {
        let purge = Purge { filter: filter.map(Pattern::as_str), ..Purge::default() };
        let call = self.link().repeatable("stream.purge");
        let purged = self.api.purge(name.as_str(), &purge, &call).await;
        purged.map_err(|error| error.with("stream", name))
    }

    fn read_stream(
        &self,
        name: &StreamName,
        read: ReadStream,
    ) -> BoxStream<'static, Result<StreamMessage>> {
        let filter = read.filter.as_ref().map_or(">", Pattern::as_str);
        let begin = Begin::After(read.after);
        let mut spec = ReaderSpec::new("stream.read", name.as_str(), filter, begin);
        spec.shared = Some(">".to_owned());
        let follow = if read.follow { Follow::Yes } else { Follow::No };
        let events = reader::events(self.api.clone(), spec, follow);
        Box::pin(events.filter_map(|event| async {
            match event {
                Ok(Event::Message(read)) => Some(stream_message(read)),
                Ok(Event::CaughtUp) => None,
                Err(error) => Some(Err(error)),
            }
        }))
    }
}

fn stream_message(read: Stored) -> Result<StreamMessage> {
    let subject = message::subject_from_wire(read.subject)?;
    let headers = headers::from_wire(Some(&read.headers));
    let message = Message::new(subject, read.payload).headers(headers);
    Ok(StreamMessage::new(message, read.sequence, read.time))
}
