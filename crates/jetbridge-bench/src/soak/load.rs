//! The load: somebody at work on every section, who writes down what was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jetbridge_core::Tasks;
use rusqlite::Connection;
use tokio::time::sleep;

use super::client::{Answer, Client};
use super::ledger::Ledger;
use super::site::Site;

/// How much the limiter of the file gives.
pub(super) const RATE_PER_SECOND: u64 = 50;
pub(super) const BURST: u64 = 50;
/// Who write keys, and how many each.
const KEY_WRITERS: usize = 4;
const KEYS_EACH: u64 = 50;
/// Who write objects, and how many each.
const OBJECT_WRITERS: usize = 2;
const OBJECTS_EACH: u64 = 8;
/// Bytes of an object: from the least on, up to so many more.
const OBJECT_BYTES_MIN: u64 = 16 << 10;
const OBJECT_BYTES_MORE: u64 = 512 << 10;
/// Between two messages, settings, commits, calls of a component and permits.
const MESSAGE_EVERY: Duration = Duration::from_millis(50);
const SETTING_EVERY: Duration = Duration::from_millis(500);
const COMMIT_EVERY: Duration = Duration::from_millis(20);
const CALL_EVERY: Duration = Duration::from_millis(20);
const PERMIT_EVERY: Duration = Duration::from_millis(10);
/// Between two operations of somebody who goes on at once.
const BREATH: Duration = Duration::from_millis(1);
/// How long who was refused waits.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Every so many messages, one is poison; one in so many fails the first time.
const POISON_EVERY: u64 = 40;
const FLAKY_EVERY: u64 = 7;

/// Who is at work.
#[derive(Clone, Debug)]
struct Worker {
    client: Client,
    ledger: Ledger,
    tasks: Tasks,
}

/// Starts it all; it ends when `tasks` stop.
pub(super) fn start(client: &Client, site: &Site, ledger: &Ledger, tasks: &Tasks) {
    let worker = Worker { client: client.clone(), ledger: ledger.clone(), tasks: tasks.clone() };
    for number in 0..KEY_WRITERS {
        tasks.spawn(worker.clone().keys(number));
    }
    for number in 0..OBJECT_WRITERS {
        tasks.spawn(worker.clone().objects(number));
    }
    tasks.spawn(worker.clone().counter());
    tasks.spawn(worker.clone().messages());
    tasks.spawn(worker.clone().setting());
    tasks.spawn(worker.clone().calls());
    tasks.spawn(worker.clone().permits());
    tasks.spawn(worker.rows(Arc::new(site.path("app.db"))));
}

