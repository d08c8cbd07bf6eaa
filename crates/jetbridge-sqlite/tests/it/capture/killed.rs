//! `kill -9` at random, of whoever writes, of whoever replicates, and of the server: whatever is
//! restored is the history up to some transaction, and holds all that were acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backend as _, BucketName, BucketSpec, ErrorKind, Open};
use jetbridge_nats::NatsBackend;
use jetbridge_sqlite::Replication;
use jetbridge_sqlite::capture::{Capture, Options};
use jetbridge_sqlite::restore::{self, Overwrite};
use jetbridge_sqlite::store::Replica;
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_testkit::process::{Process, say};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::Instant;

use super::child::ROLES;
use super::folder::Folder;
use super::history::{History, Judge};
use super::source::{DEADLINE, Source, database_in, options};
use crate::rig::{BUCKET, connect};

/// Cycles in the normal suite; in the slow one there are 200.
const CYCLES: u64 = 20;
const CYCLES_ON_A_SERVER: u64 = 15;
/// Where a child finds the server.
pub(crate) const URL_FILE: &str = "url";

/// Between two commits, so that the history is a small one.
const COMMIT_PAUSE: Duration = Duration::from_millis(2);
/// Cycles after which old files of a folder are merged, and how many of the newest are not.
const THIN_AFTER: u64 = 10;
const THIN_KEEPS: usize = 200;

/// Replicates into a folder.
pub(crate) async fn replicate(dir: &Path) {
    let folder = Arc::new(Folder::new(&dir.join("replica")));
    let capture = Capture::start(hurried(dir), folder).await.unwrap();
    answer_syncs(async || {
        let synced = tokio::time::timeout(DEADLINE, capture.sync()).await;
        let late = || format!("a sync in time: {:?}", *capture.status().borrow());
        synced.unwrap_or_else(|_elapsed| panic!("{}", late())).unwrap()
    })
    .await;
}

/// Replicates into a bucket of the server that a file of the directory names, and keeps the files
/// few: merges, snapshots and deletions are what is killed too.
pub(crate) async fn replicate_nats(dir: &Path) {
    let url = std::fs::read_to_string(dir.join(URL_FILE)).unwrap();
    let (_backend, replica) = replica_at(&url).await;
    let mut upkeep = UpkeepOptions::default();
    upkeep.levels = [1, 2, 4].map(Duration::from_secs).to_vec();
    upkeep.snapshot_interval = Duration::from_secs(3);
    upkeep.snapshot_retention = Duration::from_secs(1);
    upkeep.captured_retention = Duration::from_secs(1);
    upkeep.captured_check = Duration::from_secs(1);
    let running = Replication::start(hurried(dir), replica, upkeep).await.unwrap();
    answer_syncs(async || {
        let synced = tokio::time::timeout(DEADLINE, running.sync()).await;
        let late = || format!("a sync in time: {:?}", *running.status().borrow());
        synced.unwrap_or_else(|_elapsed| panic!("{}", late())).unwrap()
    })
    .await;
}

fn hurried(dir: &Path) -> Options {
    let mut options = options(dir);
    options.checkpoint_pages = 40;
    options.log_bytes_max = 512 << 10;
    options
}

/// Answers each `sync` once what is committed is in the replica.
async fn answer_syncs(sync: impl AsyncFn() -> jetbridge_sqlite::Txid) {
    say("begun");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await.unwrap().is_some() {
        say(sync().await);
    }
}

pub(crate) async fn replica_at(url: &str) -> (NatsBackend, Replica) {
    let backend = connect(url).await;
    let bucket = BucketName::parse(BUCKET).unwrap();
    let objects = backend.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    (backend, Replica::new(objects, ""))
}

