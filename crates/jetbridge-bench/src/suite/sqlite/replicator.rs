//! A replicator as its users run it: a process with a configuration file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::measure::{LITESTREAM, OURS};
use crate::suite::template::command;
use crate::{Outcome, facts};

/// The newest release.
pub(super) const LITESTREAM_VERSION: &str = "0.5.18";
/// How long a process may take to end.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Whose program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    Ours,
    Litestream,
}

impl Peer {
    pub(super) const BOTH: [Self; 2] = [Self::Ours, Self::Litestream];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::Litestream => LITESTREAM,
        }
    }

    /// The bucket that it writes to; the peers share none.
    pub(super) const fn bucket(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Litestream => "theirs",
        }
    }

    /// Its command, silent unless something is wrong.
    pub(super) fn command(self) -> Outcome<Command> {
        let mut built = match self {
            Self::Ours => {
                let mut ours = Command::new(command()?);
                ours.arg("sqlite");
                ours
            }
            Self::Litestream => Command::new(litestream()?),
        };
        built.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(built)
    }
}

fn litestream() -> Outcome<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/litestream");
    let program = directory.join(LITESTREAM_VERSION).join("litestream");
    if !program.is_file() {
        return Err(format!("{} is missing: run cargo xtask servers", program.display()).into());
    }
    Ok(program)
}

/// One database and where it goes, as both write it in their files.
pub(super) fn entry(database: &Path, url: &str, bucket: &str) -> String {
    let mut text = String::new();
    // A `String` takes whatever is written to it.
    let _written = writeln!(
        text,
        "  - path: {}\n    replica: {{type: nats, url: '{url}/{bucket}'}}",
        database.display()
    );
    text
}

/// A process that replicates, killed when dropped.
#[derive(Debug)]
pub(super) struct Replicator {
    process: Child,
    pub(super) pid: u32,
    pub(super) begun: Instant,
}

impl Replicator {
    /// Starts `peer` with `dbs` as the databases of its file.
    pub(super) fn start(peer: Peer, directory: &Path, dbs: &str) -> Outcome<Self> {
        let file = directory.join(format!("{}.yml", peer.bucket()));
        std::fs::write(&file, format!("dbs:\n{dbs}"))?;
        let begun = Instant::now();
        let log = std::fs::File::create(directory.join(format!("{}.log", peer.bucket())))?;
        let mut command = peer.command()?;
        command.args(["replicate", "-config"]).arg(file).stderr(log.try_clone()?).stdout(log);
        let process = command.spawn()?;
        let pid = process.id().ok_or("the replicator has ended")?;
        Ok(Self { process, pid, begun })
    }

    /// Its processor time while `time` passes, in seconds.
    pub(super) async fn processor_seconds(&self, time: Duration) -> Outcome<f64> {
        let before = facts::processor_seconds(self.pid)?;
        tokio::time::sleep(time).await;
        Ok(facts::processor_seconds(self.pid)? - before)
    }

    /// Kills it: what it would still do is not measured.
    pub(super) async fn end(mut self) -> Outcome {
        self.process.start_kill()?;
        tokio::time::timeout(END_WITHIN, self.process.wait()).await??;
        Ok(())
    }
}
