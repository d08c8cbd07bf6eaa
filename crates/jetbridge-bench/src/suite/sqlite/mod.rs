//! Replicas of databases beside Litestream's own binary: the same file, the same server, the same
//! application, one process each. What is durable is told by the server, to a client that watches
//! the bucket and reads from the files which commits they hold.

mod arrivals;
mod database;
mod idle;
mod lag;
mod large;
mod manifest;
mod replicator;

use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use crate::Outcome;
use crate::args::Args;
use crate::measure::LITESTREAM;
use crate::report::Report;

/// Where the databases go: their bytes are on this server.
const RELEASE: Release = Release::Newest;
/// What can be asked for by `--only`.
const PARTS: [&str; 6] = ["sparse", "load", "medium", "large", "idle", "manifest"];

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    let parts = args.chosen(&PARTS)?;
    report.fact(LITESTREAM, replicator::LITESTREAM_VERSION);
    for part in parts {
        let server = NatsServer::start(RELEASE, ServerOptions::new()).await;
        match part {
            "sparse" => lag::sparse(&server, report).await?,
            "load" => lag::load(&server, report).await?,
            "medium" => large::run(&server, large::MEDIUM, report).await?,
            "large" => large::run(&server, large::LARGE, report).await?,
            "idle" => idle::run(&server, report).await?,
            _ => manifest::run(&server, report).await?,
        }
    }
    Ok(())
}
