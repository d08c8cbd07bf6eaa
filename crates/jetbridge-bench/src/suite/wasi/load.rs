//! Requests at a guest that answers HTTP, over connections that stay open: a load generator of our
//! own, which asks again as soon as it has its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::Outcome;
use crate::child::Child;
use crate::report::{Report, Row, Target};

/// Connections at once, and counters that they increment.
const CONNECTIONS: u64 = 64;
const KEYS: u64 = 1000;
/// How long each part takes: the first is not counted.
const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(6);
/// What ends an answer in chunks.
const END: &[u8] = b"\r\n0\r\n\r\n";
const GOOD: &[u8] = b"HTTP/1.1 200";

/// An increment per request.
pub(super) async fn run(store: &str, (on, least): (&str, f64), report: &mut Report) -> Outcome {
    let mut server = Child::Serve { store: store.to_owned() }.spawn()?;
    let out = server.stdout.take().ok_or("a server without an output")?;
    let mut lines = BufReader::new(out).lines();
    let address = lines.next_line().await?.ok_or("the server ended")?;
    let state = Arc::new(State::default());
    let asking = (0..CONNECTIONS).map(|at| ask(&address, at, &state));
    let timing = async {
        tokio::time::sleep(WARM_UP).await;
        let (begin, before) = (Instant::now(), state.done.load(Ordering::Relaxed));
        tokio::time::sleep(TIME).await;
        let done = state.done.load(Ordering::Relaxed) - before;
        let rate = done as f64 / begin.elapsed().as_secs_f64();
        state.stop.store(true, Ordering::Relaxed);
        Outcome::Ok(rate)
    };
    let (asked, rate) = tokio::join!(try_join_all(asking), timing);
    asked?;
    let name = "serve: increment per request over 1000 keys, 64 connections";
    report.add(Row::alone(name, "/s", on, rate?).target(Target::AtLeast(least)));
    let errors = state.errors.load(Ordering::Relaxed) as f64;
    report.add(Row::alone("answers that were errors", "", on, errors).target(Target::AtMost(0.0)));
    server.kill().await?;
    Ok(())
}

#[derive(Default)]
struct State {
    done: AtomicU64,
    errors: AtomicU64,
    stop: AtomicBool,
}

async fn ask(address: &str, at: u64, state: &State) -> Outcome {
    let mut key = at * (KEYS / CONNECTIONS);
    while !state.stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // What is no answer of the guest ends the connection.
        while !state.stop.load(Ordering::Relaxed) {
            key = (key + 7) % KEYS;
            let is_good = once(&mut stream, key).await?;
            state.done.fetch_add(1, Ordering::Relaxed);
            if !is_good {
                state.errors.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
    Ok(())
}

/// One request; `false` if its answer is an error.
async fn once(stream: &mut TcpStream, key: u64) -> Outcome<bool> {
    let request = format!("GET /k{key} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(END) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Ok(false);
        }
        if !answer.starts_with(GOOD) && answer.len() >= GOOD.len() {
            return Ok(false);
        }
    }
    Ok(true)
}
