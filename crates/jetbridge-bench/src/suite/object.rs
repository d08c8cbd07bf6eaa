//! Objects on servers: large ones near and far, small ones, what they leave behind and what
//! memory they take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats_peer::jetstream::{self, object_store::ObjectStore};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use jetbridge_core::{
    Backend as _, DeleteOpts, Key, ObjectName, ObjectPut, Objects, ObjectsExt as _, PutOpts, Read,
    random,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions};

use super::{MIB, OBJECT_BYTES, bucket, connect, ensure, rate};
use crate::Outcome;
use crate::args::Args;
use crate::child::Child;
use crate::go::GoPeer;
use crate::measure::{ASYNC_NATS, Contender, NATS_GO, OURS, quantile, rounds};
use crate::report::{Report, Row, Target};

/// Bytes of one read by peers that fill a buffer: their best.
const READ_BYTES: usize = 128 * 1024;
/// Bytes of a small object, how many there are, and how often they are read in one run.
const SMALL_BYTES: usize = 4096;
const SMALL_OBJECTS: usize = 100;
const SMALL_GETS: usize = 300;
/// Bytes of the object that async-nats puts far away: it waits for every chunk, so that its rate
/// has nothing to do with the size, and the whole would take half a minute.
const FAR_PEER_BYTES: usize = 32 << 20;
/// Rounds far away at most.
const FAR_ROUNDS_MAX: usize = 3;
/// The round trip far away, as a serial get sees it; and how many gets tell.
const ROUND_TRIP_MS: f64 = 12.5;
const ROUND_TRIP_GETS: usize = 20;
/// What the proxy is tried with to come to that: it and the timers add their own.
const LATENCIES_MS: [u64; 5] = [8, 9, 10, 11, 12];
/// What a put or get may hold, MiB: its window, and 16 beside.
const MEMORY_MIB_MAX: f64 = 8.0 + 16.0;

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
    let go = GoPeer::start(&args.go_peer, &server.url()).await?;
    report.fact(NATS_GO, &go.version);
    let body = random_body(OBJECT_BYTES);
    let near = Bench::open(&server, &server.url(), &body).await?;
    let put = near.puts("put 256 MiB", args.rounds, OBJECT_BYTES, &go).await?;
    report.add(put.target(Target::Times(ASYNC_NATS, 1.8)).target(Target::Times(NATS_GO, 1.0)));
    let get = near.gets(args.rounds, &go).await?;
    report.add(get.target(Target::Times(ASYNC_NATS, 1.2)).target(Target::Times(NATS_GO, 1.0)));
    let small = near.small(args.rounds, &go).await?;
    report.add(small.target(Target::Times(ASYNC_NATS, 2.8)).target(Target::Times(NATS_GO, 1.0)));
    let left = near.consumers().await?;
    report.add(left.target(Target::AtMost(0.0)));
    memory(&server, report).await?;
    far(&server, args, &body, report).await
}

/// The same put, through a proxy that is as far away as another region.
async fn far(server: &NatsServer, args: &Args, body: &Bytes, report: &mut Report) -> Outcome {
    let proxy = FarProxy::start(server.address()).await?;
    let (latency, measured) = proxy.settle_at(ROUND_TRIP_MS).await?;
    report.fact(
        "round trip far away",
        &format!("{measured:.1} ms by serial gets, with the proxy at {latency} ms"),
    );
    let go = GoPeer::start(&args.go_peer, &proxy.url()).await?;
    let far = Bench::open(server, &proxy.url(), body).await?;
    let name = format!("put 256 MiB, {measured:.1} ms away");
    let put = far.puts(&name, args.rounds.min(FAR_ROUNDS_MAX), FAR_PEER_BYTES, &go).await?;
    report.add(put.target(Target::Times(ASYNC_NATS, 30.0)));
    Ok(())
}

pub(crate) async fn open(backend: &NatsBackend, name: &str) -> Outcome<Arc<dyn Objects>> {
    Ok(backend.objects(&bucket(name)?, ensure()).await?)
}

/// Reads an object to its end, which comes only if it is verified; returns its bytes.
pub(crate) async fn read(objects: &Arc<dyn Objects>, name: &str) -> Outcome<u64> {
    let found = objects.get(&ObjectName::parse(name)?, None).await?;
    let mut body = found.ok_or("the object is missing")?.body;
    let mut bytes = 0;
    while let Some(part) = body.try_next().await? {
        bytes += part.len() as u64;
    }
    Ok(bytes)
}

/// Bytes that nothing can compress.
pub(super) fn random_body(bytes: usize) -> Bytes {
    let mut state = 1_u64;
    let mut body = Vec::with_capacity(bytes);
    while body.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.extend_from_slice(&(state >> 32).to_le_bytes()[..4]);
    }
    body.truncate(bytes);
    body.into()
}

