//! Where the soak takes place: a server, a directory, and `up` in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use jetbridge_core::{
    AppendOpts, Backend as _, Error, ErrorKind, Message, Pattern, StreamName, StreamSpec, Subject,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::DISK_BYTES;
use super::ledger::Ledger;
use crate::Outcome;
use crate::suite::connect;
use crate::suite::template::command;

/// What handles a message: one that begins with `poison` never succeeds, one that begins with
/// `flaky` does the second time.
const HANDLER: &str = r#"#!/bin/sh
read -r message
case $message in
  poison*) echo "it is poison" >&2; exit 1 ;;
  flaky*) [ "$JETBRIDGE_ATTEMPT" -gt 1 ] || exit 1 ;;
esac
echo "$message" >>handled
"#;
const SIGN: &str = "sign: (( nats \"kv:settings/open\" || 0 ))\n";
/// A guest that counts in a bucket.
const COMPONENT: &[u8] = include_bytes!("../../../../examples/tour/hits.wasm");
/// What takes the room of others.
const FILLER: &str = "FILLER";
const FILLER_BYTES: usize = 512 << 10;
/// How long `up` may take to listen, and to end.
const START_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(90);
/// How long it may take to make room on a server that has none.
const ROOM_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server and a directory.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) server: NatsServer,
    pub(super) store: NatsBackend,
    pub(super) directory: PathBuf,
    /// Removes the directory in the end, unless it is to be kept.
    _temporary: Option<tempfile::TempDir>,
}

/// `up`, as it runs.
#[derive(Debug)]
pub(super) struct Up {
    child: Child,
    pub(super) pid: u32,
    /// As `http://127.0.0.1:PORT`.
    pub(super) address: String,
}

impl Site {
    pub(super) async fn open(release: Release, keep: Option<PathBuf>) -> Outcome<Self> {
        let options = ServerOptions::new().jetstream(&format!("max_file_store: {DISK_BYTES}"));
        let server = NatsServer::start(release, options).await;
        let store = connect(&server.url()).await?;
        let (directory, temporary) = match keep {
            Some(directory) => {
                std::fs::create_dir_all(&directory)?;
                (directory, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("jetbridge-soak-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let site = Self { server, store, directory, _temporary: temporary };
        site.lay_out()?;
        Ok(site)
    }

    fn lay_out(&self) -> Outcome {
        use std::os::unix::fs::PermissionsExt as _;
        let file = format!(
            "store: '{}'\n\
             http: {{listen: '127.0.0.1:0', timeout: 10s}}\n\
             drain_timeout: 60s\n\
             buckets:\n  config: {{history: 5}}\n  settings: {{}}\n  hits: {{}}\n  \
             assets: {{kind: object}}\n  backups: {{kind: object}}\n\
             handlers:\n  - {{name: clerk, subject: 'orders.>', stream: ORDERS, durable: clerk, \
             concurrency: 4, attempts: 3, backoff: 100ms..1s, run: [./handle.sh]}}\n\
             templates: [{{from: [sign.yml], to: sign.out.yml, wait: 0s..1s}}]\n\
             dbs: [{{path: app.db, replica: {{bucket: backups, path: app}}}}]\n\
             limiters: {{api: {{rate_per_second: {}, burst: {}, fail_closed: true}}}}\n\
             components: [{{name: hits, wasm: hits.wasm, route: /hits, \
             links: {{default: {{bucket: hits}}}}}}]\n",
            self.server.url(),
            super::load::RATE_PER_SECOND,
            super::load::BURST,
        );
        std::fs::write(self.path("up.yml"), file)?;
        std::fs::write(self.path("sign.yml"), SIGN)?;
        std::fs::write(self.path("hits.wasm"), COMPONENT)?;
        std::fs::write(self.path("handle.sh"), HANDLER)?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path("handle.sh"), executable)?;
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The command, run here.
    pub(super) fn command(&self, words: &[&str]) -> Outcome<Command> {
        let mut process = Command::new(command()?);
        process.args(words).current_dir(&self.directory).stdin(Stdio::null()).kill_on_drop(true);
        Ok(process)
    }

    /// Starts `up`. What it says is in `up.log`.
    pub(super) async fn start(&self) -> Outcome<Up> {
        let log = self.path("up.log");
        let mut process = self.command(&["up", "up.yml"])?;
        process.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        let child = process.spawn()?;
        let pid = child.id().ok_or("up has ended at once")?;
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let said = std::fs::read_to_string(&log)?;
            if let Some(address) = said.lines().find_map(|line| line.strip_prefix("http: ")) {
                return Ok(Up { child, pid, address: address.to_owned() });
            }
            if Instant::now() > deadline {
                return Err(format!("up does not listen within {START_WITHIN:?}:\n{said}").into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Lets `up` drain and end.
    pub(super) async fn end(&self, mut up: Up, ledger: &Ledger) -> Outcome {
        let pid = i32::try_from(up.pid).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let ended = timeout(END_WITHIN, up.child.wait()).await;
        let status = ended.map_err(|_late| format!("up does not end within {END_WITHIN:?}"))??;
        if !status.success() {
            ledger.problem("up", format!("it ended with {status}"));
        }
        let said = std::fs::read_to_string(self.path("up.log"))?;
        if let Some(line) = said.lines().find(|line| line.contains("this is a bug")) {
            ledger.problem("up", line.to_owned());
        }
        Ok(())
    }

    /// Takes all the room that the server has left; how many bytes.
    pub(super) async fn fill(&self) -> Outcome<u64> {
        let (bus, subject) = (self.store.bus(), Subject::parse("filler")?);
        let name = StreamName::parse(FILLER)?;
        bus.create_stream(&StreamSpec::new(name, vec![Pattern::parse("filler")?])).await?;
        let piece = Bytes::from(vec![0; FILLER_BYTES]);
        let mut kept = 0;
        loop {
            let message = Message::new(subject.clone(), piece.clone());
            match bus.append(message, AppendOpts::new()).await {
                Ok(_kept) => kept += FILLER_BYTES as u64,
                Err(error) if is_full(&error) => return Ok(kept),
                Err(error) => return Err(error.into()),
            }
            if kept > DISK_BYTES {
                return Err("the server keeps more than its disk holds".into());
            }
        }
    }

    /// Gives it back.
    pub(super) async fn make_room(&self) -> Outcome {
        let (bus, name) = (self.store.bus(), StreamName::parse(FILLER)?);
        let deadline = Instant::now() + ROOM_WITHIN;
        while let Err(error) = bus.delete_stream(&name).await {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LimitExceeded | ErrorKind::Unavailable)
}

/// The text of a file, or nothing while it is not there.
pub(super) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
