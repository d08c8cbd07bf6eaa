//! Many streams of events, and one change that all of them are told of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::up::Up;
use crate::report::{Report, Row, Target};
use crate::{Outcome, facts};

/// Streams that are begun at once.
const BEGUN_AT_ONCE: usize = 128;
/// Bytes that are read ahead of each stream; thousands of them are in this process.
const READ_BYTES: usize = 512;

type Events = BufReader<TcpStream>;

pub(super) async fn run((store, on): (&str, &str), streams: usize, report: &mut Report) -> Outcome {
    let up = Up::start(store, "buckets: {news: {}}\n").await?;
    let begun = (0..streams).map(|_stream| begin(up.address));
    let all: Vec<Events> =
        stream::iter(begun).buffer_unordered(BEGUN_AT_ONCE).try_collect().await?;
    // All who listen and the one who writes.
    let ready = Arc::new(Barrier::new(all.len() + 1));
    let mut listening = JoinSet::new();
    for mut events in all {
        let ready = Arc::clone(&ready);
        listening.spawn(async move {
            ready.wait().await;
            until(&mut events, "event: put").await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((Instant::now(), events))
        });
    }
    ready.wait().await;
    let written = Instant::now();
    put(up.address).await?;
    let mut last = written;
    // They are kept until the memory was looked at.
    let mut kept = Vec::new();
    while let Some(told) = listening.join_next().await {
        let (at, events) = told??;
        last = last.max(at);
        kept.push(events);
    }
    let seconds = (last - written).as_secs_f64();
    let memory = facts::memory_kib(up.pid, facts::Memory::Peak)? as f64 / 1024.0;
    let name = format!("one change to {streams} streams of events");
    report.add(Row::alone(&name, "s", on, seconds).target(Target::AtMost(1.0)));
    let row = Row::alone(&format!("{name}: peak memory"), "MiB", on, memory);
    report.add(row.target(Target::AtMost(256.0)));
    drop(kept);
    up.end().await
}

/// A stream that has caught up.
async fn begin(address: SocketAddr) -> Outcome<Events> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /v1/kv/news:watch?prefix=flash HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut events = BufReader::with_capacity(READ_BYTES, stream);
    until(&mut events, "event: caught_up").await?;
    Ok(events)
}

/// Reads on until a line is `words`.
async fn until(events: &mut Events, words: &str) -> Outcome {
    let mut line = String::new();
    while line.trim_end() != words {
        line.clear();
        if events.read_line(&mut line).await? == 0 {
            return Err(format!("a stream of events ended without `{words}`").into());
        }
    }
    Ok(())
}

async fn put(address: SocketAddr) -> Outcome {
    let mut stream = TcpStream::connect(address).await?;
    let request = "PUT /v1/kv/news/flash HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Content-Length: 1\r\n\r\nx";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer.into()) }
}
