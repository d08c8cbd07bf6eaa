//! A bucket in which many files came and went.

use std::time::{Duration, Instant};

use async_nats_peer::jetstream;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge::sqlite::store::{Level, Put, Replica};
use jetbridge::sqlite::{Txid, TxidRange};
use jetbridge_core::{Backend as _, BucketKind, BucketName, Clock as _, SystemClock};
use jetbridge_testkit::NatsServer;

use super::replicator::Peer;
use crate::Outcome;
use crate::measure::{LITESTREAM, Series, quantile};
use crate::report::{Report, Row, Target};
use crate::suite::{connect, object};

/// Files that come and go in ours.
const OURS: u64 = 100_000;
/// In a bucket as Litestream leaves it, with a tombstone for each: enough to see.
const THEIRS: u64 = 20_000;
/// Of both, so many at once.
const AT_ONCE: usize = 64;
/// How long the marks of deletions may stay.
const MARKS_GONE_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at whether they are gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the files are listed.
const TIMES: usize = 15;

pub(super) async fn run(server: &NatsServer, report: &mut Report) -> Outcome {
    let on = server.release().version();
    let empty = opened(server, "ours-empty").await?;
    churn(server).await?;
    let marked = opened(server, "ours-used").await?;
    let name = "opening just after 100,000 files came and went";
    report.add(Row::alone(name, "ms", on, marked));
    marks_are_gone(server).await?;
    let used = opened(server, "ours-used").await?;
    let name = "opening when the marks of the last deletions are gone, after 5 s";
    report.add(Row::alone(name, "ms", on, used));
    let row = Row::alone("of it, times that of an empty bucket", "×", on, used / empty);
    report.add(row.target(Target::AtMost(2.0)));

    let empty = listed(server, "theirs-empty").await?;
    bury(server).await?;
    let used = listed(server, "theirs-used").await?;
    let alone = |figure| vec![Series { name: LITESTREAM, figures: vec![figure] }];
    let name = "`ltx` after 20,000 files came and went";
    report.add(Row::new(name, "ms", on, alone(used)));
    let name = "of it, times that of an empty bucket";
    report.add(Row::new(name, "×", on, alone(used / empty)));
    Ok(())
}

/// The milliseconds until a new client knows the files.
async fn opened(server: &NatsServer, bucket: &str) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let objects = object::open(&connect(&server.url()).await?, bucket).await?;
        let begun = Instant::now();
        let found = Replica::new(objects, "").manifest().await?;
        times.push(super::lag::millis(begun.elapsed()));
        if !found.is_empty() {
            return Err("a file is left".into());
        }
    }
    Ok(quantile(&times, 0.5))
}

/// Puts and deletes, as upkeep does.
async fn churn(server: &NatsServer) -> Outcome {
    let objects = object::open(&connect(&server.url()).await?, "ours-used").await?;
    let replica = &Replica::new(objects, "");
    let body = Bytes::from_static(b"a file of level 0");
    stream::iter(1..=OURS)
        .map(|txid| {
            let body = body.clone();
            async move {
                let range = TxidRange::one(Txid(txid)).ok_or("no transaction")?;
                let (level, time) = (Level::CAPTURED, SystemClock.now());
                replica.put(Put { level, range, time, base: None }, body).await?;
                replica.delete(level, range).await?;
                Outcome::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The marks by which those who watch hear of deletions stay for some seconds.
async fn marks_are_gone(server: &NatsServer) -> Outcome {
    let backend = connect(&server.url()).await?;
    let bucket = BucketName::parse("ours-used")?;
    let begun = Instant::now();
    while backend.bucket(BucketKind::Object, &bucket).await?.messages > 0 {
        if begun.elapsed() > MARKS_GONE_WITHIN {
            return Err("marks of deletions stay".into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The same, as Litestream's client does.
async fn bury(server: &NatsServer) -> Outcome {
    drop(object::open(&connect(&server.url()).await?, "theirs-used").await?);
    let context = jetstream::new(async_nats_peer::connect(server.url()).await?);
    let store = &context.get_object_store("theirs-used").await?;
    stream::iter(1..=THEIRS)
        .map(|txid| async move {
            let name = format!("ltx/0/{txid:016x}-{txid:016x}.ltx");
            store.put(name.as_str(), &mut &b"a file of level 0"[..]).await?;
            store.delete(name).await?;
            Outcome::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The milliseconds of Litestream's own listing, the whole process.
async fn listed(server: &NatsServer, bucket: &str) -> Outcome<f64> {
    drop(object::open(&connect(&server.url()).await?, bucket).await?);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let url = format!("{}/{bucket}", server.url());
        let begun = Instant::now();
        let status = Peer::Litestream.command()?.arg("ltx").arg(url).status().await?;
        times.push(super::lag::millis(begun.elapsed()));
        if !status.success() {
            return Err("Litestream cannot list".into());
        }
    }
    Ok(quantile(&times, 0.5))
}
