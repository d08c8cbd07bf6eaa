//! Litestream's own binary: `target/litestream/VERSION/litestream` of the workspace, as
//! `cargo xtask servers` installs it. A missing one fails the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::rig::BUCKET;

/// The newest release.
pub(crate) const NEWEST: Litestream = Litestream("0.5.18");
/// The last one that wrote pages as LZ4 frames.
pub(crate) const FRAMES: Litestream = Litestream("0.5.15");

/// How often it is run again where it has cancelled its own work.
const ATTEMPTS_MAX: usize = 10;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Litestream(&'static str);

impl Litestream {
    fn command(self) -> Command {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/litestream");
        let binary = directory.join(self.0).join("litestream");
        assert!(binary.is_file(), "{} is missing: run cargo xtask servers", binary.display());
        Command::new(binary)
    }

    /// Replicates what is in the database now, and ends.
    pub(crate) fn replicate_once(self, server: &str, database: &Path) {
        let config = config(server, database);
        let once = || {
            self.command().args(["replicate", "-once", "-config"]).arg(&config).output().unwrap()
        };
        // Where it is slow to read what the replica has, it cancels that itself: 0.5.18 takes its
        // first look for the whole of its work.
        let is_cancelled =
            |done: &Output| !done.status.success() && text(done).contains("context canceled");
        let mut done = once();
        for _again in 0..ATTEMPTS_MAX {
            if !is_cancelled(&done) {
                break;
            }
            done = once();
        }
        succeeded(&done);
    }

    /// As [`Litestream::replicate_once`], where it may fail; says what it said if it did.
    pub(crate) fn try_replicate_once(self, server: &str, database: &Path) -> Result<(), String> {
        let config = config(server, database);
        let mut command = self.command();
        let done = command.args(["replicate", "-once", "-config"]).arg(&config).output().unwrap();
        if done.status.success() { Ok(()) } else { Err(text(&done)) }
    }

    /// Restores into a file; says what it said if it could not.
    pub(crate) fn restore(
        self,
        server: &str,
        output: &Path,
        arguments: &[&str],
    ) -> Result<(), String> {
        let url = format!("{server}/{BUCKET}");
        let mut command = self.command();
        command.args(["restore", "-o"]).arg(output).args(arguments).arg(url);
        let done = command.output().unwrap();
        if done.status.success() { Ok(()) } else { Err(text(&done)) }
    }
}

fn config(server: &str, database: &Path) -> PathBuf {
    let path = database.with_extension("yml");
    let text = format!(
        "dbs:\n  - path: {}\n    replica:\n      type: nats\n      url: {server}/{BUCKET}\n",
        database.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn succeeded(done: &Output) {
    assert!(done.status.success(), "{}", text(done));
}

fn text(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}
