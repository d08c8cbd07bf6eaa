//! The other process of a measure that needs two, or a memory of its own.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::process::{Child as Process, Command};

use jetbridge_core::{
    Backend as _, BucketName, Change, Clock as _, ObjectName, ObjectPut, Open, Start, SystemClock,
    Watch,
};
use jetbridge_local::{LocalBackend, LocalOptions};

use crate::measure::quantile;
use crate::suite::limit::{Caller, serve, touch};
use crate::suite::{self, OBJECT_BYTES, object};
use crate::{Outcome, facts};

/// Bytes of the pieces a body comes in, as from a file.
const PIECE_BYTES: usize = 64 * 1024;

/// What a child does.
#[derive(Debug)]
pub(crate) enum Child {
    /// Puts an object that is never in memory as a whole; tells the memory before and at most.
    Put { url: String, bucket: String },
    /// Gets the same.
    Get { url: String, bucket: String },
    /// Merges a large template with itself; tells the memory at most.
    Merge,
    /// Watches a bucket of the embedded store; tells the quantiles of the delay of `count`
    /// changes, then goes on watching.
    Watch { directory: String, bucket: String, count: usize },
    /// Runs a guest that is a command, with these words.
    Guest { store: String, words: Vec<String> },
    /// Lets a guest answer HTTP; tells where.
    Serve { store: String },
    /// Is one process of a fleet of callers.
    Limit(Caller),
    /// Touches a million keys of a limiter; tells what they leave in memory.
    LimitKeys { url: String },
}

impl Child {
    pub(crate) fn parse(words: &[String]) -> Outcome<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["put", url, bucket] => Self::Put { url: url.to_owned(), bucket: bucket.to_owned() },
            ["get", url, bucket] => Self::Get { url: url.to_owned(), bucket: bucket.to_owned() },
            ["merge"] => Self::Merge,
            ["watch", directory, bucket, count] => Self::Watch {
                directory: directory.to_owned(),
                bucket: bucket.to_owned(),
                count: count.parse()?,
            },
            ["limit", store, id, rate, burst, callers, time] => Self::Limit(Caller {
                store: store.to_owned(),
                id: id.to_owned(),
                rate: rate.parse()?,
                burst: burst.parse()?,
                callers: callers.parse()?,
                time: Duration::from_millis(time.parse()?),
            }),
            ["guest", store, ref words @ ..] => Self::Guest {
                store: store.to_owned(),
                words: words.iter().map(|word| (*word).to_owned()).collect(),
            },
            ["serve", store] => Self::Serve { store: store.to_owned() },
            ["limit-keys", url] => Self::LimitKeys { url: url.to_owned() },
            _ => return Err("there is no such child".into()),
        })
    }

    /// A process that does this; its standard output is the caller's.
    pub(crate) fn spawn(&self) -> Outcome<Process> {
        let words = match self {
            Self::Put { url, bucket } => vec!["put".to_owned(), url.clone(), bucket.clone()],
            Self::Get { url, bucket } => vec!["get".to_owned(), url.clone(), bucket.clone()],
            Self::Merge => vec!["merge".to_owned()],
            Self::Watch { directory, bucket, count } => {
                vec!["watch".to_owned(), directory.clone(), bucket.clone(), count.to_string()]
            }
            Self::Guest { store, words } => {
                let mut all = vec!["guest".to_owned(), store.clone()];
                all.extend_from_slice(words);
                all
            }
            Self::Serve { store } => vec!["serve".to_owned(), store.clone()],
            Self::Limit(_) | Self::LimitKeys { .. } => {
                return Err("the suite starts these itself".into());
            }
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").args(words).stdout(std::process::Stdio::piped()).kill_on_drop(true);
        Ok(command.spawn()?)
    }
}

pub(crate) async fn run(child: Child) -> Outcome {
    match child {
        Child::Put { url, bucket } => {
            let bucket = object::open(&suite::connect(&url).await?, &bucket).await?;
            let before = facts::peak_kib()?;
            let piece = Bytes::from(vec![7; PIECE_BYTES]);
            let pieces = stream::repeat(piece).take(OBJECT_BYTES / PIECE_BYTES);
            let name = ObjectName::parse("memory")?;
            bucket.put(&name, pieces.map(Ok).boxed(), ObjectPut::new()).await?;
            println!("{before} {}", facts::peak_kib()?);
        }
        Child::Get { url, bucket } => {
            let bucket = object::open(&suite::connect(&url).await?, &bucket).await?;
            let before = facts::peak_kib()?;
            object::read(&bucket, "memory").await?;
            println!("{before} {}", facts::peak_kib()?);
        }
        Child::Merge => println!("{}", suite::template::merge_once()?),
        Child::Guest { store, words } => suite::wasi::guest(&store, &words).await?,
        Child::Serve { store } => suite::wasi::serve(&store).await?,
        Child::Limit(caller) => serve(caller).await?,
        Child::LimitKeys { url } => touch(&url).await?,
        Child::Watch { directory, bucket, count } => watch(&directory, &bucket, count).await?,
    }
    Ok(())
}

async fn watch(directory: &str, bucket: &str, count: usize) -> Outcome {
    let store = LocalBackend::open(directory, LocalOptions::default()).await?;
    let kv = store.kv(&BucketName::parse(bucket)?, Open::existing()).await?;
    let mut changes = kv.watch(Watch::default().start(Start::Now));
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        match changes.try_next().await?.ok_or("the watch ended")? {
            Change::CaughtUp => println!("ready"),
            Change::Put(entry) => delays.push(since(&entry.value)?.as_secs_f64() * 1e6),
            Change::Delete { .. } => {}
        }
    }
    println!("{} {}", quantile(&delays, 0.5), quantile(&delays, 0.99));
    while changes.try_next().await?.is_some() {}
    Ok(())
}

/// The time as a value: nanoseconds on the wall clock, which processes of one machine share.
pub(crate) fn now_as_value() -> Outcome<Bytes> {
    let now = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.as_nanos().to_string().into())
}

fn since(value: &[u8]) -> Outcome<Duration> {
    let then = Duration::from_nanos(std::str::from_utf8(value)?.parse()?);
    let now = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.saturating_sub(then))
}
