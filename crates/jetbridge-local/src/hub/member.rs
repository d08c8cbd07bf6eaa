//! The work of a member: one connection to the owner, from hello to its end.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use jetbridge_core::Tasks;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;

use super::frame::{Frame, Malformed};
use super::local::Local;
use super::outbox::Outbox;
use super::ping::Pings;
use super::place::Place;
use super::serve::FrameReader;

/// How long an owner may take to answer a hello; one that is stopped by a debugger does not.
const WELCOME_WAIT: Duration = Duration::from_secs(1);
/// How long a member that leaves goes on writing to an owner that does not read.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// Bytes handed to the kernel at once.
const WRITE_BYTES: usize = 256 << 10;

/// A connection the owner has welcomed.
#[derive(Debug)]
pub(super) struct Welcomed {
    frames: FrameReader,
    write: OwnedWriteHalf,
}

/// Connects to the owner and says hello.
pub(super) async fn greet(place: &Place, member: u64, rejoins: bool) -> io::Result<Welcomed> {
    let (read, mut write) = place.connect().await?.into_split();
    let mut frames = FrameReader::new(read);
    let mut hello = BytesMut::new();
    Frame::Hello { member, rejoins }.encode(&mut hello);
    write.write_all(&hello).await?;
    let welcome = tokio::time::timeout(WELCOME_WAIT, frames.next()).await;
    match welcome.map_err(|_late| io::Error::from(io::ErrorKind::TimedOut))?? {
        Some(Frame::Welcome) => Ok(Welcomed { frames, write }),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, Malformed::Layout)),
        // It ended, or closed the door on us because it speaks another version.
        None => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// What a session works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session<'a> {
    /// This process's interest.
    pub(super) local: &'a Local,
    /// What it has to tell.
    pub(super) outbox: &'a Outbox,
    /// Whom it owes an answer.
    pub(super) pings: &'a Pings,
    /// When to stop.
    pub(super) tasks: &'a Tasks,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// The owner is gone; so many publishes may not have arrived.
    Lost(u64),
    /// This process stops.
    Stopped,
}

impl Session<'_> {
    /// Runs until the owner is gone or the tasks stop.
    pub(super) async fn run(self, welcomed: Welcomed) -> Ended {
        let Welcomed { mut frames, mut write } = welcomed;
        self.outbox.connect(|| {
            let mut announcements = self.local.announcements();
            announcements.push(Frame::Synced);
            announcements.extend(self.pings.open_tokens().map(|token| Frame::Ping { token }));
            announcements
        });
        let sent = Sent::default();
        let ended = {
            let writing = pin!(self.write(&mut write, &sent));
            self.until_end(&mut frames, &sent, writing).await
        };
        let unhandled = sent.unhandled();
        match ended {
            Ok(_) if self.tasks.is_stopping() => Ended::Stopped,
            Ok(OwnerEnd::Left) => {
                self.outbox.disconnect(unhandled.into_iter());
                Ended::Lost(0)
            }
            Ok(OwnerEnd::Died) => self.lost(unhandled),
            Err(error) => {
                tracing::debug!(%error, "the connection to the owner broke");
                self.lost(unhandled)
            }
        }
    }

    /// What the owner had not confirmed, it may or may not have handled: at most once means that
    /// it is not sent again.
    fn lost(self, unhandled: VecDeque<Frame>) -> Ended {
        self.outbox.disconnect(std::iter::empty());
        self.local.replies().fail_sent();
        Ended::Lost(u64::try_from(unhandled.len()).unwrap_or(u64::MAX))
    }

    async fn until_end(
        self,
        frames: &mut FrameReader,
        sent: &Sent,
        mut writing: Pin<&mut impl Future<Output = io::Result<()>>>,
    ) -> io::Result<OwnerEnd> {
        tokio::select! {
            // The reader comes first: what the owner sent before it ended is to be delivered.
            biased;
            end = self.read(frames, sent) => end,
            end = &mut writing => {
                // Behind what is left to read, the reader finds how the owner ended.
                let rest = self.read(frames, sent);
                let rest = tokio::time::timeout(STOP_WAIT, rest).await;
                rest.unwrap_or(end.map(|()| OwnerEnd::Died))
            }
            () = self.tasks.stopping() => {
                self.outbox.close();
                if tokio::time::timeout(STOP_WAIT, writing).await.is_err() {
                    tracing::debug!("left while the owner was not reading");
                }
                Ok(OwnerEnd::Died)
            }
        }
    }

    async fn read(self, frames: &mut FrameReader, sent: &Sent) -> io::Result<OwnerEnd> {
        while let Some(frame) = frames.next().await? {
            match frame {
                Frame::Deliver { plain, picks, message } => {
                    if plain {
                        self.local.deliver_plain(&message);
                    }
                    for sid in picks {
                        self.local.deliver_to(sid, &message);
                    }
                }
                Frame::Dropped { sid, count } => self.local.report_dropped(sid, count),
                Frame::Wake { topic } => self.local.wake(&topic),
                Frame::Pong { token, received } => {
                    sent.handled(received);
                    self.pings.answer(token);
                }
                Frame::Hush { topic } => self.outbox.hush(topic),
                Frame::Rouse { topic } => self.outbox.rouse(&topic),
                Frame::Unanswered { reply } => self.local.replies().nobody(&reply),
                Frame::Received { count } => sent.handled(count),
                Frame::Leaving => return Ok(OwnerEnd::Left),
                unexpected => tracing::warn!(?unexpected, "the owner sent what only members send"),
            }
        }
        Ok(OwnerEnd::Died)
    }

    /// Writes what is in the outbox, until it is closed and empty.
    async fn write(self, write: &mut OwnedWriteHalf, sent: &Sent) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        while let Some(frames) = self.outbox.take().await {
            for frame in frames {
                frame.encode(&mut buffer);
                if let Frame::Publish { asks, message } = &frame {
                    if *asks {
                        self.local.replies().sent(message.reply.as_ref());
                    }
                    sent.push(frame);
                }
                if buffer.len() >= WRITE_BYTES {
                    write.write_all(&buffer).await?;
                    buffer.clear();
                }
            }
            write.write_all(&buffer).await?;
            buffer.clear();
        }
        write.shutdown().await
    }
}

/// How an owner ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OwnerEnd {
    /// Without a word.
    Died,
    /// In order: what it has not confirmed, it has not handled.
    Left,
}

/// The publishes on their way to the owner: no more than the kernel and a receipt's worth.
#[derive(Debug, Default)]
struct Sent(Mutex<(u64, VecDeque<Frame>)>);

impl Sent {
    fn push(&self, frame: Frame) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push_back(frame);
    }

    /// The owner has handled so many since the beginning.
    fn handled(&self, count: u64) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (handled, frames) = &mut *sent;
        while *handled < count && frames.pop_front().is_some() {
            *handled += 1;
        }
    }

    fn unhandled(self) -> VecDeque<Frame> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }
}
