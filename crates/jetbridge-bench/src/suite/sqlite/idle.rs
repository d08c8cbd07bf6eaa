//! Many databases to which nobody writes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use jetbridge_core::Scope;
use jetbridge_testkit::NatsServer;

use super::database::Application;
use super::replicator::{Peer, Replicator, entry};
use crate::measure::Series;
use crate::report::{Report, Row, Target};
use crate::suite::{connect, object};
use crate::{Outcome, facts};

/// Databases of ours.
const OURS: usize = 1000;
/// Of Litestream's, which takes a bucket and a connection for each.
const THEIRS: usize = 100;
/// How long all of them may take to be stored.
const PATIENCE: Duration = Duration::from_secs(120);
/// What both do behind a first backup is done by then.
const SETTLE: Duration = Duration::from_secs(40);
/// How long they are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// What all may take: 64 MiB and 128 KiB each.
const MEMORY_MIB_MAX: f64 = 64.0 + 125.0;

pub(super) async fn run(server: &NatsServer, report: &mut Report) -> Outcome {
    let on = server.release().version();
    for (peer, count) in [(Peer::Ours, OURS), (Peer::Litestream, THEIRS)] {
        let dir = tempfile::tempdir()?;
        for number in 0..count {
            Application::open(&dir.path().join(format!("{number:04}.db")))?.commit()?;
        }
        let replicator = begin(server, peer, dir.path(), count).await?;
        tokio::time::sleep(SETTLE).await;
        let percent = replicator.processor_seconds(LOOK).await? / LOOK.as_secs_f64() * 100.0;
        let now = facts::memory_kib(replicator.pid, facts::Memory::Now)? as f64 / 1024.0;
        let series = |figure| vec![Series { name: peer.name(), figures: vec![figure] }];
        let row = |name: &str, unit, figure| Row::new(name, unit, on, series(figure));
        let processor = row(&format!("{count} idle databases, processor"), "%", percent);
        let memory = row("of these, memory", "MiB", now);
        let (processor, memory) = match peer {
            Peer::Litestream => (processor, memory),
            Peer::Ours => (
                processor.target(Target::AtMost(1.0)),
                memory.target(Target::AtMost(MEMORY_MIB_MAX)),
            ),
        };
        report.add(processor);
        report.add(memory);
        replicator.end().await?;
    }
    Ok(())
}

/// Starts a replicator, and returns when the first state of each database is stored.
async fn begin(server: &NatsServer, peer: Peer, dir: &Path, count: usize) -> Outcome<Replicator> {
    let backend = connect(&server.url()).await?;
    let (mut dbs, mut buckets) = (String::new(), Vec::new());
    match peer {
        Peer::Ours => {
            buckets.push(object::open(&backend, peer.bucket()).await?);
            // A `String` takes whatever is written to it.
            let _written = write!(
                dbs,
                "  - dir: {}\n    pattern: '*.db'\n    replica: {{type: nats, url: '{}/{}', \
                 path: idle}}\n",
                dir.display(),
                server.url(),
                peer.bucket()
            );
        }
        Peer::Litestream => {
            for number in 0..count {
                let bucket = format!("{}-{number:04}", peer.bucket());
                buckets.push(object::open(&backend, &bucket).await?);
                let path = dir.join(format!("{number:04}.db"));
                dbs.push_str(&entry(&path, &server.url(), &bucket));
            }
        }
    }
    let replicator = Replicator::start(peer, dir, &dbs)?;
    let deadline = Instant::now() + PATIENCE;
    let mut stored = 0;
    while stored < count {
        if Instant::now() > deadline {
            return Err(format!("{stored} of {count} databases are stored").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stored = 0;
        for bucket in &buckets {
            let names: Vec<_> = bucket.list(Scope::All).try_collect().await?;
            let captured = |it: &&jetbridge_core::ObjectInfo| it.name.as_str().contains("ltx/0/");
            stored += names.iter().filter(captured).count();
        }
    }
    Ok(replicator)
}
