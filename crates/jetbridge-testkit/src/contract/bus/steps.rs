//! The steps that cases about messages are written in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{
    AppendOpts, Appended, Bus, Consume, Consumer, ConsumerName, Delivery, Message, Pattern,
    ReadStream, Received, StreamMessage, StreamName, StreamSpec, Subject, Subscribe, Subscription,
};

use crate::Fixture;
use crate::contract::steps::{all, bytes, within};

/// A corner of the subject space that nobody else uses, with both connections to it.
pub(crate) struct Corner {
    pub(crate) ours: Arc<dyn Bus>,
    pub(crate) theirs: Arc<dyn Bus>,
    root: String,
    replicas: u8,
}

impl Corner {
    pub(crate) fn new(f: &Fixture) -> Self {
        let root = format!("t.{}", jetbridge_core::random::name());
        Self { ours: f.backend.bus(), theirs: f.peer.bus(), root, replicas: f.replicas }
    }

    pub(crate) fn subject(&self, tail: &str) -> Subject {
        Subject::parse(format!("{}.{tail}", self.root)).unwrap()
    }

    pub(crate) fn pattern(&self, tail: &str) -> Pattern {
        Pattern::parse(format!("{}.{tail}", self.root)).unwrap()
    }

    pub(crate) fn message(&self, tail: &str, text: &str) -> Message {
        Message::new(self.subject(tail), bytes(text))
    }

    /// The settings of a stream that keeps everything in this corner.
    pub(crate) fn spec(&self) -> StreamSpec {
        let name = StreamName::parse(self.root.replace('.', "-")).unwrap();
        let mut spec = StreamSpec::new(name, vec![self.pattern(">")]);
        spec.replicas = self.replicas;
        spec
    }

    /// A stream that keeps everything in this corner.
    pub(crate) async fn stream(&self) -> StreamName {
        self.ours.create_stream(&self.spec()).await.unwrap().spec.name
    }

    /// As [`Corner::stream`], with other settings.
    pub(crate) async fn stream_with(&self, change: impl FnOnce(&mut StreamSpec)) -> StreamName {
        let mut spec = self.spec();
        change(&mut spec);
        self.ours.create_stream(&spec).await.unwrap().spec.name
    }

    pub(crate) async fn append(&self, tail: &str, text: &str) -> Appended {
        self.ours.append(self.message(tail, text), AppendOpts::new()).await.unwrap()
    }

    /// Appends `count` messages `0`, `1`, … on `tail`.
    pub(crate) async fn append_many(&self, tail: &str, count: usize) {
        for at in 0..count {
            self.append(tail, &at.to_string()).await;
        }
    }

    /// A subscription of this connection, whose interest the store knows.
    pub(crate) async fn listen(&self, tail: &str) -> Subscription {
        self.ours.subscribe(Subscribe::to(self.pattern(tail))).await.unwrap()
    }

    /// What a stream holds.
    pub(crate) async fn stored(&self, stream: &StreamName) -> Vec<StreamMessage> {
        all(self.theirs.read_stream(stream, ReadStream::all())).await
    }

    /// What a stream holds, as text.
    pub(crate) async fn texts(&self, stream: &StreamName) -> Vec<String> {
        self.stored(stream).await.iter().map(|stored| text(&stored.message)).collect()
    }
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// The next message of a subscription that drops none.
#[track_caller]
pub(crate) fn hear(subscription: &mut Subscription) -> impl Future<Output = Message> {
    let next = within("a message", subscription.next());
    async {
        match next.await.expect("the subscription goes on").unwrap() {
            Received::Message(message) => message,
            Received::Dropped(count) => panic!("{count} messages were dropped"),
        }
    }
}

/// The next delivery of a consumer.
#[track_caller]
pub(crate) fn deliver(consumer: &mut Consumer) -> impl Future<Output = Delivery> {
    let next = within("a delivery", consumer.next());
    async { next.await.expect("the consumer goes on").unwrap() }
}

/// Acknowledges the next `count` deliveries and tells their texts.
pub(crate) async fn acknowledge(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let delivery = deliver(consumer).await;
        texts.push(text(&delivery.message));
        delivery.ack().await.unwrap();
    }
    texts
}

pub(crate) fn durable(name: &str) -> ConsumerName {
    ConsumerName::parse(name).unwrap()
}

/// A consumer `d` of `stream`, whose deliveries come again within a test's patience.
pub(crate) fn consume(stream: &StreamName) -> Consume {
    Consume::new(stream.clone(), durable("d")).ack_wait(Duration::from_secs(10))
}
