//! Keys on servers: pipelined puts and gets, and many keys at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_nats_peer::jetstream;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use jetbridge_core::{Backend as _, Key, Kv, PutOpts, Read};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use super::{KEYS, VALUE_BYTES, bucket, connect, ensure, keys, rate, value};
use crate::Outcome;
use crate::args::Args;
use crate::go::GoPeer;
use crate::measure::{ASYNC_NATS, Contender, NATS_GO, OURS, rounds};
use crate::report::{Report, Row, Target};

/// Operations of one run: half a second to a second of work.
const OPERATIONS: usize = 60_000;
/// Operations under way at once.
const IN_FLIGHT: usize = 1024;
/// Acknowledgements waited for at once: the default of nats.go.
const WINDOW: usize = 4000;
/// Keys of one `get_many`, and how often it is asked for in one run.
const MANY: usize = 1000;
const MANY_TIMES: usize = 40;

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let go = GoPeer::start(&args.go_peer, &server.url()).await?;
        report.fact(NATS_GO, &go.version);
        let bench = Bench::open(&server, args.rounds).await?;
        report.add(bench.puts().await?.target(Target::Times(ASYNC_NATS, 1.0)));
        report.add(bench.gets().await?.target(Target::Times(ASYNC_NATS, 1.0)));
        let window = bench.windows(&go).await?;
        report
            .add(window.target(Target::Times(ASYNC_NATS, 1.2)).target(Target::Times(NATS_GO, 1.0)));
        let many = bench.many().await?;
        report.add(match release {
            Release::Newest => many.target(Target::Times(ASYNC_NATS, 1.5)),
            _ => many,
        });
    }
    Ok(())
}

/// One server, with a bucket for each contender, all made alike.
struct Bench {
    rounds: usize,
    on: &'static str,
    ours: Arc<dyn Kv>,
    peer: jetstream::kv::Store,
    jetstream: jetstream::Context,
    keys: Vec<Key>,
    value: Bytes,
}

impl Bench {
    async fn open(server: &NatsServer, rounds: usize) -> Outcome<Self> {
        let backend = connect(&server.url()).await?;
        let ours = backend.kv(&bucket("ours")?, ensure()).await?;
        for name in ["peer", "go"] {
            backend.kv(&bucket(name)?, ensure()).await?;
        }
        let client = async_nats_peer::connect(server.url()).await?;
        let jetstream = jetstream::ContextBuilder::new().max_ack_inflight(WINDOW).build(client);
        let peer = jetstream.get_key_value("peer").await?;
        let on = server.release().version();
        let bench = Self { rounds, on, ours, peer, jetstream, keys: keys()?, value: value() };
        // Every key is there before anything is measured.
        bench.put_ours(KEYS).await?;
        bench.put_peer(KEYS).await?;
        Ok(bench)
    }

    fn key(&self, number: usize) -> &Key {
        &self.keys[number % self.keys.len()]
    }

