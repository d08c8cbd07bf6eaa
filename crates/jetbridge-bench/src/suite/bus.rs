//! Plain messages from one connection to another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats_peer::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::task::JoinSet;

use jetbridge_core::{Backend as _, Bus, Message, Pattern, Received, Subject, Subscribe};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use super::{VALUE_BYTES, connect, rate, value};
use crate::Outcome;
use crate::args::Args;
use crate::measure::{ASYNC_NATS, Contender, OURS, rounds};
use crate::report::{Report, Row, Target};

/// Messages of one run.
const MESSAGES: usize = 500_000;
/// Messages a subscriber may be behind: all of them, so that nobody drops any.
const CAPACITY: usize = 1 << 20;
/// How long the next message may take before it is lost.
const NEXT_WITHIN: Duration = Duration::from_secs(5);

const SUBJECT: &str = "bench.messages";

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let (sender, receiver) = (connect(&server.url()).await?, connect(&server.url()).await?);
        let ours = (sender.bus(), receiver.bus());
        let options = ConnectOptions::new().subscription_capacity(CAPACITY);
        let peer =
            (async_nats_peer::connect(server.url()).await?, options.connect(server.url()).await?);
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(run_ours(&ours.0, &ours.1))),
            Contender::new(ASYNC_NATS, |_| Box::pin(run_peer(&peer.0, &peer.1))),
        ];
        let name = format!("publish → subscribe, {VALUE_BYTES} B");
        let series = rounds(args.rounds, contenders).await?;
        let row = Row::new(&name, "/s", release.version(), series);
        report.add(row.target(Target::Times(ASYNC_NATS, 0.95)));
    }
    Ok(())
}

async fn run_ours(sender: &Arc<dyn Bus>, receiver: &Arc<dyn Bus>) -> Outcome<f64> {
    let subscribe = Subscribe::to(Pattern::parse(SUBJECT)?).capacity(CAPACITY);
    let messages = receiver.subscribe(subscribe).await?;
    let arrived = messages.map(|received| match received {
        Ok(Received::Message(_)) => Ok(()),
        Ok(Received::Dropped(count)) => Err(format!("{count} messages dropped").into()),
        Err(error) => Err(error.into()),
    });
    let mut counting = JoinSet::new();
    counting.spawn(count(arrived));
    let subject = Subject::parse(SUBJECT)?;
    let payload = value();
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        sender.publish(Message::new(subject.clone(), payload.clone())).await?;
    }
    sender.flush().await?;
    counting.join_next().await.ok_or("nobody counts")???;
    Ok(rate(MESSAGES, begin))
}

async fn run_peer(sender: &Client, receiver: &Client) -> Outcome<f64> {
    let messages = receiver.subscribe(SUBJECT).await?;
    // An answer on the same connection: the server knows of the interest.
    receiver.request("$JS.API.INFO", Bytes::new()).await?;
    let mut counting = JoinSet::new();
    counting.spawn(count(messages.map(|_message| Ok(()))));
    let payload = value();
    let begin = Instant::now();
    for _ in 0..MESSAGES {
        sender.publish(SUBJECT, payload.clone()).await?;
    }
    sender.flush().await?;
    counting.join_next().await.ok_or("nobody counts")???;
    Ok(rate(MESSAGES, begin))
}

/// Waits for every message of a run.
async fn count(mut arrived: impl Stream<Item = Outcome> + Unpin) -> Outcome {
    for number in 0..MESSAGES {
        match tokio::time::timeout(NEXT_WITHIN, arrived.next()).await {
            Ok(Some(outcome)) => outcome?,
            Ok(None) => return Err("the subscription ended".into()),
            Err(_elapsed) => return Err(format!("{} messages lost", MESSAGES - number).into()),
        }
    }
    Ok(())
}
