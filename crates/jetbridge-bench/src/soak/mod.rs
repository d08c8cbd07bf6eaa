//! The soak: one `up` with a section of every kind, under load, for half an hour, while its server
//! is killed three times and its disk is full once. In the end everything that was acknowledged is
//! read back.
//!
//! The disk is full as the server sees it: it may keep [`DISK_BYTES`] in files (`max_file_store`),
//! a stream of no use takes what is left, and every write is refused until that is gone again. That
//! needs no rights on the machine, and the server does not shut JetStream down for good over it, as
//! it does when the system says that there is no room.

mod check;
mod client;
mod events;
mod ledger;
mod load;
mod memory;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::Tasks;
use jetbridge_testkit::Release;
use tokio::time::{Instant, sleep, sleep_until};

use self::client::Client;
use self::events::Events;
use self::ledger::Ledger;
use self::memory::Memory;
use self::site::Site;
use crate::{Outcome, facts};

/// How long it lasts, if nobody says.
const MINUTES_DEFAULT: u64 = 30;
/// What the server may keep in files.
const DISK_BYTES: u64 = 512 << 20;
/// How long the disk is full: this part of the time, at least and at most so long.
const FULL_PART: u32 = 10;
const FULL_MIN: Duration = Duration::from_secs(5);
const FULL_MAX: Duration = Duration::from_secs(60);
/// How long what was under way at the end of the load may take.
const LOAD_GRACE: Duration = Duration::from_secs(30);
/// Of the time, in tenths: when the server is killed, and when its disk is full.
const PLAN: [(u32, Event); 4] =
    [(2, Event::Killed), (4, Event::Killed), (6, Event::Full), (8, Event::Killed)];

/// What happens to the server.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// `kill -9`, and started again.
    Killed,
    /// It has no room left for a while.
    Full,
}

/// How long, and where files may be left for who wants to look at them.
#[derive(Debug)]
pub(crate) struct Args {
    minutes: u64,
    keep: Option<PathBuf>,
}

impl Args {
    pub(crate) fn parse(words: &[String]) -> Outcome<Self> {
        let mut args = Self { minutes: MINUTES_DEFAULT, keep: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--minutes" => args.minutes = value()?.parse::<u64>()?.max(1),
                "--keep" => args.keep = Some(PathBuf::from(value()?)),
                other => return Err(format!("`{other}` means nothing to the soak").into()),
            }
        }
        Ok(args)
    }
}

/// Runs it; an error if anything acknowledged is lost, or the memory grew.
pub(crate) async fn run(args: Args) -> Outcome {
    let time = Duration::from_secs(args.minutes * 60);
    let release = Release::Newest;
    println!(
        "soak: {} min on nats-server {}, {}, {}",
        args.minutes,
        release.version(),
        facts::machine()?,
        facts::load()?
    );
    let site = Site::open(release, args.keep).await?;
    let up = site.start().await?;
    let (client, ledger) = (Client::new(&up.address), Ledger::default());
    client.ready().await?;
    let (load, watch) = (Tasks::new(), Tasks::new());
    let memory = Memory::follow(up.pid, time, &watch);
    let events = Events::follow(client.clone(), &watch);
    load::start(&client, &site, &ledger, &load);
    let begun = Instant::now();
    for (tenths, event) in PLAN {
        sleep_until(begun + time * tenths / 10).await;
        happen(event, &site, time).await?;
    }
    sleep_until(begun + time).await;
    let left = load.stop(LOAD_GRACE).await;
    if left > 0 {
        ledger.problem("load", format!("{left} of it did not end within {LOAD_GRACE:?}"));
    }
    client.ready().await?;
    check::run(&client, &site, &ledger, begun.elapsed()).await?;
    check::events(&events, &ledger).await;
    watch.stop(LOAD_GRACE).await;
    site.end(up, &ledger).await?;
    check::database(&site, &ledger).await?;
    println!("{ledger}");
    println!("{memory}");
    for problem in memory.problems() {
        ledger.problem("memory", problem);
    }
    ledger.verdict()
}

async fn happen(event: Event, site: &Site, time: Duration) -> Outcome {
    match event {
        Event::Killed => {
            println!("the server is killed and started again");
            site.server.restart().await;
        }
        Event::Full => {
            let full = (time / FULL_PART).clamp(FULL_MIN, FULL_MAX);
            let kept = site.fill().await?;
            println!("the disk is full, by {} MiB of no use, for {full:?}", kept >> 20);
            sleep(full).await;
            site.make_room().await?;
            println!("there is room again");
        }
    }
    Ok(())
}