    async fn puts(&self) -> Outcome<Row> {
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(self.put_ours(OPERATIONS))),
            Contender::new(ASYNC_NATS, |_| Box::pin(self.put_peer(OPERATIONS))),
        ];
        let name = format!("put, {IN_FLIGHT} in flight");
        Ok(Row::new(&name, "/s", self.on, rounds(self.rounds, contenders).await?))
    }

    async fn put_ours(&self, count: usize) -> Outcome<f64> {
        let begin = Instant::now();
        let puts =
            (0..count).map(|i| self.ours.put(self.key(i), self.value.clone(), PutOpts::new()));
        let mut done = stream::iter(puts).buffer_unordered(IN_FLIGHT);
        while done.try_next().await?.is_some() {}
        Ok(rate(count, begin))
    }

    async fn put_peer(&self, count: usize) -> Outcome<f64> {
        let begin = Instant::now();
        let puts = (0..count).map(|i| self.peer.put(self.key(i).as_str(), self.value.clone()));
        let mut done = stream::iter(puts).buffer_unordered(IN_FLIGHT);
        while done.try_next().await?.is_some() {}
        Ok(rate(count, begin))
    }

    async fn gets(&self) -> Outcome<Row> {
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(self.get_ours())),
            Contender::new(ASYNC_NATS, |_| Box::pin(self.get_peer(OPERATIONS, IN_FLIGHT))),
        ];
        let name = format!("get, {IN_FLIGHT} in flight");
        Ok(Row::new(&name, "/s", self.on, rounds(self.rounds, contenders).await?))
    }

    async fn get_ours(&self) -> Outcome<f64> {
        let begin = Instant::now();
        let gets = (0..OPERATIONS).map(|i| self.ours.get(self.key(i), Read::Fresh));
        let mut done = stream::iter(gets).buffer_unordered(IN_FLIGHT);
        while let Some(entry) = done.try_next().await? {
            entry.ok_or("a key is missing")?;
        }
        Ok(rate(OPERATIONS, begin))
    }

    async fn get_peer(&self, count: usize, in_flight: usize) -> Outcome<f64> {
        let begin = Instant::now();
        let gets = (0..count).map(|i| self.peer.get(self.key(i).as_str()));
        let mut done = stream::iter(gets).buffer_unordered(in_flight);
        while let Some(value) = done.try_next().await? {
            value.ok_or("a key is missing")?;
        }
        Ok(rate(count, begin))
    }

    /// Puts in order, each waiting for the oldest acknowledgement when the window is full.
    async fn windows(&self, go: &GoPeer) -> Outcome<Row> {
        let go_line = format!("publish $KV.go.a.b.key {KEYS} {OPERATIONS} {VALUE_BYTES}");
        let go_line = &go_line;
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(self.window_ours())),
            Contender::new(ASYNC_NATS, |_| Box::pin(self.window_peer())),
            Contender::new(NATS_GO, move |_| {
                Box::pin(async move { Ok(OPERATIONS as f64 / go.seconds(go_line).await?) })
            }),
        ];
        let name = format!("put, window of {WINDOW} acknowledgements");
        Ok(Row::new(&name, "/s", self.on, rounds(self.rounds, contenders).await?))
    }

    async fn window_ours(&self) -> Outcome<f64> {
        let begin = Instant::now();
        let puts =
            (0..OPERATIONS).map(|i| self.ours.put(self.key(i), self.value.clone(), PutOpts::new()));
        let mut done = stream::iter(puts).buffered(WINDOW);
        while done.try_next().await?.is_some() {}
        Ok(rate(OPERATIONS, begin))
    }

    async fn window_peer(&self) -> Outcome<f64> {
        let begin = Instant::now();
        let mut window = VecDeque::with_capacity(WINDOW);
        for number in 0..OPERATIONS {
            if window.len() == WINDOW
                && let Some(oldest) = window.pop_front()
            {
                IntoFuture::into_future(oldest).await?;
            }
            let subject = format!("$KV.peer.{}", self.key(number));
            window.push_back(self.jetstream.publish(subject, self.value.clone()).await?);
        }
        for ack in window {
            ack.await?;
        }
        Ok(rate(OPERATIONS, begin))
    }

    async fn many(&self) -> Outcome<Row> {
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(self.many_ours())),
            Contender::new(ASYNC_NATS, |_| {
                Box::pin(async {
                    let begin = Instant::now();
                    for _ in 0..MANY_TIMES {
                        self.get_peer(MANY, MANY).await?;
                    }
                    Ok(rate(MANY * MANY_TIMES, begin))
                })
            }),
        ];
        let name = format!("get_many of {MANY} keys / pipelined gets");
        Ok(Row::new(&name, "keys/s", self.on, rounds(self.rounds, contenders).await?))
    }

    async fn many_ours(&self) -> Outcome<f64> {
        let begin = Instant::now();
        for _ in 0..MANY_TIMES {
            let snapshot = self.ours.get_many(&self.keys[..MANY], Read::Fresh).await?;
            if snapshot.entries.iter().any(Option::is_none) {
                return Err("a key is missing".into());
            }
        }
        Ok(rate(MANY * MANY_TIMES, begin))
    }
}
