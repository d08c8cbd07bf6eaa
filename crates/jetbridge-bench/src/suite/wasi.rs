//! Guests of wasi:keyvalue: what a call costs through the component ABI, counting by many hosts,
//! and requests that each are an instance of their own.

mod calls;
mod load;

use std::time::Duration;

use futures_util::future::try_join_all;
use jetbridge::Links;
use jetbridge::settings::{Environment, StoreRequest, resolve};
use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Ended, Handler, Host, HostOpts, Program};
use jetbridge_core::Tasks;
use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions, guest};
use tokio::net::TcpListener;

use crate::Outcome;
use crate::args::Args;
use crate::child::Child;
use crate::report::{Report, Row, Target};

/// How long closing takes at most.
const GRACE: Duration = Duration::from_secs(5);
/// One acknowledgement of ten.
const ACKS_LOST: AckLoss = AckLoss::Seeded { seed: 3, per_mille: 100 };

pub(super) async fn run(args: &Args, report: &mut Report) -> Outcome {
    for release in [Release::Newest, Release::Oldest] {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let on = release.version();
        counts(&server, on, report).await?;
        calls::beside_async_nats(&server, (args, on), report).await?;
        if release == Release::Newest {
            calls::round_trips(&server, on, report).await?;
            calls::hot_counter(&server.url(), on, report).await?;
        }
        calls::listing(&server.url(), on, report).await?;
        load::run(&server.url(), (on, 5_000.0), report).await?;
    }
    let directory = tempfile::tempdir()?;
    let store = format!("local:{}", directory.path().display());
    calls::embedded(&store, report).await?;
    calls::listing(&store, "embedded", report).await?;
    load::run(&store, ("embedded", 8_000.0), report).await
}

/// A guest on a store.
pub(super) struct Guest {
    host: Host,
    program: Program,
    pub(super) links: Links,
}

impl Guest {
    pub(super) async fn new(store: &str, component: &[u8]) -> Outcome<Self> {
        let environment = Environment::default();
        let request = StoreRequest::new().store(Some(store.to_owned()));
        let links = Links::new(environment.clone()).at(resolve(&request, &environment)?.location);
        let (name, properties) = Links::default_link();
        links.add(name, &properties).await?;
        let mut opts = HostOpts::default();
        opts.reuse = true;
        opts.cache = Environment::of_process().cache_directory();
        let host = Host::new(opts)?;
        let program = host.load("guest", component)?;
        Ok(Self { host, program, links })
    }

    /// Runs the command with `words`.
    pub(super) async fn run(&self, words: &[&str]) -> Outcome {
        let mut arguments: Vec<String> = vec![words[0].to_owned()];
        arguments.extend(words[1..].iter().map(|word| (*word).to_owned()));
        let ctx = KeyvalueCtx::new(self.links.stores().clone());
        match self.program.run(ctx, &arguments).await? {
            Ended::Well => Ok(()),
            other => Err(format!("{words:?}: the guest ended with {other:?}").into()),
        }
    }

    pub(super) async fn close(self) {
        self.links.close(GRACE).await;
        self.host.close(GRACE).await;
    }
}

/// One host that runs a command, for the processes that count.
pub(crate) async fn guest(store: &str, words: &[String]) -> Outcome {
    let guest = Guest::new(store, &guest::command()).await?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    guest.run(&words).await?;
    guest.close().await;
    Ok(())
}

/// Answers HTTP until the process is killed.
pub(crate) async fn serve(store: &str) -> Outcome {
    let guest = Guest::new(store, &guest::http()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let tasks = Tasks::new();
    let ctx = KeyvalueCtx::new(guest.links.stores().clone());
    let handler = Handler::new(guest.program.clone(), ctx, &tasks)?;
    jetbridge::wasi::host::serve(handler, listener, &tasks).await;
    Ok(())
}

/// Processes that count on one key: how many increments were accepted, and whether each sum came
/// once.
async fn counts(server: &NatsServer, on: &str, report: &mut Report) -> Outcome {
    for (hosts, steps) in [(8, 50), (32, 25)] {
        let total = hosts * steps;
        for before in [0, 1] {
            let kind = if before == 0 { "fresh" } else { "existing" };
            let name = format!("{hosts} hosts × {steps} increments, {kind} key: exact sums");
            let key = format!("{kind}-{hosts}");
            if before > 0 {
                count(&server.url(), (1, before), (&key, 0)).await?;
            }
            let exact = count(&server.url(), (hosts, steps), (&key, before)).await?;
            report.add(Row::alone(&name, "", on, exact).target(Target::AtLeast(total as f64)));
        }
    }
    let proxy = Proxy::start(server.address()).await;
    let url = format!("{}?request_timeout=1s", proxy.url());
    count(&url, (1, 1), ("lossy", 0)).await?;
    proxy.lose_acks(ACKS_LOST);
    let exact = count(&url, (8, 50), ("lossy", 1)).await?;
    let name = "8 hosts × 50 increments, 10 % of acknowledgements lost: exact sums";
    report.add(Row::alone(name, "", on, exact).target(Target::AtLeast(400.0)));
    report.add(Row::alone("acknowledgements lost to these", "", on, proxy.acks_lost() as f64));
    Ok(())
}

/// How many of the sums behind `before` came, each once: as many as were accepted if none is
/// missing or double.
async fn count(
    store: &str,
    (hosts, steps): (usize, usize),
    (key, before): (&str, usize),
) -> Outcome<f64> {
    let steps = steps.to_string();
    let words = ["add", "default", key, &steps].map(str::to_owned).to_vec();
    let processes = (0..hosts).map(|_| async {
        let child = Child::Guest { store: store.to_owned(), words: words.clone() }.spawn()?;
        let said = child.wait_with_output().await?;
        said.status.success().then_some(()).ok_or("a host failed")?;
        Outcome::Ok(String::from_utf8(said.stdout)?)
    });
    let said = try_join_all(processes).await?;
    let mut sums = Vec::new();
    for line in said.iter().flat_map(|said| said.lines()) {
        sums.push(line.parse::<usize>()?);
    }
    sums.sort_unstable();
    let exact = sums.iter().zip(before + 1..).filter(|(sum, wanted)| **sum == *wanted).count();
    Ok(exact as f64)
}
