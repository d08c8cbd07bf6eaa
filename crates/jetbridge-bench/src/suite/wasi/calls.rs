//! What calls of a guest cost.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use futures_util::{TryStreamExt as _, stream};
use jetbridge_core::{BucketName, BucketSpec, Change, Key, Open, PutOpts, Watch};
use jetbridge_testkit::{NatsServer, Proxy, guest};

use super::Guest;
use crate::Outcome;
use crate::args::Args;
use crate::measure::{ASYNC_NATS, Contender, OURS, quantile, rounds};
use crate::report::{Report, Row, Target};

/// Calls of one run of a guest.
const CALLS: usize = 5000;
/// Runs of which the median is told.
const RUNS: usize = 15;
/// Keys of the listing.
const LISTED: usize = 100_000;
/// Writes under way at once when keys are prepared.
const WRITERS: usize = 256;
/// The round trip that calls are counted by.
const AWAY: Duration = Duration::from_millis(10);
/// Guests that count at once, and how often each does.
const CALLERS: usize = 64;
const STEPS: usize = 4000;

/// Serial gets and sets of 128 bytes by a guest, beside the same calls in plain async-nats.
pub(super) async fn beside_async_nats(
    server: &NatsServer,
    (args, on): (&Args, &str),
    report: &mut Report,
) -> Outcome {
    let guest = Guest::new(&server.url(), &guest::command()).await?;
    guest.run(&["set", "default", "n", "1"]).await?;
    let client = async_nats_peer::connect(server.url()).await?;
    let peer = async_nats_peer::jetstream::new(client).get_key_value("default").await?;
    for call in ["get", "set"] {
        let (guest, peer) = (&guest, &peer);
        let series = rounds(
            args.rounds,
            vec![
                Contender::new(OURS, move |_| Box::pin(per_second(guest, call))),
                Contender::new(ASYNC_NATS, move |_| {
                    Box::pin(async move {
                        let begin = Instant::now();
                        for _ in 0..CALLS {
                            match call {
                                "get" => drop(peer.get("n").await?),
                                _ => drop(peer.put("n", vec![b'v'; 128].into()).await?),
                            }
                        }
                        Ok(CALLS as f64 / begin.elapsed().as_secs_f64())
                    })
                }),
            ],
        )
        .await?;
        let row = Row::new(&format!("guest {call}, serial"), "/s", on, series);
        report.add(row.target(Target::Times(ASYNC_NATS, 1.0 / 1.15)));
    }
    guest.close().await;
    Ok(())
}

async fn per_second(guest: &Guest, call: &str) -> Outcome<f64> {
    let begin = Instant::now();
    guest.run(&[call, "default", "n", &CALLS.to_string()]).await?;
    Ok(CALLS as f64 / begin.elapsed().as_secs_f64())
}

/// A call of one guest on the embedded store.
pub(super) async fn embedded(store: &str, report: &mut Report) -> Outcome {
    let guest = Guest::new(store, &guest::command()).await?;
    guest.run(&["set", "default", "n", "1"]).await?;
    for (call, most) in [("get", 15.0), ("set", 60.0)] {
        let mut figures = Vec::new();
        for _ in 0..RUNS {
            figures.push(1e6 / per_second(&guest, call).await?);
        }
        let name = format!("guest {call}, one caller: median of {RUNS} runs of {CALLS}");
        let row = Row::alone(&name, "µs", "embedded", quantile(&figures, 0.5));
        report.add(row.target(Target::AtMost(most)));
    }
    guest.close().await;
    Ok(())
}

/// How many round trips `get-many` of 1000 keys takes.
pub(super) async fn round_trips(server: &NatsServer, on: &str, report: &mut Report) -> Outcome {
    let proxy = Proxy::start(server.address()).await;
    let guest = Guest::new(&proxy.url(), &guest::command()).await?;
    prepare(&server.url(), "default", 1000, "k").await?;
    guest.run(&["many", "default", "-", "1000"]).await?;
    proxy.latency(AWAY);
    let mut trips = Vec::new();
    for _ in 0..RUNS {
        let before = proxy.turns();
        guest.run(&["many", "default", "-", "1000"]).await?;
        trips.push((proxy.turns() - before) as f64);
    }
    let name = "get-many of 1000 keys, 10 ms away: round trips at the proxy";
    report.add(Row::alone(name, "", on, quantile(&trips, 0.5)).target(Target::AtMost(3.0)));
    guest.close().await;
    Ok(())
}

/// All keys of a large bucket by pages, beside one watch of it.
pub(super) async fn listing(store: &str, on: &str, report: &mut Report) -> Outcome {
    let guest = Guest::new(store, &guest::command()).await?;
    guest.links.add("large", &[("enable_bucket_auto_create".into(), "true".into())]).await?;
    guest.run(&["get", "large", "n", "1"]).await?;
    let kv = prepare(store, "large", LISTED, "key").await?;
    let (mut ratios, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let begin = Instant::now();
        guest.run(&["keys", "large"]).await?;
        let listed = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let mut changes = kv.watch(Watch::default());
        while !matches!(changes.try_next().await?, Some(Change::CaughtUp) | None) {}
        ratios.push(listed / begin.elapsed().as_secs_f64());
        seconds.push(listed);
    }
    let name = "listing 100,000 keys by pages of 1000";
    report.add(Row::alone(name, "s", on, quantile(&seconds, 0.5)));
    let row = Row::alone(&format!("{name}: times one watch"), "", on, quantile(&ratios, 0.5));
    report.add(row.target(Target::AtMost(1.5)));
    guest.close().await;
    Ok(())
}

/// One counter that 64 guests increment at once, in a bucket of counters.
pub(super) async fn hot_counter(store: &str, on: &str, report: &mut Report) -> Outcome {
    let guest = Guest::new(store, &guest::command()).await?;
    guest.links.add("hot", &[("counter_bucket".into(), "true".into())]).await?;
    guest.run(&["plus", "hot", "n", "1"]).await?;
    let (begin, steps) = (Instant::now(), STEPS.to_string());
    let words = ["plus", "hot", "n", steps.as_str()];
    try_join_all((0..CALLERS).map(|_| guest.run(&words))).await?;
    let rate = (CALLERS * STEPS) as f64 / begin.elapsed().as_secs_f64();
    let row = Row::alone("hot counter, 64 guests, counter bucket", "/s", on, rate);
    report.add(row.target(Target::AtLeast(60_000.0)));
    guest.close().await;
    Ok(())
}

/// A bucket with so many keys.
async fn prepare(
    store: &str,
    bucket: &str,
    keys: usize,
    prefix: &str,
) -> Outcome<std::sync::Arc<dyn jetbridge_core::Kv>> {
    let backend = jetbridge::connect(store).await?;
    let bucket = BucketName::parse(bucket)?;
    let kv = backend.kv(&bucket, Open::ensure(BucketSpec::default())).await?;
    let writes = (0..keys).map(|at| {
        let key = Key::parse(format!("{prefix}{at:04}"));
        let kv = &kv;
        Ok(async move { kv.put(&key?, "value".into(), PutOpts::new()).await.map(drop) })
    });
    stream::iter(writes).try_buffer_unordered(WRITERS).try_collect::<()>().await?;
    Ok(kv)
}
