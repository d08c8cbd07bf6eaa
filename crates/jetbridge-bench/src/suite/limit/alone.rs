//! What one process does by itself: denials under attack and decisions in memory, beside governor,
//! and what a million keys leave in its memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use governor::{Quota, RateLimiter};
use jetbridge_core::{Backend, BucketName, BucketSpec, MemoryBackend, Open};
use jetbridge_limit::{LimiterOpts, Limits, OnError, Policy};
use tokio::process::Command;

use crate::measure::{OURS, Series};
use crate::report::{Report, Row, Target};
use crate::suite::connect;
use crate::{Outcome, facts};

const GOVERNOR: &str = "governor";
/// Denials that are timed.
const DENIALS: u32 = 2_000_000;
/// Decisions that are timed, of one task in memory.
const DECISIONS: u32 = 200_000;
const KEYS: u32 = 1_000_000;
/// Keys that are touched at the same time: what a busy server has in hand.
const KEYS_AT_ONCE: usize = 512;
/// So many keys come first, so that what any key costs is there already.
const KEYS_BEFORE: u32 = 20_000;
/// An hour's permit: whoever has it is denied from then on.
const HOUR: Duration = Duration::from_secs(3600);
const RATE: u32 = 1_000_000;

async fn in_memory() -> Outcome<Limits> {
    open(Arc::new(MemoryBackend::new())).await
}

async fn open(store: Arc<dyn Backend>) -> Outcome<Limits> {
    let bucket = BucketName::parse("rate_limits")?;
    Ok(Limits::open(store, &bucket, Open::ensure(BucketSpec::default())).await?)
}

/// Denials of one process that is under attack: no request leaves it.
pub(super) async fn denials(report: &mut Report) -> Outcome {
    let limiter = in_memory().await?.limiter("api", Policy::per_period(1, HOUR)?)?;
    let first = (limiter.try_acquire().await?.allowed, limiter.try_acquire().await?.allowed);
    if first != (true, false) {
        return Err("an hourly permit is given once".into());
    }
    let before = limiter.metrics().store_requests;
    let begin = Instant::now();
    for _ in 0..DENIALS {
        if limiter.try_acquire().await?.allowed {
            return Err("a denied caller was let through".into());
        }
    }
    let ours = f64::from(DENIALS) / begin.elapsed().as_secs_f64();
    let quota = Quota::with_period(HOUR).ok_or("no quota")?;
    let peer = RateLimiter::direct(quota);
    if peer.check().is_err() {
        return Err("governor gives no permit".into());
    }
    let begin = Instant::now();
    let denied = (0..DENIALS).filter(|_| peer.check().is_err()).count();
    let theirs = denied as f64 / begin.elapsed().as_secs_f64();
    let row = Row::new("denials, one task", "/s", "in process", both(ours, theirs));
    report.add(row.target(Target::AtLeast(1e6)));
    let requests = (limiter.metrics().store_requests - before) as f64;
    let row = Row::alone("requests for these", "", "in process", requests);
    report.add(row.target(Target::AtMost(0.0)));
    Ok(())
}

/// Decisions of one task with the store in the same memory.
pub(super) async fn decisions(report: &mut Report) -> Outcome {
    let policy = Policy::per_second(f64::from(RATE))?.burst(RATE)?;
    let limiter = in_memory().await?.limiter("api", policy)?;
    let begin = Instant::now();
    for _ in 0..DECISIONS {
        if !limiter.try_acquire().await?.allowed {
            return Err("the rate is too near".into());
        }
    }
    let ours = f64::from(DECISIONS) / begin.elapsed().as_secs_f64();
    let rate = NonZeroU32::new(RATE).ok_or("no rate")?;
    let peer = RateLimiter::direct(Quota::per_second(rate));
    let begin = Instant::now();
    let granted = (0..DECISIONS).filter(|_| peer.check().is_ok()).count();
    let theirs = granted as f64 / begin.elapsed().as_secs_f64();
    report.add(Row::new("decisions in memory, 1×1", "/s", "in process", both(ours, theirs)));
    Ok(())
}

fn both(ours: f64, theirs: f64) -> Vec<Series> {
    let series = |name, figure| Series { name, figures: vec![figure] };
    vec![series(OURS, ours), series(GOVERNOR, theirs)]
}

/// What a million keys, each touched once, leave in the memory of a process.
pub(super) async fn keys(store: &str, on: &str, report: &mut Report) -> Outcome {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["child", "limit-keys", store]).kill_on_drop(true).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || figures.next().ok_or("the process with a million keys failed");
    let (bytes, rate) = (next()??, next()??);
    let row = Row::alone("memory of a key, of 1 million touched once", "B", on, bytes);
    report.add(row.target(Target::AtMost(200.0)));
    report.add(Row::alone("keys touched for the first time", "/s", on, rate));
    Ok(())
}

/// Touches the keys, and tells bytes for each at the peak, and keys per second.
pub(crate) async fn touch(store: &str) -> Outcome {
    let limits = open(Arc::new(connect(store).await?)).await?;
    let opts = LimiterOpts::default().on_error(OnError::Closed).deadline(Duration::from_secs(10));
    let limiter = limits.limiter_with("api", Policy::per_second(1.0)?, opts)?;
    let touch = async |number: u32| -> Outcome {
        let admission = limiter.key(&format!("user:{number:08}"))?.try_acquire().await?;
        if admission.allowed { Ok(()) } else { Err("a new key has a permit".into()) }
    };
    let all = async |numbers: std::ops::Range<u32>| -> Outcome {
        let calls = stream::iter(numbers).map(&touch).buffer_unordered(KEYS_AT_ONCE);
        calls.try_collect::<()>().await
    };
    all(0..KEYS_BEFORE).await?;
    let (before, begin) = (facts::resident_kib()?, Instant::now());
    all(KEYS_BEFORE..KEYS_BEFORE + KEYS).await?;
    let rate = f64::from(KEYS) / begin.elapsed().as_secs_f64();
    let more = facts::peak_kib()?.saturating_sub(before) as f64 * 1024.0;
    println!("{} {rate}", more / f64::from(KEYS));
    Ok(())
}
