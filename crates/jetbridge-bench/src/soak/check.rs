//! Reads everything back.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jetbridge_core::{Backend as _, ReadStream, StreamName};
use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::client::{Answer, Client};
use super::events::Events;
use super::ledger::Ledger;
use super::load::{BURST, RATE_PER_SECOND, object};
use super::site::{Site, text};
use crate::Outcome;

/// How long handlers and templates may take to catch up with what was acknowledged.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What `up` says of everything that was written by it, `elapsed` after the load began.
pub(super) async fn run(
    client: &Client,
    site: &Site,
    ledger: &Ledger,
    elapsed: Duration,
) -> Outcome {
    let found = |answer: Option<Answer>| answer.filter(Answer::is_success);
    for (name, _) in ledger.all("kv") {
        let answer = found(client.get(&format!("/v1/kv/config/{name}")).await);
        ledger.check("kv", &name, answer.and_then(|answer| answer.number()));
    }
    for (name, _) in ledger.all("objects") {
        let answer = found(client.get(&format!("/v1/objects/assets/{name}")).await);
        let number = answer.as_ref().and_then(whole);
        ledger.check("objects", &name, number);
    }
    for (section, path) in
        [("counter", "/v1/kv/config/counter"), ("components", "/v1/kv/hits/hits/soak")]
    {
        let answer = found(client.get(path).await);
        ledger.check_sum(section, answer.and_then(|answer| answer.number()).unwrap_or_default());
    }
    let granted: u64 = ledger.all("limits").iter().map(|(_, it)| it.acknowledged).sum();
    let most = BURST + RATE_PER_SECOND * (elapsed.as_secs() + 1);
    ledger.note("limits", format!("at most {most} may pass"));
    if granted > most {
        ledger.problem("limits", format!("{granted} passed, {most} may"));
    }
    let sign = settled(|| {
        let open = text(&site.path("sign.out.yml"));
        let open = open.strip_prefix("sign: ").map(|rest| rest.trim().trim_matches('"'));
        let open = open.and_then(|rest| rest.parse().ok());
        let last = ledger.all("templates").first().map(|(_, numbers)| numbers.last);
        (open >= last).then_some(open)
    });
    ledger.check("templates", "open", sign.await.flatten());
    messages(site, ledger).await
}

/// The number of the write that an object is of, if it is that to the last byte.
fn whole(answer: &Answer) -> Option<u64> {
    let end = answer.body.iter().position(|byte| *byte == b' ')?;
    let number = std::str::from_utf8(&answer.body[..end]).ok()?.parse().ok()?;
    (answer.body == object(number)).then_some(number)
}

/// Each message was handled, or is a dead letter.
async fn messages(site: &Site, ledger: &Ledger) -> Outcome {
    let handled =
        || -> BTreeSet<String> { text(&site.path("handled")).lines().map(str::to_owned).collect() };
    let sent = kept(ledger, "handlers");
    settled(|| sent.is_subset(&handled()).then_some(())).await;
    for name in sent.difference(&handled()) {
        ledger.problem("handlers", format!("{name} was not handled"));
    }
    let twice = text(&site.path("handled")).lines().count() - handled().len();
    ledger.note("handlers", format!("{twice} came more than once"));
    let (poison, letters) =
        (kept(ledger, "dead letters"), StreamName::parse("JETBRIDGE_DEAD_LETTERS")?);
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let read = site.store.bus().read_stream(&letters, ReadStream::all());
        let found: Vec<_> = read.try_collect().await?;
        let payload = |message: &jetbridge_core::StreamMessage| {
            String::from_utf8_lossy(&message.message.payload).trim().to_owned()
        };
        let found: BTreeSet<String> = found.iter().map(payload).collect();
        if poison.is_subset(&found) || Instant::now() > deadline {
            for name in poison.difference(&found) {
                ledger.problem("dead letters", format!("{name} is none"));
            }
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The messages of a section that a stream has.
fn kept(ledger: &Ledger, section: &'static str) -> BTreeSet<String> {
    let all = ledger.all(section).into_iter();
    all.filter(|(_, numbers)| numbers.acknowledged > 0).map(|(name, _)| name).collect()
}

/// Each message was told of, whatever happened in between.
pub(super) async fn events(events: &Events, ledger: &Ledger) {
    let mut sent = kept(ledger, "handlers");
    sent.extend(kept(ledger, "dead letters"));
    settled(|| events.missing(&sent).is_empty().then_some(())).await;
    for name in events.missing(&sent) {
        ledger.problem("handlers", format!("no event told of {name}"));
    }
    println!("events: {} messages heard, after {} ends", sent.len(), events.ends());
}

/// What `look` finds, or nothing if it does not in time.
async fn settled<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() > deadline => return None,
            None => sleep(LOOK_EVERY).await,
        }
    }
}

/// Restores the database, when `up` has shipped the last of it: every row must be there.
pub(super) async fn database(site: &Site, ledger: &Ledger) -> Outcome {
    let url = site.server.url();
    let words = ["--store", &url, "sqlite", "restore", "--bucket", "backups", "--path", "app"];
    let mut restore = site.command(&words)?;
    let output = restore.args(["-o", "copy.db"]).output().await?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ledger.problem("sqlite", format!("it cannot be restored: {words}"));
        return Ok(());
    }
    let copy = Connection::open(site.path("copy.db"))?;
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0));
    let rows = count("SELECT count(*) FROM rows")?;
    ledger.check_sum("sqlite", u64::try_from(rows)?);
    let sound: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if sound != "ok" {
        ledger.problem("sqlite", format!("the copy is not sound: {sound}"));
    }
    Ok(())
}
