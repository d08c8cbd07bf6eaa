//! From a change in a store to a new file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jetbridge::StoreSources;
use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{Event, RenderSpec, Renderer};
use jetbridge_core::{Backend as _, Key, Kv, PutOpts, Tasks};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use tokio::sync::mpsc;

use super::{bucket, connect, ensure};
use crate::Outcome;
use crate::args::Args;
use crate::measure::{Contender, OURS, quantile, rounds};
use crate::report::{Report, Row, Target};

/// Changes of one run.
const CHANGES: usize = 100;
/// How long a file may take before it is lost.
const FILE_WITHIN: Duration = Duration::from_secs(10);
/// How long the renderer may take to end.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The median time from a put until the renderer has put the new file in place, synced.
pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let store = connect(&server.url()).await?;
        let kv = store.kv(&bucket("config")?, ensure()).await?;
        let key = Key::parse("v")?;
        kv.put(&key, "before".into(), PutOpts::new()).await?;
        let folder = tempfile::tempdir()?;
        let (tasks, mut events) = follow(&server, folder.path())?;
        written(&mut events).await?;
        let events = Arc::new(tokio::sync::Mutex::new(events));
        let (kv, key) = (&kv, &key);
        let contenders = vec![Contender::new(OURS, |round| {
            let events = Arc::clone(&events);
            Box::pin(async move { changes(&**kv, key, &mut *events.lock().await, round).await })
        })];
        let series = rounds(args.rounds, contenders).await?;
        let row = Row::new("change of a key → new file, p50", "ms", release.version(), series);
        report.add(row.target(Target::AtMost(10.0)));
        tasks.stop(STOP_GRACE).await;
    }
    Ok(())
}

type Events = mpsc::UnboundedReceiver<Event>;

/// Starts a renderer, with no time to gather changes.
fn follow(server: &NatsServer, folder: &Path) -> Outcome<(Tasks, Events)> {
    let (from, to) = (folder.join("t.yml"), folder.join("app.yml"));
    std::fs::write(&from, "v: (( nats \"kv:config/v\" ))\n")?;
    let request = StoreRequest::new().store(Some(server.url()));
    let sources = Arc::new(StoreSources::new(request, Environment::default()).in_background());
    let mut renderer = Renderer::new(RenderSpec::new(vec![from], to), sources);
    let (sender, events) = mpsc::unbounded_channel();
    let tasks = Tasks::new();
    tasks.spawn_until_stop(async move {
        let never = std::future::pending();
        // Nobody hears the events behind the last run.
        renderer.follow(never, |event| sender.send(event).unwrap_or_default()).await;
    });
    Ok((tasks, events))
}

/// The median of one run, in milliseconds.
async fn changes(kv: &dyn Kv, key: &Key, events: &mut Events, round: usize) -> Outcome<f64> {
    let mut figures = Vec::with_capacity(CHANGES);
    for number in 0..CHANGES {
        let begin = Instant::now();
        kv.put(key, format!("{round}.{number}").into(), PutOpts::new()).await?;
        written(events).await?;
        figures.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(quantile(&figures, 0.5))
}

async fn written(events: &mut Events) -> Outcome {
    let next = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Rendered(rendering) if rendering.written => return Ok(()),
                _ => {}
            }
        }
        Err("the renderer ended".into())
    };
    tokio::time::timeout(FILE_WITHIN, next).await.map_err(|_elapsed| "no file was written")?
}
