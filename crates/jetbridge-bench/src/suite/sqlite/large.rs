//! Large databases: the first backup and its memory, what goes on behind it, and the way back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jetbridge_testkit::NatsServer;
use tokio::process::Command;

use super::arrivals::Arrivals;
use super::database;
use super::replicator::{Peer, Replicator, entry};
use crate::measure::{LITESTREAM, Series};
use crate::report::{Report, Row, Target};
use crate::suite::{connect, object};
use crate::{Outcome, facts};

/// One that Litestream restores.
pub(super) const MEDIUM: Size = Size { bytes: 308_000_000, name: "308 MB" };
/// One that it mostly does not.
pub(super) const LARGE: Size = Size { bytes: 1_850_000_000, name: "1.85 GB" };
/// How long a first backup may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a database is restored into memory.
const RESTORES: usize = 3;
/// How long the replicator is looked at behind its first backup: a fifth of the five minutes.
const BEHIND: Duration = Duration::from_secs(60);
/// Where what is written need not reach a disk: the yardstick of restoring alone.
const IN_MEMORY: &str = "/dev/shm";
const MB: f64 = 1e6;

/// About how many bytes of database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    bytes: u64,
    name: &'static str,
}

pub(super) async fn run(server: &NatsServer, size: Size, report: &mut Report) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("large.db");
    let (made, about) = (path.clone(), size.bytes);
    let bytes = tokio::task::spawn_blocking(move || database::large(&made, about)).await??;
    let is_largest = size.bytes == LARGE.bytes;
    let size = size.name;
    let large = Large { server, dir: dir.path(), path, bytes, size, is_largest };
    large.backups(report).await?;
    large.restores(report).await
}

struct Large<'a> {
    server: &'a NatsServer,
    dir: &'a Path,
    path: PathBuf,
    bytes: u64,
    size: &'static str,
    is_largest: bool,
}

impl Large<'_> {
    fn bucket(&self, peer: Peer) -> String {
        format!("{}-{}", peer.bucket(), self.bytes)
    }

    fn on(&self) -> &'static str {
        self.server.release().version()
    }

    async fn backups(&self, report: &mut Report) -> Outcome {
        let (mut took, mut memory, mut behind) = (Vec::new(), Vec::new(), Vec::new());
        let is_largest = self.is_largest;
        for peer in Peer::BOTH {
            let bucket = self.bucket(peer);
            let objects = object::open(&connect(&self.server.url()).await?, &bucket).await?;
            let mut arrivals = Arrivals::of(&objects);
            let dbs = entry(&self.path, &self.server.url(), &bucket);
            let replicator = Replicator::start(peer, self.dir, &dbs)?;
            // The first file of level 0 is there when all of the base is.
            let at = arrivals.first(PATIENCE).await?;
            let series = |figure| Series { name: peer.name(), figures: vec![figure] };
            took.push(series((at - replicator.begun).as_secs_f64()));
            let peak = facts::memory_kib(replicator.pid, facts::Memory::Peak)?;
            memory.push(series(peak as f64 / 1024.0));
            if is_largest {
                behind.push(series(replicator.processor_seconds(BEHIND).await?));
            }
            replicator.end().await?;
            // The other begins with the log as this one did.
            self.remove_state()?;
        }
        let row = Row::new(&format!("first backup of {}", self.size), "s", self.on(), took);
        report.add(if is_largest { row.target(Target::TimesLess(LITESTREAM, 2.0)) } else { row });
        let row = Row::new("of it, peak memory", "MiB", self.on(), memory);
        report.add(if is_largest { row.target(Target::AtMost(64.0)) } else { row });
        if is_largest {
            let name = "processor time in the 60 s behind it (a fifth of 5 minutes)";
            let row = Row::new(name, "s", self.on(), behind);
            report.add(row.target(Target::AtMost(0.2)));
        }
        Ok(())
    }

    fn remove_state(&self) -> Outcome {
        for entry in std::fs::read_dir(self.dir)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    async fn restores(&self, report: &mut Report) -> Outcome {
        let memory = Path::new(IN_MEMORY);
        let mut alone = Vec::new();
        for peer in Peer::BOTH {
            // The first one is given memory that this machine has not used before.
            let mut rates = Vec::new();
            for _ in 0..RESTORES {
                rates.push(self.rate(self.restored(peer, memory).await?));
            }
            alone.push(Series { name: peer.name(), figures: rates });
        }
        let name = format!("restore of {}, to the last page (in memory)", self.size);
        let row = Row::new(&name, "MB/s", self.on(), alone).target(Target::AtLeast(400.0));
        report.add(row.target(Target::Times(LITESTREAM, 4.0)));
        let synced = self.rate(self.restored(Peer::Ours, self.dir).await?);
        let yardstick = self.rate(self.copied().await?);
        let name = format!("restore of {}, fsync included (dd {yardstick:.0})", self.size);
        let row = Row::alone(&name, "MB/s", self.on(), synced);
        report.add(row.target(Target::AtLeast(0.8 * yardstick)));
        Ok(())
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.bytes as f64 / MB / seconds
    }

    /// The seconds of a restore, the whole process; not a number if it failed.
    async fn restored(&self, peer: Peer, to: &Path) -> Outcome<f64> {
        let dir = tempfile::tempdir_in(to)?;
        let output = dir.path().join("restored.db");
        let url = format!("{}/{}", self.server.url(), self.bucket(peer));
        let begun = Instant::now();
        let status = peer.command()?.args(["restore", "-o"]).arg(&output).arg(url).status().await?;
        let took = begun.elapsed().as_secs_f64();
        if !status.success() {
            return Ok(f64::NAN);
        }
        let restored = std::fs::metadata(&output)?.len();
        let is_whole = match peer {
            Peer::Ours => restored == self.bytes,
            // It puts tables of its own into the database.
            Peer::Litestream => restored >= self.bytes,
        };
        if !is_whole {
            let (peer, bytes) = (peer.name(), self.bytes);
            return Err(format!("{peer} restored {restored} bytes of {bytes}").into());
        }
        Ok(took)
    }

    /// The seconds in which this disk takes as many bytes.
    async fn copied(&self) -> Outcome<f64> {
        let target = self.dir.join("yardstick");
        let mut dd = Command::new("dd");
        dd.arg("if=/dev/zero").arg(format!("of={}", target.display()));
        dd.args(["bs=1M", "conv=fdatasync", "status=none"]);
        dd.arg(format!("count={}", self.bytes >> 20));
        let begun = Instant::now();
        if !dd.status().await?.success() {
            return Err("dd failed".into());
        }
        let took = begun.elapsed().as_secs_f64();
        std::fs::remove_file(target)?;
        Ok(took)
    }
}
