//! A network between a client and its server that does what networks do.
//!
//! The proxy takes connections on a port of its own and makes one to the server for each. It
//! delays, stalls, cuts and refuses; and from what the server says it can take whole frames away:
//! the acknowledgement of a write that JetStream has stored. It goes by the server's address, so
//! a server that comes back on its port is found again.

mod pump;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::pump::carry_both;
use crate::dice::Dice;

/// Which acknowledgements are lost on their way to the client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AckLoss {
    /// None.
    None,
    /// All of them.
    All,
    /// Those at these places, counted from zero from now on.
    These(Vec<u64>),
    /// So many of a thousand, the same for the same seed.
    Seeded {
        /// Where chance begins.
        seed: u64,
        /// How many of a thousand.
        per_mille: u16,
    },
}

/// A TCP proxy on loopback. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// What the connections and their owner share.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    loss: Mutex<Loss>,
    acks_dropped: AtomicU64,
    connections: AtomicU64,
    turns: AtomicU64,
    /// Clients have been told something since they last said something.
    told: AtomicBool,
}

/// What the network is like now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Weather {
    one_way: Duration,
    stalled: bool,
    refusing: bool,
    /// Connections of an earlier generation are cut.
    generation: u64,
}

#[derive(Debug)]
struct Loss {
    loss: AckLoss,
    dice: Dice,
    seen: u64,
}

impl Proxy {
    /// A proxy before the server at `target`.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            target,
            weather: watch::Sender::new(Weather::default()),
            loss: Mutex::new(Loss { loss: AckLoss::None, dice: Dice::new(0), seen: 0 }),
            acks_dropped: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            told: AtomicBool::new(false),
        });
        let tasks = Tasks::new();
        tasks.spawn_until_stop(accept(listener, Arc::clone(&shared), tasks.clone()));
        Self { address, shared, tasks }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Makes every round trip at least this long. How much passes at once is untouched.
    pub fn latency(&self, round_trip: Duration) {
        self.change(|weather| weather.one_way = round_trip / 2);
    }

    /// Loses acknowledgements from now on.
    pub fn lose_acks(&self, loss: AckLoss) {
        let seed = if let AckLoss::Seeded { seed, .. } = &loss { *seed } else { 0 };
        let fresh = Loss { loss, dice: Dice::new(seed), seen: 0 };
        *self.shared.loss.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// How many acknowledgements were lost so far.
    pub fn acks_lost(&self) -> u64 {
        self.shared.acks_dropped.load(Ordering::Relaxed)
    }

    /// Lets nothing pass, in either direction; connections stay.
    pub fn stall(&self) {
        self.change(|weather| weather.stalled = true);
    }

    /// Lets everything pass that waited, and what comes.
    pub fn resume(&self) {
        self.change(|weather| weather.stalled = false);
    }

    /// Cuts every connection there is, as a crash would: by a reset.
    pub fn reset(&self) {
        self.change(|weather| weather.generation += 1);
    }

    /// Resets every new connection at once.
    pub fn refuse(&self) {
        self.change(|weather| weather.refusing = true);
    }

    /// Takes new connections again.
    pub fn accept(&self) {
        self.change(|weather| weather.refusing = false);
    }

    /// How many connections there are now.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often clients have said something after they were told something: the round trips
    /// that depended on one another, if there is but one connection and the latency is longer
    /// than a burst of its requests.
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

impl Shared {
    /// A client says something.
    fn asked(&self) {
        if self.told.swap(false, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A client is told something.
    fn answered(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// True if the acknowledgement that is passing by is to be lost.
    fn loses_ack(&self) -> bool {
        let mut held = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let Loss { loss, dice, seen } = &mut *held;
        let at = *seen;
        *seen += 1;
        let lost = match loss {
            AckLoss::None => false,
            AckLoss::All => true,
            AckLoss::These(places) => places.contains(&at),
            AckLoss::Seeded { per_mille, .. } => dice.hits(*per_mille),
        };
        self.acks_dropped.fetch_add(u64::from(lost), Ordering::Relaxed);
        lost
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    loop {
        // What cannot be accepted is the client's loss, as it would be on a real network.
        let Ok((client, _)) = listener.accept().await else { continue };
        tasks.spawn_until_stop(serve(client, Arc::clone(&shared)));
    }
}

/// Serves one client until either side ends or the connection is cut.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let weather = shared.weather.subscribe();
    let now = *weather.borrow();
    if now.refusing {
        cut(&client);
        return;
    }
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        cut(&client);
        return;
    };
    // Small frames must not wait for each other: the delay is ours to add.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut cuts = weather;
    let is_cut = tokio::select! {
        _ended = carry_both(&mut client, &mut server, &shared) => false,
        _changed = cuts.wait_for(|weather| weather.generation != now.generation) => true,
    };
    if is_cut {
        cut(&client);
    }
    shared.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Makes the close that follows a reset. A connection that is gone needs none.
fn cut(client: &TcpStream) {
    let _gone: io::Result<()> = client.set_zero_linger();
}