/// Commits the history, on and on, and says how far it came after each commit.
pub(crate) fn write(dir: &Path) {
    let mut history = History::go_on(&database_in(dir));
    loop {
        history.step();
        say(history.at);
        std::thread::sleep(COMMIT_PAUSE);
        if history.at.is_multiple_of(60) {
            history.aside("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

/// What happens to the database while nobody replicates it.
fn meddle(source: &Source, choice: u32) {
    let mut history = History::go_on(&source.path());
    let aside = match choice % 6 {
        0 => "PRAGMA wal_checkpoint(PASSIVE)",
        1 => "PRAGMA wal_checkpoint(RESTART)",
        2 => "PRAGMA wal_checkpoint(TRUNCATE)",
        3 => "VACUUM",
        4 => "PRAGMA journal_mode = DELETE",
        _ => return,
    };
    for _ in 0..choice / 6 % 20 {
        history.step();
    }
    history.aside(aside);
    for _ in 0..choice / 120 % 20 {
        history.step();
    }
}

/// Where the replica is.
enum Place {
    Folder,
    Nats(Box<Bucket>),
}

struct Bucket {
    server: NatsServer,
    _backend: NatsBackend,
    replica: Replica,
}

impl Place {
    async fn nats(release: Release, dir: &Path) -> Self {
        let server = NatsServer::start(release, ServerOptions::default()).await;
        std::fs::write(dir.join(URL_FILE), server.url()).unwrap();
        let (backend, replica) = replica_at(&server.url()).await;
        Self::Nats(Box::new(Bucket { server, _backend: backend, replica }))
    }

    fn role(&self) -> &'static str {
        match self {
            Self::Folder => "replicate",
            Self::Nats(_) => "replicate_nats",
        }
    }

    /// Kills the server, if there is one, and starts it again a while later.
    async fn restart(&self, pause: Duration) {
        if let Self::Nats(bucket) = self {
            bucket.server.kill();
            tokio::time::sleep(pause).await;
            bucket.server.restart().await;
        }
    }

    async fn restore(&self, source: &Source, output: &Path) {
        let replica = match self {
            Self::Folder => {
                source.folder.restore(output);
                return;
            }
            Self::Nats(bucket) => &bucket.replica,
        };
        let mut options = restore::Options::new(output);
        options.overwrite = Overwrite::Yes;
        let deadline = Instant::now() + DEADLINE;
        // A server that was killed a moment ago is waited for; what it has must be right.
        while let Err(error) = restore::restore(replica, &options, &|_bytes| ()).await {
            let waiting = error.kind() == ErrorKind::Unavailable && Instant::now() < deadline;
            assert!(waiting, "{error:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

struct Run {
    source: Source,
    place: Place,
    judge: Judge,
    writer: Option<Process>,
    replicator: Option<Process>,
    written: u64,
    acknowledged: u64,
    cycles_unthinned: u64,
}

impl Run {
    fn new(source: Source, place: Place) -> Self {
        drop(History::begin(&source.path()));
        let judge = Judge::new();
        let (writer, replicator) = (None, None);
        Self {
            source,
            place,
            judge,
            writer,
            replicator,
            written: 0,
            acknowledged: 0,
            cycles_unthinned: 0,
        }
    }

    async fn cycle(&mut self, random: u32) {
        let dir = self.source.dir().to_owned();
        let role = self.place.role();
        let writer = self.writer.get_or_insert_with(|| ROLES.start("write", &dir));
        let replicator = self.replicator.get_or_insert_with(|| begun(role, &dir));
        // Whatever they do when the moment comes.
        tokio::time::sleep(Duration::from_millis(u64::from(random % 120))).await;
        if random & 0x80 != 0 || self.acknowledged == 0 {
            if let Some(last) = writer.said().last() {
                self.written = last.parse().unwrap();
            }
            replicator.tell("sync");
            replicator.line();
            self.acknowledged = self.written;
            tokio::time::sleep(Duration::from_millis(u64::from(random >> 8 & 0x1f))).await;
        }
        if random >> 13 & 3 == 0 {
            self.place.restart(Duration::from_millis(u64::from(random >> 24))).await;
        }
        let victims = random >> 16 & 3;
        if victims != 1
            && let Some(replicator) = self.replicator.take()
        {
            replicator.kill();
        }
        if victims != 0
            && let Some(writer) = self.writer.take()
        {
            writer.kill();
            if self.replicator.is_none() {
                meddle(&self.source, random >> 18);
            }
        }
        self.judge_restore().await;
        // What lies far behind is one file again, as upkeep does on a server.
        if self.replicator.is_none() {
            self.cycles_unthinned += 1;
        }
        if self.cycles_unthinned >= THIN_AFTER {
            self.cycles_unthinned = 0;
            self.source.folder.thin(THIN_KEEPS, &self.source.dir().join("thinned.db"));
        }
    }

    async fn judge_restore(&mut self) {
        let restored = self.source.dir().join("restored.db");
        for suffix in ["", "-wal", "-shm"] {
            let name = format!("{}{suffix}", restored.display());
            std::fs::remove_file(name).unwrap_or_default();
        }
        self.place.restore(&self.source, &restored).await;
        let found = self.judge.number_of(&restored);
        assert!(found >= self.acknowledged, "{found} of {}", self.acknowledged);
    }

    /// In the end everything is there.
    async fn finish(mut self) {
        drop(self.writer.take());
        drop(self.replicator.take());
        let at = History::go_on(&self.source.path()).at;
        let mut replicator = begun(self.place.role(), self.source.dir());
        // The first sync may have to switch to WAL mode, which needs the lock.
        replicator.tell("sync");
        replicator.line();
        let still = self.source.stilled();
        replicator.tell("sync");
        replicator.line();
        self.acknowledged = at;
        self.judge_restore().await;
        self.source.compare_with(&self.source.dir().join("restored.db"), &still);
    }

    async fn kill_at_random(mut self, cycles: u64) {
        for cycle in 0..cycles {
            self.cycle(scattered(cycle)).await;
        }
        self.finish().await;
    }
}

fn begun(role: &str, dir: &Path) -> Process {
    let mut child = ROLES.start(role, dir);
    assert_eq!(child.line(), "begun");
    child
}

async fn in_a_folder(cycles: u64) {
    Run::new(Source::new(), Place::Folder).kill_at_random(cycles).await;
}

async fn on_a_server(release: Release, cycles: u64) {
    let source = Source::new();
    let place = Place::nats(release, source.dir()).await;
    Run::new(source, place).kill_at_random(cycles).await;
}

/// Bits that look like chance and are the same in every run (SplitMix64).
pub(crate) fn scattered(seed: u64) -> u32 {
    let mut bits = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 32) as u32
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_every_kill() {
    in_a_folder(CYCLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_server_too() {
    on_a_server(Release::Newest, CYCLES_ON_A_SERVER).await;
}

mod slow {
    use jetbridge_testkit::Release;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_outlives_200_kills() {
        super::in_a_folder(200).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_outlives_200_kills_of_servers_too() {
        super::on_a_server(Release::Newest, 200).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_outlives_100_kills_of_the_oldest_server_too() {
        super::on_a_server(Release::Oldest, 100).await;
    }
}
