//! Several servers as one JetStream cluster.

use std::fmt::Write as _;
use std::time::Duration;

use super::config::Ports;
use super::shared::Shared;
use super::{NatsServer, PORT_ATTEMPTS_MAX, PortTaken, Release, ServerOptions};
use crate::wait::eventually;
use crate::wire::Client;

/// How long a cluster may take to elect its leaders.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one question to a cluster may take while it elects.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Copies that the probe has at most: what tests use.
const REPLICAS_MAX: usize = 3;
/// The stream that shows a cluster ready to keep copies.
const PROBE: &str = "JETBRIDGE_PROBE";

/// Servers with routes to each other.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts `size` servers and waits until they have a leader and can make a stream of as many
    /// copies (of three, if there are more).
    ///
    /// # Panics
    /// If that does not come to pass.
    pub async fn start(release: Release, size: usize) -> Self {
        for _ in 0..PORT_ATTEMPTS_MAX {
            if let Ok(cluster) = Self::start_nodes(release, size).await {
                cluster.ready().await;
                return cluster;
            }
        }
        panic!("no free ports in {PORT_ATTEMPTS_MAX} attempts");
    }

    /// The cluster of three of that release that the tests of this process share, as
    /// [`NatsServer::shared`].
    ///
    /// # Panics
    /// As [`NatsCluster::start`].
    pub async fn shared(release: Release) -> &'static Self {
        static SHARED: Shared<NatsCluster> = Shared::new();
        SHARED.of(release, || Self::start(release, REPLICAS_MAX)).await
    }

    async fn start_nodes(release: Release, size: usize) -> Result<Self, PortTaken> {
        let ports: Vec<Ports> = (0..size).map(|_| Ports::free()).collect();
        let mut routes = String::new();
        for port in &ports {
            write!(routes, "\"nats://127.0.0.1:{}\", ", port.cluster).expect("text");
        }
        let mut nodes = Vec::with_capacity(size);
        for ports in ports {
            let options = ServerOptions::new().config(&format!(
                "cluster {{\nname: jetbridge\nlisten: \"127.0.0.1:{}\"\nroutes: [{routes}]\n}}",
                ports.cluster
            ));
            nodes.push(NatsServer::start_on(release, &options, ports).await?);
        }
        Ok(Self { nodes })
    }

    /// Waits until the nodes that run, a majority, can make a stream of as many copies.
    ///
    /// # Panics
    /// If that does not come to pass.
    pub async fn ready(&self) {
        let replicas = self.running().count().min(REPLICAS_MAX);
        let config = format!(
            r#"{{"name":"{PROBE}","subjects":["{PROBE}"],"num_replicas":{replicas},"storage":"memory"}}"#
        );
        eventually("the cluster can keep copies", READY_WITHIN, async || {
            self.ask(&format!("$JS.API.STREAM.CREATE.{PROBE}"), &config)
                .await
                .filter(|answer| answer["error"].is_null())
        })
        .await;
        eventually("the probe is deleted", READY_WITHIN, async || {
            self.ask(&format!("$JS.API.STREAM.DELETE.{PROBE}"), "")
                .await
                .filter(|answer| answer["success"] == true || answer["error"]["code"] == 404)
        })
        .await;
    }

    /// Asks the first node that takes a connection.
    async fn ask(&self, subject: &str, body: &str) -> Option<serde_json::Value> {
        for node in self.running() {
            let asked = async {
                let mut client = Client::connect(node.address()).await.ok()?;
                client.request(subject, body.as_bytes()).await.ok()
            };
            if let Ok(Some(answer)) = tokio::time::timeout(ANSWER_WITHIN, asked).await {
                return serde_json::from_slice(&answer).ok();
            }
        }
        None
    }

    fn running(&self) -> impl Iterator<Item = &NatsServer> {
        self.nodes.iter().filter(|node| node.pid().is_some())
    }

    /// The servers, in order.
    pub fn nodes(&self) -> &[NatsServer] {
        &self.nodes
    }

    /// Every node's address, by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// The index of the node that leads `stream`; `None` if there is none now.
    pub async fn leader(&self, stream: &str) -> Option<usize> {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "").await?;
        let name = info["cluster"]["leader"].as_str()?.to_owned();
        self.nodes.iter().position(|node| node.name() == name)
    }

    /// Makes the leader of `stream` step down and waits until the stream is led again.
    ///
    /// # Panics
    /// If there is no such stream, or it stays without a leader.
    pub async fn step_down(&self, stream: &str) {
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
        eventually("the leader steps down", READY_WITHIN, async || {
            self.ask(&subject, "").await.filter(|answer| answer["success"] == true)
        })
        .await;
        eventually("the stream is led", READY_WITHIN, async || self.leader(stream).await).await;
    }
}
