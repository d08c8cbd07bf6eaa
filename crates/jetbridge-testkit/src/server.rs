//! A real nats-server per test: own directory, free loopback ports, gone with the test.
//!
//! The binaries are those that `cargo xtask servers` installs. A missing one fails the test: a
//! contract that was not run against a server says nothing about it. Clients are not this
//! module's business; it speaks no more of the protocol than it takes to see a cluster ready.

mod cluster;
mod config;
mod ports;
mod shared;
mod supervisor;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

pub use cluster::NatsCluster;
pub use config::ServerOptions;

use self::config::Ports;
use self::shared::Shared;
use self::supervisor::Supervisor;
use crate::wait::eventually;

/// How long a server may take to listen: it recovers its streams first, and shares the machine
/// with every other test.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the threads of a server may take to notice that they are stopped.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Starts with other ports after another process took one in between.
const PORT_ATTEMPTS_MAX: u32 = 10;
const LOG_FILE: &str = "server.log";
const PORTS_DIR: &str = "ports";

/// Which nats-server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "two ends of a range, and whatever lies between")]
pub enum Release {
    /// The newest one supported.
    Newest,
    /// The oldest one supported.
    Oldest,
    /// Any other, such as `2.12.8`.
    At(&'static str),
}

impl Release {
    /// Its version, as in `2.9.25`.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Newest => "2.15.2",
            Self::Oldest => "2.9.25",
            Self::At(version) => version,
        }
    }

    /// Where its binary is: `target/servers` of the workspace, or the directory that
    /// `JETBRIDGE_SERVERS` names.
    ///
    /// # Panics
    /// If it is not there.
    pub fn binary(self) -> PathBuf {
        #[expect(clippy::disallowed_methods, reason = "where the servers are is the run's affair")]
        let servers = std::env::var_os("JETBRIDGE_SERVERS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers"),
            PathBuf::from,
        );
        let binary = servers.join(self.version()).join("nats-server");
        assert!(binary.is_file(), "{} is missing: run cargo xtask servers", binary.display());
        binary
    }
}

/// A running nats-server.
///
/// Dropping it kills the server and removes its directory. Neither outlives this process, even
/// if that is killed.
#[derive(Debug)]
pub struct NatsServer {
    release: Release,
    directory: PathBuf,
    ports: Ports,
    supervisor: Supervisor,
}

impl NatsServer {
    /// Starts a server with JetStream and waits until it takes connections.
    ///
    /// # Panics
    /// If the binary is missing or the server does not come up; the message has its log.
    pub async fn start(release: Release, options: ServerOptions) -> Self {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let ports = Ports::free();
            if let Ok(server) = Self::start_on(release, &options, ports).await {
                return server;
            }
        }
        panic!("no free port in {PORT_ATTEMPTS_MAX} attempts");
    }

    /// The server of that release that the tests of this process share. For tests that keep to
    /// names of their own, as the contract does; nobody may kill it. It goes with the process.
    ///
    /// # Panics
    /// As [`NatsServer::start`].
    pub async fn shared(release: Release) -> &'static Self {
        static SHARED: Shared<NatsServer> = Shared::new();
        SHARED.of(release, || Self::start(release, ServerOptions::new())).await
    }

    async fn start_on(
        release: Release,
        options: &ServerOptions,
        ports: Ports,
    ) -> Result<Self, PortTaken> {
        let binary = release.binary();
        let directory = tempfile::Builder::new()
            .prefix("jetbridge-nats-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let config = directory.join("server.conf");
        std::fs::write(&config, options.render(&directory, &ports)).expect("a writable directory");
        let supervisor = Supervisor::new(&directory, &binary, &config);
        let server = Self { release, directory, ports, supervisor };
        server.run().await?;
        Ok(server)
    }

    /// Runs the binary and waits until it listens.
    async fn run(&self) -> Result<(), PortTaken> {
        let ports_dir = self.directory.join(PORTS_DIR);
        // A killed server leaves its file behind, and the file is how the next one reports.
        if ports_dir.exists() {
            std::fs::remove_dir_all(&ports_dir).expect("own directory");
        }
        std::fs::create_dir(&ports_dir).expect("own directory");
        let logged = self.log().len();
        self.supervisor.run();
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_listening(&ports_dir).await {
            let log = self.log().split_off(logged);
            if log.contains("address already in use") {
                return Err(PortTaken);
            }
            let dead = log.contains("[FTL]") || log.starts_with("nats-server: ");
            assert!(
                !dead && Instant::now() < deadline,
                "nats-server {} does not come up:\n{log}",
                self.release.version()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The server writes its ports file once every listener is open. Its first word is no sign:
    /// one that encrypts first has none.
    async fn is_listening(&self, ports_dir: &Path) -> bool {
        let reported = std::fs::read_dir(ports_dir).is_ok_and(|mut files| files.next().is_some());
        reported && TcpStream::connect(self.address()).await.is_ok()
    }

    /// Its release.
    pub const fn release(&self) -> Release {
        self.release
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `tls://localhost:PORT`, for servers that encrypt.
    pub fn tls_url(&self) -> String {
        format!("tls://localhost:{}", self.ports.client)
    }

    /// `ws://127.0.0.1:PORT`; only with [`ServerOptions::websocket`] does anybody listen there.
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ports.websocket)
    }

    /// Where it takes clients.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.ports.client)
    }

    /// Its directory: configuration, log, and the store under `jetstream`.
    pub fn dir(&self) -> &Path {
        &self.directory
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read(self.directory.join(LOG_FILE))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn name(&self) -> String {
        config::server_name(&self.ports)
    }

    /// Its process id; `None` after [`NatsServer::kill`].
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    /// Kills it on the spot (`SIGKILL`) and returns when it is gone.
    pub fn kill(&self) {
        self.supervisor.kill();
    }

    /// Starts it again, on the same ports and the same store, killing it first if it runs.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn restart(&self) {
        self.kill();
        let up = self.run().await;
        assert!(up.is_ok(), "another process took port {}", self.ports.client);
    }

    /// Stops it in its tracks (`SIGSTOP`): connections stay, nothing answers. Returns when every
    /// thread stands still.
    pub async fn pause(&self) {
        self.supervisor.signal("STOP");
        let Some(pid) = self.pid() else { return };
        eventually("the server stands still", STOPPED_WITHIN, async || {
            is_stopped(pid).then_some(())
        })
        .await;
    }

    /// Lets a paused server go on (`SIGCONT`).
    pub fn resume(&self) {
        self.supervisor.signal("CONT");
    }
}

/// True if each thread of the process is stopped, as far as the system tells.
fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let state = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses and may hold anything.
        state.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

/// Another process took one of the ports first.
#[derive(Debug)]
struct PortTaken;