/// One way to a server, with a bucket for each contender, all made alike.
struct Bench {
    on: &'static str,
    /// Near the server, to clean up behind everybody.
    backend: NatsBackend,
    ours: Arc<dyn Objects>,
    peer: ObjectStore,
    jetstream: jetstream::Context,
    body: Bytes,
}

impl Bench {
    async fn open(server: &NatsServer, url: &str, body: &Bytes) -> Outcome<Self> {
        let backend = connect(&server.url()).await?;
        for name in ["peer", "go"] {
            open(&backend, name).await?;
        }
        let ours = open(&connect(url).await?, "ours").await?;
        let jetstream = jetstream::new(async_nats_peer::connect(url).await?);
        let peer = jetstream.get_object_store("peer").await?;
        let on = server.release().version();
        Ok(Self { on, backend, ours, peer, jetstream, body: body.clone() })
    }

    /// Puts of new objects, removed again while nobody looks at the clock.
    async fn puts(&self, name: &str, times: usize, peer_bytes: usize, go: &GoPeer) -> Outcome<Row> {
        let contenders = vec![
            Contender::new(OURS, |_| Box::pin(self.put_ours())),
            Contender::new(ASYNC_NATS, move |_| Box::pin(self.put_peer(peer_bytes))),
            Contender::new(NATS_GO, move |_| Box::pin(self.put_go(go))),
        ];
        Ok(Row::new(name, "MiB/s", self.on, rounds(times, contenders).await?))
    }

    async fn put_ours(&self) -> Outcome<f64> {
        let name = random::name();
        let begin = Instant::now();
        let object = ObjectName::parse(&name)?;
        self.ours.put_bytes(&object, self.body.clone(), ObjectPut::new()).await?;
        let figure = rate(OBJECT_BYTES, begin) / MIB;
        self.remove("ours", &name).await?;
        Ok(figure)
    }

    async fn put_peer(&self, bytes: usize) -> Outcome<f64> {
        let name = random::name();
        let mut body = &self.body[..bytes];
        let begin = Instant::now();
        self.peer.put(name.as_str(), &mut body).await?;
        let figure = rate(bytes, begin) / MIB;
        self.remove("peer", &name).await?;
        Ok(figure)
    }

    async fn put_go(&self, go: &GoPeer) -> Outcome<f64> {
        let name = random::name();
        let seconds = go.seconds(&format!("put go {name} {OBJECT_BYTES}")).await?;
        self.remove("go", &name).await?;
        Ok(OBJECT_BYTES as f64 / seconds / MIB)
    }

    async fn remove(&self, bucket: &str, name: &str) -> Outcome {
        let objects = open(&self.backend, bucket).await?;
        objects.delete(&ObjectName::parse(name)?, DeleteOpts::new()).await?;
        Ok(())
    }

    /// Gets of one object in everybody's own bucket.
    async fn gets(&self, times: usize, go: &GoPeer) -> Outcome<Row> {
        for bucket in ["ours", "peer", "go"] {
            let objects = open(&self.backend, bucket).await?;
            let name = ObjectName::parse("large")?;
            objects.put_bytes(&name, self.body.clone(), ObjectPut::new()).await?;
        }
        let contenders = vec![
            Contender::new(OURS, |_| {
                Box::pin(async {
                    let begin = Instant::now();
                    whole(read(&self.ours, "large").await?)?;
                    Ok(rate(OBJECT_BYTES, begin) / MIB)
                })
            }),
            Contender::new(ASYNC_NATS, |_| {
                Box::pin(async {
                    let begin = Instant::now();
                    whole(self.read_peer("large").await?)?;
                    Ok(rate(OBJECT_BYTES, begin) / MIB)
                })
            }),
            Contender::new(NATS_GO, move |_| {
                Box::pin(async move {
                    Ok(OBJECT_BYTES as f64 / go.seconds("get go large").await? / MIB)
                })
            }),
        ];
        let row = Row::new("get 256 MiB", "MiB/s", self.on, rounds(times, contenders).await?);
        for bucket in ["ours", "peer", "go"] {
            self.remove(bucket, "large").await?;
        }
        Ok(row)
    }

    async fn read_peer(&self, name: &str) -> Outcome<u64> {
        let mut object = self.peer.get(name).await?;
        let mut buffer = vec![0; READ_BYTES];
        let mut bytes = 0;
        loop {
            match object.read(&mut buffer).await? {
                0 => return Ok(bytes),
                read => bytes += read as u64,
            }
        }
    }

