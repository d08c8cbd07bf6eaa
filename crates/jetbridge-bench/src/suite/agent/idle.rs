//! A process with one of each section to which nothing happens: how soon it is ready, and what it
//! takes.

use rusqlite::Connection;

use jetbridge_testkit::guest;

use super::up::Up;
use super::{EMBEDDED, Sizes};
use crate::measure::quantile;
use crate::report::{Report, Row, Target};
use crate::{Outcome, facts};

const FILE: &str = "
buckets: {settings: {}, hits: {}, backups: {kind: object}}
handlers: [{subject: 'orders.>', stream: ORDERS, durable: clerk, run: [cat]}]
templates: [{from: sign.t, to: sign.yml, wait: '0s..1s'}]
dbs: [{path: shop.db, replica: {bucket: backups}}]
limiters: {api: {rate_per_second: 100.0, burst: 20}}
components: [{name: hits, wasm: hits.wasm, route: /hits, links: {default: {bucket: hits}}}]
";

/// A folder with what the file names.
fn folder() -> Outcome<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("sign.t"), "open: (( nats \"kv:settings/open\" || \"9 to 5\" ))\n")?;
    std::fs::write(path("hits.wasm"), guest::http())?;
    let database = Connection::open(path("shop.db"))?;
    database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id)")?;
    Ok(folder)
}

pub(super) async fn run((store, on): (&str, &str), sizes: Sizes, report: &mut Report) -> Outcome {
    let mut times = Vec::new();
    for start in 0..sizes.starts {
        let up = Up::start_in(folder()?, store, FILE).await?;
        times.push(up.ready_after.as_secs_f64() * 1e3);
        if start + 1 == sizes.starts {
            rest(&up, on, sizes, report).await?;
        }
        up.end().await?;
    }
    let row = Row::alone("start to ready, one of each section", "ms", on, quantile(&times, 0.5));
    report.add(if on == EMBEDDED { row.target(Target::AtMost(150.0)) } else { row });
    Ok(())
}

/// What it takes while nothing happens.
async fn rest(up: &Up, on: &str, sizes: Sizes, report: &mut Report) -> Outcome {
    tokio::time::sleep(sizes.settle).await;
    let before = facts::processor_seconds(up.pid)?;
    tokio::time::sleep(sizes.look).await;
    let used = facts::processor_seconds(up.pid)? - before;
    let percent = used / sizes.look.as_secs_f64() * 100.0;
    let memory = facts::memory_kib(up.pid, facts::Memory::Now)? as f64 / 1024.0;
    let row = Row::alone("idle, one of each section: processor", "%", on, percent);
    report.add(row.target(Target::AtMost(0.5)));
    let row = Row::alone("idle, one of each section: memory", "MiB", on, memory);
    report.add(row.target(Target::AtMost(40.0)));
    Ok(())
}
