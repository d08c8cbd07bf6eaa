//! Bad weather between a store and its connections, for the part of the contract that needs it.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{AckLoss, Faults, NatsServer, Odds, Proxy, Release, ServerOptions};

/// What a case can do to the way between a store and its two connections.
#[async_trait]
pub trait Storm: Debug + Send + Sync {
    /// Cuts every connection; new ones are taken.
    async fn cut(&self);

    /// Kills the store and starts it again with all that it had acknowledged.
    async fn restart(&self);

    /// From now on loses so many of a thousand acknowledgements of writes.
    fn lose_acks(&self, per_mille: u16);

    /// How many acknowledgements were lost so far.
    fn acks_lost(&self) -> u64;
}

/// A server, and a proxy before each of two connections to it.
#[derive(Debug)]
pub struct NatsStorm {
    // The proxies go first: they belong to the server.
    proxies: [Proxy; 2],
    server: NatsServer,
}

impl NatsStorm {
    /// Starts the server and its proxies.
    ///
    /// # Panics
    /// As [`NatsServer::start`].
    pub async fn start(release: Release) -> Self {
        let server = NatsServer::start(release, ServerOptions::new()).await;
        let proxies = [Proxy::start(server.address()).await, Proxy::start(server.address()).await];
        Self { proxies, server }
    }

    /// Where the two connections go.
    pub fn urls(&self) -> [String; 2] {
        [self.proxies[0].url(), self.proxies[1].url()]
    }

    /// The server behind the proxies.
    pub const fn server(&self) -> &NatsServer {
        &self.server
    }
}

#[async_trait]
impl Storm for NatsStorm {
    async fn cut(&self) {
        self.proxies.iter().for_each(Proxy::reset);
    }

    async fn restart(&self) {
        self.server.restart().await;
    }

    fn lose_acks(&self, per_mille: u16) {
        for (proxy, seed) in self.proxies.iter().zip(1..) {
            proxy.lose_acks(AckLoss::Seeded { seed, per_mille });
        }
    }

    fn acks_lost(&self) -> u64 {
        self.proxies.iter().map(Proxy::acks_lost).sum()
    }
}

/// Lost acknowledgements are all that [`Faults`] around a store in this process can bring.
#[async_trait]
impl Storm for Faults {
    async fn cut(&self) {}

    async fn restart(&self) {}

    fn lose_acks(&self, per_mille: u16) {
        self.change(Odds { ack_lost: per_mille, ..Odds::default() });
    }

    fn acks_lost(&self) -> u64 {
        self.injected().len() as u64
    }
}
