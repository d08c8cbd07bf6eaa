//! The owner's work: accepting members, and reading what each of them sends.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jetbridge_core::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::frame::{Decoder, Frame, message_bytes};
use super::owner::{Interest, Origin, Owner};

/// Bytes asked of the kernel at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// How long a new connection may take to say hello.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// Publishes are confirmed after this many, [`RECEIPT_BYTES`] or [`RECEIPT_WAIT`]. Until then
/// their publisher keeps them.
const RECEIPT_EVERY: u64 = 1024;
/// About what the kernel holds of a connection.
const RECEIPT_BYTES: usize = 256 << 10;
/// Longer than a burst, so that it is confirmed once; shorter than anybody minds.
const RECEIPT_WAIT: Duration = Duration::from_millis(20);
/// Pause after the process or the machine is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an owner that ends goes on writing to members that do not read.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// Accepts members until `tasks` stop; then ends all connections.
pub(super) async fn accept(owner: &Arc<Owner>, listener: UnixListener, tasks: &Tasks) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = tasks.stopping() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _unnamed)) => {
                let owner = Arc::clone(owner);
                connections.spawn(async move { serve(&owner, stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a process that wants to join");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    owner.begin_leaving();
    // What is left after that is aborted when the set is dropped.
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        tracing::debug!("left while a member was not reading");
    }
}

async fn serve(owner: &Owner, stream: UnixStream) {
    let (read, write) = stream.into_split();
    let mut frames = FrameReader::new(read);
    let hello = tokio::time::timeout(HELLO_WAIT, frames.next()).await;
    let Ok(Ok(Some(Frame::Hello { member, rejoins }))) = hello else {
        tracing::warn!("a process that speaks another protocol was sent away");
        return send_away(write).await;
    };
    let connection = Arc::new(Connection::new(member));
    owner.enter(&connection);
    connection.tell(&Frame::Welcome);
    let mut reader =
        MemberReader { owner, connection: &connection, rejoins, interest: Interest::default() };
    let read = async {
        let end = reader.run(&mut frames).await;
        owner.stopped_reading().await;
        connection.tell(&Frame::Leaving);
        connection.close();
        end
    };
    if let (Err(error), _) = tokio::join!(read, connection.write_to(write)) {
        tracing::warn!(%error, "a member sent what is no frame");
    }
    owner.leave(&connection, reader.interest);
}

/// Shows the other end our version, from which it can tell why.
async fn send_away(mut write: OwnedWriteHalf) {
    let mut welcome = BytesMut::new();
    Frame::Welcome.encode(&mut welcome);
    if let Err(error) = write.write_all(&welcome).await {
        tracing::debug!(%error, "it had gone already");
    }
}

/// Reads what one member sends.
struct MemberReader<'a> {
    owner: &'a Owner,
    connection: &'a Arc<Connection>,
    rejoins: bool,
    interest: Interest,
}

impl MemberReader<'_> {
    async fn run(&mut self, frames: &mut FrameReader) -> io::Result<()> {
        let owner = self.owner;
        let mut leaving = pin!(owner.leaving());
        let mut receipts = Receipts::default();
        loop {
            let next = tokio::select! {
                biased;
                () = &mut leaving => {
                    self.connection.tell(&receipts.now());
                    return Ok(());
                }
                next = frames.next() => next?,
                () = receipts.due() => {
                    self.connection.tell(&receipts.now());
                    continue;
                }
            };
            let Some(frame) = next else { return Ok(()) };
            let publish = match &frame {
                Frame::Publish { message, .. } => Some(message_bytes(message)),
                _ => None,
            };
            self.handle(frame, receipts.received).await;
            if publish.is_some_and(|bytes| receipts.count(bytes)) {
                self.connection.tell(&receipts.now());
            }
        }
    }

    async fn handle(&mut self, frame: Frame, received: u64) {
        let Some(frame) = self.interest.apply(self.owner, self.connection, frame) else { return };
        match frame {
            Frame::Publish { asks, message } => {
                self.owner.settled().await;
                let reached = self.owner.route(Origin::Member(self.connection), &message);
                if let (0, true, Some(reply)) = (reached, asks, message.reply) {
                    self.connection.tell(&Frame::Unanswered { reply });
                }
            }
            Frame::Wake { topic } => self.owner.wake_from(self.connection, &topic),
            Frame::Ping { token } => self.connection.tell(&Frame::Pong { token, received }),
            Frame::Synced => {
                self.owner.arrived(self.connection);
                // It may have sent wake-ups that the last owner did not pass on.
                if self.rejoins {
                    self.owner.wake_all();
                }
            }
            unexpected => tracing::warn!(?unexpected, "a member sent what only owners send"),
        }
    }
}

/// Which publishes of a member have been handled, and which of them it knows of.
#[derive(Debug)]
struct Receipts {
    received: u64,
    confirmed: u64,
    bytes: usize,
    due: Instant,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { received: 0, confirmed: 0, bytes: 0, due: Instant::now() }
    }
}

impl Receipts {
    /// Counts a publish; true if it is time for a receipt.
    fn count(&mut self, bytes: usize) -> bool {
        if self.received == self.confirmed {
            self.due = Instant::now() + RECEIPT_WAIT;
        }
        self.received += 1;
        self.bytes += bytes;
        self.received - self.confirmed >= RECEIPT_EVERY || self.bytes >= RECEIPT_BYTES
    }

    /// Resolves when a receipt is due.
    async fn due(&self) {
        if self.received == self.confirmed {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.due).await;
    }

    fn now(&mut self) -> Frame {
        self.confirmed = self.received;
        self.bytes = 0;
        Frame::Received { count: self.received }
    }
}

/// Frames off a socket.
#[derive(Debug)]
pub(super) struct FrameReader {
    half: OwnedReadHalf,
    decoder: Decoder,
}

impl FrameReader {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Self { half, decoder: Decoder::default() }
    }

    /// The next frame; `None` when the other end has closed. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let decoded = self.decoder.next();
            if let Some(frame) =
                decoded.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?
            {
                return Ok(Some(frame));
            }
            self.decoder.buffer.reserve(READ_BYTES);
            match self.half.read_buf(&mut self.decoder.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // Killed processes end like this too: it is an end, not a fault.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
