//! A folder with a file of `up`, a store, and the agent that runs the one on the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::Environment;
use jetbridge_agent::{Agent, UpFile, UpReport};
use jetbridge_core::{AppendOpts, Backend, Bus, MemoryBackend, Message, Subject};
use jetbridge_testkit::eventually;

/// Long enough for a slow machine; nothing waits for it to pass.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) agent: Agent,
}

impl Rig {
    pub(crate) async fn start(text: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), text).await
    }

    /// As [`Rig::start`], in a folder that holds something already.
    pub(crate) async fn start_in(folder: tempfile::TempDir, text: &str) -> Self {
        Self::start_on(Arc::new(MemoryBackend::new()), folder, text).await
    }

    /// As [`Rig::start_in`], on a store that holds something already.
    pub(crate) async fn start_on(
        backend: Arc<dyn Backend>,
        folder: tempfile::TempDir,
        text: &str,
    ) -> Self {
        let path = folder.path().join("up.yml");
        std::fs::write(&path, text).unwrap();
        let environment = Environment::default();
        let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
        let store = Arc::clone(&backend);
        let agent = Agent::start(file, vec![path], environment, store).await.unwrap();
        Self { folder, backend, agent }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.path("up.yml"), text).unwrap();
    }

    pub(crate) fn bus(&self) -> Arc<dyn Bus> {
        self.backend.bus()
    }

    /// The lines that handlers have written to the file `name`.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the file `name` has `number` lines.
    pub(crate) async fn wait_lines(&self, name: &str, number: usize) -> Vec<String> {
        eventually(name, WITHIN, async || {
            let lines = self.lines(name);
            (lines.len() >= number).then_some(lines)
        })
        .await
    }

    /// Appends to a stream as soon as one keeps the subject.
    pub(crate) async fn append(&self, subject: &str, payload: &str) {
        let bus = self.bus();
        eventually("a stream keeps the subject", WITHIN, async || {
            let message = Message::new(Subject::parse(subject).unwrap(), payload.to_owned());
            bus.append(message, AppendOpts::new()).await.ok()
        })
        .await;
    }

    pub(crate) async fn stop(self) -> (UpReport, tempfile::TempDir) {
        (self.agent.stop().await, self.folder)
    }
}