impl Worker {
    /// One write: tried, asked, written down, and then a pause.
    async fn write(
        &self,
        (section, name): (&'static str, &str),
        (method, path): (Method, &str),
        body: impl FnOnce(u64) -> Bytes,
        pause: Duration,
    ) -> Option<Answer> {
        let number = self.ledger.try_next(section, name);
        let answer = self.client.ask(method, path, body(number)).await;
        let is_done = answer.as_ref().is_some_and(Answer::is_success);
        if is_done {
            self.ledger.acknowledged(section, name, number);
        }
        sleep(if is_done { pause } else { REFUSED_PAUSE }).await;
        answer
    }

    /// Writes keys of its own in turn, and reads one now and then.
    async fn keys(self, writer: usize) {
        let mut turn = 0;
        while !self.tasks.is_stopping() {
            let name = format!("w{writer}/k{:02}", turn % KEYS_EACH);
            let path = format!("/v1/kv/config/{name}");
            self.write(("kv", &name), (Method::PUT, &path), value, BREATH).await;
            if turn % 10 == 9
                && let Some(answer) = self.client.get(&path).await
                && answer.is_success()
            {
                self.ledger.check("kv", &name, answer.number());
            }
            turn += 1;
        }
    }

    async fn objects(self, writer: usize) {
        let mut turn = 0;
        while !self.tasks.is_stopping() {
            let name = format!("o{writer}.{}", turn % OBJECTS_EACH);
            let path = format!("/v1/objects/assets/{name}");
            self.write(("objects", &name), (Method::PUT, &path), object, BREATH).await;
            turn += 1;
        }
    }

    async fn counter(self) {
        while !self.tasks.is_stopping() {
            let path = "/v1/kv/config/counter:increment";
            self.write(("counter", "n"), (Method::POST, path), nothing, BREATH).await;
        }
    }

    /// Sends messages that are kept; each has a name of its own.
    async fn messages(self) {
        let mut turn = 0;
        while !self.tasks.is_stopping() {
            let (section, kind) = match turn {
                turn if turn % POISON_EVERY == POISON_EVERY - 1 => ("dead letters", "poison"),
                turn if turn % FLAKY_EVERY == FLAKY_EVERY - 1 => ("handlers", "flaky"),
                _ => ("handlers", "plain"),
            };
            let name = format!("{kind}-{turn}");
            let path = format!("/v1/publish/orders.c{}?jetstream=1&id={name}", turn % 5);
            let body = |_number| Bytes::from(format!("{name}\n"));
            self.write((section, &name), (Method::POST, &path), body, MESSAGE_EVERY).await;
            turn += 1;
        }
    }

    /// Changes what the template shows.
    async fn setting(self) {
        while !self.tasks.is_stopping() {
            let path = "/v1/kv/settings/open";
            self.write(("templates", "open"), (Method::PUT, path), number, SETTING_EVERY).await;
        }
    }

    async fn calls(self) {
        while !self.tasks.is_stopping() {
            let path = "/hits/soak";
            self.write(("components", "hits"), (Method::GET, path), nothing, CALL_EVERY).await;
        }
    }

    /// Takes permits; a denial is an answer too, and no more than that.
    async fn permits(self) {
        while !self.tasks.is_stopping() {
            let path = "/v1/limits/api/acquire";
            let asked = ("limits", "api");
            self.write(asked, (Method::POST, path), nothing, PERMIT_EVERY).await;
        }
    }

    /// Commits rows to the database; a commit is acknowledged by SQLite.
    async fn rows(self, path: Arc<std::path::PathBuf>) {
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        let Ok(Ok(database)) = opened else {
            return self.ledger.problem("sqlite", format!("it cannot be opened: {opened:?}"));
        };
        let mut database = Some(database);
        while !self.tasks.is_stopping() {
            let Some(mut connection) = database.take() else { return };
            let number = self.ledger.try_next("sqlite", "rows");
            let inserted = tokio::task::spawn_blocking(move || {
                let inserted = insert(&mut connection, number);
                (connection, inserted)
            });
            match inserted.await {
                Ok((connection, Ok(()))) => {
                    self.ledger.acknowledged("sqlite", "rows", number);
                    database = Some(connection);
                }
                Ok((connection, Err(error))) => {
                    self.ledger.problem("sqlite", format!("row {number}: {error}"));
                    database = Some(connection);
                }
                Err(error) => self.ledger.problem("sqlite", error.to_string()),
            }
            sleep(COMMIT_EVERY).await;
        }
    }
}

fn open(path: &std::path::Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(30))?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT)", [])?;
    Ok(database)
}

fn insert(database: &mut Connection, number: u64) -> rusqlite::Result<()> {
    let id = i64::try_from(number).unwrap_or(i64::MAX);
    database.execute("INSERT INTO rows VALUES (?1, ?2)", (id, format!("row {number}")))?;
    Ok(())
}

fn nothing(_number: u64) -> Bytes {
    Bytes::new()
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

/// A value that says which write it is of.
fn value(number: u64) -> Bytes {
    Bytes::from(format!("{number:<128}"))
}

/// The object that write `number` puts: its size and each of its bytes follow from that.
pub(super) fn object(number: u64) -> Bytes {
    let size = OBJECT_BYTES_MIN + number.wrapping_mul(7919) % OBJECT_BYTES_MORE;
    let mut bytes = format!("{number} ").into_bytes();
    let fill = u8::try_from(number % 251).unwrap_or_default();
    bytes.resize(usize::try_from(size).unwrap_or_default(), fill);
    Bytes::from(bytes)
}
