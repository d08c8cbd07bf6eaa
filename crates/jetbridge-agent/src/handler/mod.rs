//! Handlers: messages to a command or a URL, with retries, order, dead letters and a drain.

mod attempt;
mod dead;
mod run;
mod spec;
mod task;
mod url;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge::worker::{Place, Worker};
use jetbridge_core::{
    Consume, Consumer, ErrorKind, Message, Received, Result, StreamName, StreamSpec, Subscribe,
    Subscription,
};
use tokio::time::Instant;

use crate::board::State;
use crate::supervise::{Context, Drained, Section};
pub(crate) use dead::subjects as dead_letter_subjects;
pub(crate) use spec::{
    ATTEMPTS_DEFAULT, CONCURRENCY_DEFAULT, CONCURRENCY_MAX, DEAD_LETTERS_DEFAULT, TIMEOUT_DEFAULT,
};
pub use spec::{HandlerSpec, Order, Source, Target};
use task::{PROGRESS_EVERY, Work};
pub(crate) use url::{HttpClient, connector, origin};

impl Section for HandlerSpec {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let reporter = context.reporter.clone();
            match handle(&self, context).await {
                Ok(drained) => drained,
                Err(error) => {
                    reporter.failed(&error);
                    Drained::default()
                }
            }
        })
    }
}

/// Handles messages until told to stop; an error is why the intake cannot go on.
async fn handle(spec: &HandlerSpec, context: Context) -> Result<Drained> {
    dead::ensure_stream(&*context.backend, &spec.dead_letters).await?;
    let worker = Worker::new(spec.name.clone(), spec.concurrency)?;
    let work =
        Arc::new(Work { spec: spec.clone(), context: context.clone(), client: client(spec)? });
    let taken = match &spec.source {
        Source::Subject { queue } => {
            let mut subscribe = Subscribe::to(spec.subject.clone());
            subscribe.group.clone_from(queue);
            let messages = context.backend.bus().subscribe(subscribe).await?;
            context.reporter.set(State::Running);
            take_messages(messages, &worker, &work).await
        }
        Source::Stream { stream, durable } => {
            ensure_stream(spec, stream, &context).await?;
            let consume = Consume::new(stream.clone(), durable.clone())
                .filter(spec.subject.clone())
                .ack_wait(PROGRESS_EVERY * 3);
            let deliveries = context.backend.bus().consume(consume).await?;
            context.reporter.set(State::Running);
            take_deliveries(deliveries, stream, &worker, &work).await
        }
    };
    // What is under way is finished also when the intake broke.
    let before = worker.counts();
    let after = match &taken {
        Ok(deadline) => worker.drain(*deadline).await,
        Err(broken) => {
            context.reporter.degraded(broken);
            let deadline = tokio::select! {
                () = worker.idle() => Instant::now(),
                deadline = context.stop.begins() => deadline,
            };
            worker.drain(deadline).await
        }
    };
    taken?;
    Ok(Drained {
        finished: after.handled.saturating_sub(before.handled),
        abandoned: after.abandoned,
    })
}

/// The client for a handler that posts; others need none, nor the certificates it reads.
fn client(spec: &HandlerSpec) -> Result<Option<HttpClient>> {
    match &spec.target {
        Target::Url(_) => HttpClient::new().map(Some),
        Target::Run { .. } => Ok(None),
    }
}