    /// Gets of small objects, one after the other.
    async fn small(&self, times: usize, go: &GoPeer) -> Outcome<Row> {
        for bucket in ["ours", "peer", "go"] {
            let objects = open(&self.backend, bucket).await?;
            for number in 0..SMALL_OBJECTS {
                let body = self.body.slice(..SMALL_BYTES);
                objects
                    .put_bytes(&ObjectName::parse(small(number))?, body, ObjectPut::new())
                    .await?;
            }
        }
        let contenders = vec![
            Contender::new(OURS, |_| {
                Box::pin(async {
                    let begin = Instant::now();
                    for number in 0..SMALL_GETS {
                        read(&self.ours, &small(number)).await?;
                    }
                    Ok(rate(SMALL_GETS, begin))
                })
            }),
            Contender::new(ASYNC_NATS, |_| {
                Box::pin(async {
                    let begin = Instant::now();
                    for number in 0..SMALL_GETS {
                        self.read_peer(&small(number)).await?;
                    }
                    let figure = rate(SMALL_GETS, begin);
                    self.remove_consumers("OBJ_peer").await?;
                    Ok(figure)
                })
            }),
            Contender::new(NATS_GO, move |_| {
                Box::pin(async move {
                    let mut seconds = 0.0;
                    for number in 0..SMALL_GETS {
                        seconds += go.seconds(&format!("get go {}", small(number))).await?;
                    }
                    Ok(SMALL_GETS as f64 / seconds)
                })
            }),
        ];
        Ok(Row::new("get 4 KiB, serial", "/s", self.on, rounds(times, contenders).await?))
    }

    /// Removes what gets of async-nats leave behind, and the server would soon refuse more of.
    async fn remove_consumers(&self, stream: &str) -> Outcome {
        let stream = self.jetstream.get_stream(stream).await?;
        let names: Vec<String> = stream.consumer_names().try_collect().await?;
        for name in names {
            stream.delete_consumer(&name).await?;
        }
        Ok(())
    }

    /// The consumers that are left after all gets, by the server's count.
    async fn consumers(&self) -> Outcome<Row> {
        let stream = self.jetstream.get_stream("OBJ_ours").await?;
        let left = stream.get_info().await?.state.consumer_count;
        Ok(Row::alone("consumers left by the gets", "", self.on, left as f64))
    }
}

fn small(number: usize) -> String {
    format!("small{}", number % SMALL_OBJECTS)
}

fn whole(bytes: u64) -> Outcome {
    if bytes == OBJECT_BYTES as u64 { Ok(()) } else { Err("a get ended early".into()) }
}

/// A put and a get in a process each, whose whole peak is told: program, runtime and all.
async fn memory(server: &NatsServer, report: &mut Report) -> Outcome {
    let (url, bucket) = (server.url(), "ours".to_owned());
    let put = Child::Put { url: url.clone(), bucket: bucket.clone() };
    let get = Child::Get { url, bucket };
    for (what, child) in [("put", put), ("get", get)] {
        let mut process = child.spawn()?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let mut words = String::new();
        BufReader::new(stdout).read_line(&mut words).await?;
        let (before, peak) = words.trim().split_once(' ').ok_or("the child failed")?;
        let (before, peak) = (before.parse::<f64>()? / 1024.0, peak.parse::<f64>()? / 1024.0);
        process.wait().await?;
        let on = server.release().version();
        let name = format!("peak memory of a process that {what}s 256 MiB");
        let row = Row::alone(&name, "MiB", on, peak).target(Target::AtMost(MEMORY_MIB_MAX));
        report.add(row);
        let name = format!("of these, before the {what}");
        report.add(Row::alone(&name, "MiB", on, before));
    }
    Ok(())
}

/// The proxy on a thread of its own, as it would be elsewhere.
struct FarProxy {
    proxy: Arc<Proxy>,
    _runtime: Stopping,
}

/// A runtime that may be dropped on a worker of another.
struct Stopping(Option<tokio::runtime::Runtime>);

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl FarProxy {
    async fn start(target: SocketAddr) -> Outcome<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        runtime.spawn(async move { sender.send(Proxy::start(target).await) });
        let proxy = Arc::new(receiver.await?);
        Ok(Self { proxy, _runtime: Stopping(Some(runtime)) })
    }

    fn url(&self) -> String {
        self.proxy.url()
    }

    /// Sets the delay that comes nearest to a round trip of `wanted` ms; returns it, and what a
    /// serial get then takes.
    async fn settle_at(&self, wanted: f64) -> Outcome<(u64, f64)> {
        let backend = connect(&self.url()).await?;
        let kv = backend.kv(&bucket("far")?, ensure()).await?;
        let key = Key::parse("here")?;
        kv.put(&key, Bytes::from_static(b"x"), PutOpts::new()).await?;
        let mut best = (0, f64::INFINITY);
        for latency in LATENCIES_MS {
            self.proxy.latency(Duration::from_millis(latency));
            let mut trips = Vec::with_capacity(ROUND_TRIP_GETS);
            for _ in 0..ROUND_TRIP_GETS {
                let begin = Instant::now();
                kv.get(&key, Read::Fresh).await?;
                trips.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
            let trip = quantile(&trips, 0.5);
            if (trip - wanted).abs() < (best.1 - wanted).abs() {
                best = (latency, trip);
            }
        }
        self.proxy.latency(Duration::from_millis(best.0));
        Ok(best)
    }
}
