//! A process `jetbridge up` with a file.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Outcome;
use crate::suite::template::command;

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it is ready: short against what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A process that runs a file, killed when dropped.
#[derive(Debug)]
pub(super) struct Up {
    process: Child,
    pub(super) pid: u32,
    pub(super) address: SocketAddr,
    /// From its start to the first answer that everything runs.
    pub(super) ready_after: Duration,
    folder: tempfile::TempDir,
}

impl Up {
    /// Runs what `text` names on `store`, and returns when all of it is ready.
    pub(super) async fn start(store: &str, text: &str) -> Outcome<Self> {
        Self::start_in(tempfile::tempdir()?, store, text).await
    }

    /// As [`Up::start`], in a folder that holds something already.
    pub(super) async fn start_in(
        folder: tempfile::TempDir,
        store: &str,
        text: &str,
    ) -> Outcome<Self> {
        // Free now, and hardly taken by somebody else in the next moment.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let file = folder.path().join("up.yml");
        std::fs::write(&file, format!("store: '{store}'\nhttp: {{listen: '{address}'}}\n{text}"))?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(command()?);
        command.arg("up").arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        // Paths of databases begin where the process runs.
        command.current_dir(folder.path());
        let begun = Instant::now();
        let process = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let pid = process.id().ok_or("`up` has ended")?;
        let mut up = Self { process, pid, address, ready_after: Duration::ZERO, folder };
        while !up.is_ready().await {
            if begun.elapsed() > PATIENCE || up.process.try_wait()?.is_some() {
                let log = std::fs::read_to_string(up.folder.path().join("log"))?;
                return Err(format!("`up` is not ready: {log}").into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        up.ready_after = begun.elapsed();
        Ok(up)
    }

    async fn is_ready(&self) -> bool {
        let look = async || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(self.address).await?;
            let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            Ok(&answer == b"HTTP/1.1 200")
        };
        look().await.unwrap_or(false)
    }

    /// Kills it: how it ends is not measured.
    pub(super) async fn end(mut self) -> Outcome {
        self.process.start_kill()?;
        tokio::time::timeout(PATIENCE, self.process.wait()).await??;
        Ok(())
    }
}