/// Makes the stream, keeping the handler's subject, if it is missing.
async fn ensure_stream(spec: &HandlerSpec, stream: &StreamName, context: &Context) -> Result<()> {
    let bus = context.backend.bus();
    match bus.stream(stream).await {
        Ok(_there) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let wanted = StreamSpec::new(stream.clone(), vec![spec.subject.clone()]);
            bus.create_stream(&wanted).await?;
            let note =
                format!("the stream {stream} was missing; it was made to keep {}", spec.subject);
            context.reporter.notes(vec![note]);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Starts a job for each message; returns the deadline of the drain that ended it.
async fn take_messages(
    mut messages: Subscription,
    worker: &Worker,
    work: &Arc<Work>,
) -> Result<Instant> {
    let intake = async {
        loop {
            let place = worker.place().await;
            match messages.next().await {
                Some(received) => start_message(received?, place, worker, work),
                None => return Ok(Instant::now()),
            }
        }
    };
    let deadline = tokio::select! {
        biased;
        deadline = work.context.stop.begins() => deadline,
        ended = intake => return ended,
    };
    // What has arrived has left the store: it is handled as far as there is time.
    messages.drain();
    let rest = async {
        while let Some(received) = messages.next().await {
            let place = worker.place().await;
            start_message(received?, place, worker, work);
        }
        Ok(deadline)
    };
    match tokio::time::timeout_at(deadline, rest).await {
        Ok(ended) => ended,
        Err(_elapsed) => Ok(deadline),
    }
}

fn start_message(received: Received, place: Place, worker: &Worker, work: &Arc<Work>) {
    match received {
        Received::Message(message) => {
            let (job, key) = (Arc::clone(work), work.spec.order.key(&message));
            start(worker, place, key, async move { job.message(message).await });
        }
        Received::Dropped(number) => {
            let handler = &work.spec.name;
            tracing::warn!(handler, number, "messages were dropped: the handler is behind");
            work.context.metrics.dropped(handler, number);
        }
    }
}

fn start<J>(worker: &Worker, place: Place, key: Option<String>, job: J)
where
    J: Future<Output = ()> + Send + 'static,
{
    // What becomes of a message is settled within its job.
    let job = async move {
        job.await;
        Ok(())
    };
    match key {
        Some(key) => worker.start_in_order(place, &key, job),
        None => worker.start(place, job),
    }
}

/// As [`take_messages`], for what a stream delivers. What was delivered and not begun comes again
/// elsewhere, or after a restart.
async fn take_deliveries(
    mut deliveries: Consumer,
    stream: &StreamName,
    worker: &Worker,
    work: &Arc<Work>,
) -> Result<Instant> {
    let intake = async {
        loop {
            let place = worker.place().await;
            let Some(delivery) = deliveries.next().await else { return Ok(Instant::now()) };
            let delivery = delivery?;
            let (job, key) = (Arc::clone(work), work.spec.order.key(&delivery.message));
            let stream = stream.to_string();
            start(worker, place, key, async move { job.delivery(&stream, delivery).await });
        }
    };
    tokio::select! {
        biased;
        deadline = work.context.stop.begins() => Ok(deadline),
        ended = intake => ended,
    }
}

impl Order {
    /// What a message shares with those that it must not overtake; `None` if it may overtake all.
    fn key(&self, message: &Message) -> Option<String> {
        match self {
            Self::Free => None,
            Self::Header(name) => Some(message.headers.get(name).unwrap_or_default().to_owned()),
            Self::Subject => Some(message.subject.to_string()),
            Self::Token(place) => {
                let token = message.subject.tokens().nth(place.saturating_sub(1));
                Some(token.unwrap_or_default().to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::{Headers, Subject};

    use super::*;

    #[test]
    fn a_key_is_what_the_order_names() {
        let headers = Headers::new().with("Customer", "7").unwrap();
        let message = Message::new(Subject::parse("orders.eu.new").unwrap(), "").headers(headers);
        let key = |order: Order| order.key(&message);
        assert_eq!(key(Order::Free), None);
        assert_eq!(key(Order::Header("Customer".to_owned())).as_deref(), Some("7"));
        assert_eq!(key(Order::Header("Absent".to_owned())).as_deref(), Some(""));
        assert_eq!(key(Order::Subject).as_deref(), Some("orders.eu.new"));
        assert_eq!(key(Order::Token(2)).as_deref(), Some("eu"));
        assert_eq!(key(Order::Token(9)).as_deref(), Some(""));
    }
}
