//! Moving bytes from one side to the other, late and not all of them.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use crate::wire::{Frame, Frames};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Pieces under way in one direction: of up to [`READ_BYTES`] each, which delays of a second do
/// not fill on loopback.
const UNDER_WAY_MAX: usize = 4096;

/// Carries both directions until either side ends.
pub(super) async fn carry_both(
    client: &mut TcpStream,
    server: &mut TcpStream,
    shared: &Shared,
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        ended = carry(from_client, to_server, Cargo::Bytes, Lane { shared, to_client: false }) => ended,
        ended = carry(from_server, to_client, Cargo::Frames(Frames::default()), Lane { shared, to_client: true }) => ended,
    }
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Lane<'a> {
    shared: &'a Shared,
    to_client: bool,
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cargo: Cargo,
    Lane { shared, to_client }: Lane<'_>,
) -> io::Result<()> {
    let (pieces, mut under_way) = mpsc::channel(UNDER_WAY_MAX);
    let take = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            if !to_client {
                shared.asked();
            }
            let due = Instant::now() + shared.weather.borrow().one_way;
            for piece in cargo.sort(buffer.split().freeze(), shared) {
                pieces.send((due, piece)).await.map_err(io::Error::other)?;
            }
        }
    };
    let bring = async {
        let mut weather = shared.weather.subscribe();
        while let Some((due, piece)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            weather.wait_for(|weather| !weather.stalled).await.map_err(io::Error::other)?;
            if to_client {
                shared.answered();
            }
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = take => ended,
        ended = bring => ended,
    }
}

/// What a direction carries.
enum Cargo {
    Bytes,
    Frames(Frames),
}

impl Cargo {
    /// What of `arrived` goes on.
    fn sort(&mut self, arrived: Bytes, shared: &Shared) -> Vec<Bytes> {
        let Self::Frames(frames) = self else { return vec![arrived] };
        frames.buffer().extend_from_slice(&arrived);
        let mut kept = Vec::new();
        while let Some(frame) = frames.next() {
            if !(is_ack(&frame) && shared.loses_ack()) {
                kept.push(frame.bytes);
            }
        }
        if !frames.speak_nats() {
            // Encrypted, or WebSocket: it passes as it is.
            kept.push(frames.rest());
            *self = Self::Bytes;
        }
        kept
    }
}

/// True for the answer of JetStream to a message it was to store.
fn is_ack(frame: &Frame) -> bool {
    let Some(payload) = frame.payload() else { return false };
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(payload) else { return false };
    answer["stream"].is_string() && answer["seq"].is_u64()
}
