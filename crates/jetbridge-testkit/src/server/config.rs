//! The configuration a server is started with.

use std::fmt::Write as _;
use std::path::Path;

use super::{PORTS_DIR, ports};

/// The ports of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) cluster: u16,
    pub(super) websocket: u16,
}

impl Ports {
    pub(super) fn free() -> Self {
        Self { client: ports::free(), cluster: ports::free(), websocket: ports::free() }
    }
}

/// How a server is started, in the words of its own configuration language.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    config: String,
    jetstream: String,
    jetstream_off: bool,
    websocket: Option<String>,
}

impl ServerOptions {
    /// A server with JetStream that lets everybody in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds text to the configuration file: accounts, users, permissions, limits, `tls {}`.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// Adds text to the `jetstream {}` block, such as `max_file_store: 64MB`.
    #[must_use]
    pub fn jetstream(mut self, text: &str) -> Self {
        self.jetstream.push_str(text);
        self.jetstream.push('\n');
        self
    }

    /// Gives the server a JetStream domain.
    #[must_use]
    pub fn domain(self, name: &str) -> Self {
        self.jetstream(&format!("domain: {name}"))
    }

    /// Runs without JetStream.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream_off = true;
        self
    }

    /// Listens for WebSocket connections too, unencrypted.
    #[must_use]
    pub fn websocket(self) -> Self {
        self.websocket_with("no_tls: true")
    }

    /// Listens for WebSocket connections too, with this text in the `websocket {}` block.
    #[must_use]
    pub fn websocket_with(mut self, text: &str) -> Self {
        self.websocket = Some(text.to_owned());
        self
    }

    pub(super) fn render(&self, directory: &Path, ports: &Ports) -> String {
        let dir = directory.display();
        let mut text = format!(
            "server_name: \"{}\"\nlisten: \"127.0.0.1:{}\"\nports_file_dir: \
             \"{dir}/{PORTS_DIR}\"\n",
            server_name(ports),
            ports.client
        );
        if !self.jetstream_off {
            write!(text, "jetstream {{\nstore_dir: \"{dir}/jetstream\"\n{}}}\n", self.jetstream)
                .expect("text");
        }
        if let Some(websocket) = &self.websocket {
            let port = ports.websocket;
            write!(text, "websocket {{\nlisten: \"127.0.0.1:{port}\"\n{websocket}\n}}\n")
                .expect("text");
        }
        text + &self.config
    }
}

/// What a server calls itself, in its greeting and to its cluster.
pub(super) fn server_name(ports: &Ports) -> String {
    format!("jetbridge-{}", ports.client)
}
