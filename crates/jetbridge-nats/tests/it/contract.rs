//! The stores that the contract runs over.

use std::sync::{Arc, OnceLock};

use jetbridge_core::Backend;
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{Fixture, NatsCluster, NatsServer, Release, ServerOptions};

use crate::replicated::Replicated;
use crate::store::{connect, options};

/// A row of the contract's matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    /// A server of its own for each case.
    Single(Release),
    /// Three servers that all cases share, and everything in three copies.
    Cluster,
}

impl Row {
    /// Two connections to a fresh store, or to fresh names in a shared one.
    pub(crate) async fn open(self) -> Fixture {
        match self {
            Self::Single(release) => {
                let server = NatsServer::start(release, ServerOptions::new()).await;
                let ours: Arc<dyn Backend> = Arc::new(connect(&server).await);
                let peers: Arc<dyn Backend> = Arc::new(connect(&server).await);
                Fixture::new(ours, peers, server)
            }
            Self::Cluster => {
                let nodes = cluster().nodes();
                // On different servers, so that what one has written the other may not have yet.
                Fixture::new(member(&nodes[0]).await, member(&nodes[1]).await, ())
            }
        }
    }
}

impl Row {
    /// As [`Row::open`], for plain messages: what one server of a cluster knows of interest the
    /// others learn in time, and no client can wait for that, so both connections are to one.
    pub(crate) async fn open_bus(self) -> Fixture {
        match self {
            Self::Single(_) => self.open().await,
            Self::Cluster => {
                let node = &cluster().nodes()[0];
                Fixture::new(member(node).await, member(node).await, ())
            }
        }
    }
}

async fn member(node: &NatsServer) -> Arc<dyn Backend> {
    let mut options = options(&node.url());
    // Three servers, each with all the cases at once, on one machine.
    options.request_timeout *= 3;
    Arc::new(Replicated(Arc::new(NatsBackend::connect(&options).await.unwrap())))
}

/// The cluster of this process, which it outlives in no case.
fn cluster() -> &'static NatsCluster {
    static CLUSTER: OnceLock<NatsCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // A case's own runtime ends with it, and with that what was begun on it.
        let starting = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(NatsCluster::start(Release::Newest, 3))
        });
        starting.join().unwrap()
    })
}
