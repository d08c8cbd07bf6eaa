//! `kill -9` at random, of whoever writes and of whoever replicates: whatever is restored is the
//! history up to some transaction, and holds all that were acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jetbridge_sqlite::capture::Capture;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::child::{Child, say};
use super::folder::Folder;
use super::history::{History, Judge};
use super::source::{DEADLINE, Source, database_in, options};

/// Cycles in the normal suite, and in the slow one.
const CYCLES: usize = 25;

/// Answers each `sync` once what is committed is in the replica.
pub(crate) async fn replicate(dir: &Path) {
    let mut options = options(dir);
    options.checkpoint_pages = 40;
    options.log_bytes_max = 512 << 10;
    let folder = Arc::new(Folder::new(&dir.join("replica")));
    let capture = Capture::start(options, folder).await.unwrap();
    say("begun");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await.unwrap().is_some() {
        let synced = tokio::time::timeout(DEADLINE, capture.sync()).await;
        say(synced.expect("a sync in time").unwrap());
    }
}

/// Commits the history, on and on, and says how far it came after each commit.
pub(crate) fn write(dir: &Path) {
    let mut history = History::go_on(&database_in(dir));
    loop {
        history.step();
        say(history.at);
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

struct Run {
    source: Source,
    judge: Judge,
    writer: Option<Child>,
    replicator: Option<Child>,
    written: u64,
    acknowledged: u64,
}

impl Run {
    fn new() -> Self {
        let source = Source::new();
        drop(History::begin(&source.path()));
        let judge = Judge::new();
        Self { source, judge, writer: None, replicator: None, written: 0, acknowledged: 0 }
    }

    fn cycle(&mut self, random: u32) {
        let dir = self.source.dir().to_owned();
        let writer = self.writer.get_or_insert_with(|| Child::start("write", &dir));
        let replicator = self.replicator.get_or_insert_with(|| {
            let mut child = Child::start("replicate", &dir);
            assert_eq!(child.line(), "begun");
            child
        });
        // Whatever they do when the moment comes.
        std::thread::sleep(Duration::from_millis(u64::from(random % 120)));
        if random & 0x80 != 0 || self.acknowledged == 0 {
            if let Some(last) = writer.said().last() {
                self.written = last.parse().unwrap();
            }
            replicator.tell("sync");
            replicator.line();
            self.acknowledged = self.written;
            std::thread::sleep(Duration::from_millis(u64::from(random >> 8 & 0x1f)));
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
        self.judge_restore();
    }

    fn judge_restore(&mut self) {
        let restored = self.source.dir().join("restored.db");
        for suffix in ["", "-wal", "-shm"] {
            let name = format!("{}{suffix}", restored.display());
            std::fs::remove_file(name).unwrap_or_default();
        }
        self.source.folder.restore(&restored);
        let found = self.judge.number_of(&restored);
        assert!(found >= self.acknowledged, "{found} of {}", self.acknowledged);
    }

    /// In the end everything is there.
    fn finish(mut self) {
        drop(self.writer.take());
        drop(self.replicator.take());
        let at = History::go_on(&self.source.path()).at;
        let still = self.source.stilled();
        let mut replicator = Child::start("replicate", self.source.dir());
        assert_eq!(replicator.line(), "begun");
        replicator.tell("sync");
        replicator.line();
        self.acknowledged = at;
        self.judge_restore();
        self.source.compare(&still);
    }
}

fn kill_at_random(cycles: usize) {
    let mut run = Run::new();
    for cycle in 0..cycles {
        run.cycle(scattered(cycle as u64));
    }
    run.finish();
}

/// Bits that look like chance and are the same in every run (SplitMix64).
fn scattered(seed: u64) -> u32 {
    let mut bits = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 32) as u32
}

#[test]
fn what_was_acknowledged_outlives_every_kill() {
    kill_at_random(CYCLES);
}

mod slow {
    #[test]
    fn what_was_acknowledged_outlives_200_kills() {
        super::kill_at_random(200);
    }
}
