//! Putting an object: chunks in a window sized in bytes, the digest on the way, the meta last.
//!
//! The name appears only when every chunk is acknowledged, and in the order sent. Until then the
//! chunks belong to a name of chance that nobody refers to; whatever ends the upload, an error or
//! a dropped future, removes them. The meta is written under a condition, so that of two uploads
//! of one name each knows which chunks it replaced and none are left behind.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use jetbridge_core::{
    Backoff, Body, Digest, Error, ErrorKind, Expect, ObjectInfo, ObjectName, ObjectPut, Outcome,
    Result, random,
};

use crate::error::ApiError;
use crate::object::Shelf;
use crate::object_meta::{LinkMeta, Meta, Options, Placed};
use crate::publish::{Window, is_no_stream};
use crate::request::{Call, Outgoing};
use crate::wire::PubAck;

/// Bytes of one chunk, as every client's default has it; measured to be the best size too.
pub(crate) const CHUNK_BYTES_DEFAULT: u32 = 128 * 1024;
/// Bytes of chunks under way per upload: bandwidth times round trip for 640 MB/s at 12.5 ms, and
/// a sixteenth of what a server buffers for one stream (128 MiB) before it refuses more.
const WINDOW_BYTES: usize = 8 << 20;
const _: () = assert!(WINDOW_BYTES >= 2 * CHUNK_BYTES_DEFAULT as usize, "a window holds chunks");

const OPERATION: &str = "object.put";

/// Stores `body` as `name`.
pub(crate) async fn put(
    shelf: &Shelf,
    name: &ObjectName,
    body: Body,
    opts: ObjectPut,
) -> Result<ObjectInfo> {
    let before = shelf.meta(name, OPERATION).await?;
    check_expected(opts.expect, before.as_ref(), name)?;
    let chunk_bytes = chunk_bytes(shelf, &opts)?;
    let mut upload = Upload::new(shelf.clone());
    let sent = match upload.send(body, chunk_bytes).await {
        Ok(sent) => sent,
        Err(error) => {
            upload.remove().await;
            let call = shelf.api.link().repeatable(OPERATION);
            let error = shelf.copies.explain_silence(&shelf.api, error, &call).await;
            return Err(error.with("object", name));
        }
    };
    let meta = Meta {
        name: name.to_string(),
        description: opts.description,
        headers: Meta::headers_to_wire(&opts.headers),
        options: Some(Options { link: None, max_chunk_size: Some(chunk_bytes) }),
        bucket: shelf.bucket.to_string(),
        nuid: upload.nuid.clone(),
        size: sent.size,
        chunks: sent.chunks,
        digest: Some(sent.digest.to_string()),
        deleted: false,
    };
    let finish = finish(shelf.clone(), upload, meta, (opts.expect, before));
    Finish { shelf: shelf.clone(), running: Some(finish.boxed()) }.await
}

/// Lets the name appear, and removes what is then of no use: what it replaced, or the upload.
async fn finish(
    shelf: Shelf,
    mut upload: Upload,
    meta: Meta,
    (expect, before): (Expect, Option<Placed>),
) -> Result<ObjectInfo> {
    // From here on the meta may be there, and its chunks must then be.
    upload.keep();
    match shelf.replace(meta, expect, before).await {
        Ok((placed, replaced)) => {
            shelf.remove_chunks_of(replaced.as_ref().map(|placed| &placed.meta)).await;
            placed.info()
        }
        Err(error) if error.outcome() == Outcome::Unknown => Err(error),
        Err(error) => {
            upload.remove().await;
            Err(error)
        }
    }
}

/// The end of an upload, which is reached in the background if the caller gives it up: a meta on
/// its way lands or not, and only who waits for that knows which chunks to remove.
struct Finish {
    shelf: Shelf,
    running: Option<BoxFuture<'static, Result<ObjectInfo>>>,
}

impl Future for Finish {
    type Output = Result<ObjectInfo>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.running else { return Poll::Pending };
        let done = ready!(running.poll_unpin(cx));
        self.running = None;
        Poll::Ready(done)
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.shelf.api.link().cleanups().spawn(async { drop(running.await) });
        }
    }
}

/// Makes `name` stand for what `link` says.
pub(crate) async fn link(shelf: &Shelf, name: &ObjectName, link: LinkMeta) -> Result<ObjectInfo> {
    let before = shelf.meta(name, "object.link").await?;
    if before.as_ref().is_some_and(|it| !it.meta.deleted && !it.meta.is_link()) {
        return Err(Error::new(ErrorKind::InvalidInput, "object.link")
            .because("an object of that name is there, and it is no link")
            .with("object", name)
            .hint("delete the object first, or pick another name"));
    }
    let meta = Meta {
        name: name.to_string(),
        options: Some(Options { link: Some(link), max_chunk_size: None }),
        bucket: shelf.bucket.to_string(),
        nuid: random::name(),
        ..Meta::default()
    };
    let (placed, _replaced) = shelf.replace(meta, Expect::Any, before).await?;
    placed.info()
}

fn chunk_bytes(shelf: &Shelf, opts: &ObjectPut) -> Result<u32> {
    let wanted = opts.chunk_bytes.unwrap_or(CHUNK_BYTES_DEFAULT);
    let most = u32::try_from(shelf.api.link().client().max_payload()).unwrap_or(u32::MAX);
    match opts.chunk_bytes {
        Some(0) => {
            Err(Error::new(ErrorKind::InvalidInput, OPERATION)
                .because("a chunk has at least one byte"))
        }
        Some(bytes) if bytes > most => Err(Error::new(ErrorKind::LimitExceeded, OPERATION)
            .because("a chunk is a message, and this is over the server's limit for one")
            .with("chunk_bytes", bytes)
            .with("max_payload", most)),
        _ => Ok(wanted.min(most)),
    }
}

/// Fails at once what the meta's condition would fail after the whole upload.
pub(crate) fn check_expected(
    expect: Expect,
    before: Option<&Placed>,
    name: &ObjectName,
) -> Result<()> {
    let live = before.filter(|placed| !placed.meta.deleted);
    let holds = match (expect, live) {
        (Expect::Any, _) | (Expect::Absent, None) => true,
        (Expect::Exactly(revision), Some(live)) => live.sequence == revision.0,
        (Expect::Absent, Some(_)) | (Expect::Exactly(_), None) => false,
    };
    if holds {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Conflict, OPERATION)
        .because("the name's present object is not the expected one")
        .with("object", name);
    Err(error.with("revision", live.map_or(0, |live| live.sequence)))
}

/// Chunks on their way under a name of chance. Unless kept, they are removed, also when this is
/// dropped in mid-upload.
struct Upload {
    shelf: Shelf,
    nuid: String,
    window: Option<Window>,
    last: u64,
    kept: bool,
}

struct Sent {
    size: u64,
    chunks: u64,
    digest: Digest,
}

impl Upload {
    fn new(shelf: Shelf) -> Self {
        let window = Some(Window::new(shelf.api.link().clone(), WINDOW_BYTES));
        Self { shelf, nuid: random::name(), window, last: 0, kept: false }
    }

    /// Cuts `body` into chunks of `chunk_bytes`, whatever pieces it comes in, and sends them all.
    async fn send(&mut self, mut body: Body, chunk_bytes: u32) -> Result<Sent> {
        let chunk_bytes = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        let mut sent = (0_u64, 0_u64);
        let mut hash = Sha256::new();
        let mut rest = BytesMut::new();
        while let Some(piece) = body.next().await {
            let mut piece = piece?;
            while rest.len() + piece.len() >= chunk_bytes {
                let chunk = fill(&mut rest, &mut piece, chunk_bytes);
                self.chunk(chunk, &mut hash, &mut sent).await?;
            }
            rest.extend_from_slice(&piece);
        }
        if !rest.is_empty() && sent.1 == 0 {
            self.only_chunk(rest.freeze(), &mut hash, &mut sent).await?;
        } else if !rest.is_empty() {
            self.chunk(rest.freeze(), &mut hash, &mut sent).await?;
        }
        if let Some(window) = &mut self.window {
            let acks = window.finish().await.map_err(settled)?;
            self.check_order(&acks)?;
        }
        let digest = Digest::from_bytes(hash.finalize().into());
        Ok(Sent { size: sent.0, chunks: sent.1, digest })
    }

    async fn chunk(
        &mut self,
        chunk: Bytes,
        hash: &mut Sha256,
        sent: &mut (u64, u64),
    ) -> Result<()> {
        sent.0 += chunk.len() as u64;
        sent.1 += 1;
        let out = Outgoing::new(self.shelf.chunk_subject(&self.nuid), chunk.clone());
        let call = self.shelf.api.link().once(OPERATION);
        let Some(window) = &mut self.window else {
            return Err(Error::new(ErrorKind::Internal, OPERATION).because("the window is closed"));
        };
        let acks = window.push(&out, &call).await.map_err(settled)?;
        // While the bytes travel.
        hash.update(&chunk);
        self.check_order(&acks)
    }

    /// The chunk of an object that has but one: no other can overtake it, so it is sent again while
    /// nobody answers for the bucket, which in a cluster may happen for a moment.
    async fn only_chunk(
        &mut self,
        chunk: Bytes,
        hash: &mut Sha256,
        sent: &mut (u64, u64),
    ) -> Result<()> {
        *sent = (chunk.len() as u64, 1);
        hash.update(&chunk);
        let out = Outgoing::new(self.shelf.chunk_subject(&self.nuid), chunk);
        let call = self.shelf.api.link().once(OPERATION);
        let ack = self.shelf.publish(&out, &call).await.map_err(settled)?;
        let ack = ack.map_err(|refused| refused.into_error(OPERATION))?;
        self.check_order(&[ack])
    }

    /// Chunks are read back in the stream's order, which must be the body's.
    fn check_order(&mut self, acks: &[PubAck]) -> Result<()> {
        for ack in acks {
            if ack.seq <= self.last || ack.stream != self.shelf.stream {
                return Err(Error::new(ErrorKind::Internal, OPERATION)
                    .because("the server stored a chunk out of order, or elsewhere")
                    .with("stream", &ack.stream)
                    .with("sequence", ack.seq));
            }
            self.last = ack.seq;
        }
        Ok(())
    }

    fn keep(&mut self) {
        self.kept = true;
    }

    /// Removes what was sent, as far as the server can be reached.
    async fn remove(mut self) {
        self.kept = true;
        clean(self.shelf.clone(), self.nuid.clone(), self.window.take()).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept {
            let cleaning = clean(self.shelf.clone(), self.nuid.clone(), self.window.take());
            self.shelf.api.link().cleanups().spawn(cleaning);
        }
    }
}

/// Waits until nothing more is on its way, then removes the chunks. What cannot be removed now,
/// because the server is gone, is what sweeping is for.
async fn clean(shelf: Shelf, nuid: String, window: Option<Window>) {
    if let Some(mut window) = window {
        window.settle().await;
    }
    shelf.remove_chunks(&nuid).await;
}

/// A whole chunk from what was left over and the next piece; of the piece alone without copying.
fn fill(rest: &mut BytesMut, piece: &mut Bytes, chunk_bytes: usize) -> Bytes {
    if rest.is_empty() {
        return piece.split_to(chunk_bytes);
    }
    let missing = chunk_bytes - rest.len();
    rest.extend_from_slice(&piece.split_to(missing));
    rest.split().freeze()
}

/// A chunk that may have been stored is none of the object: the name does not appear.
fn settled(error: Error) -> Error {
    if error.outcome() == Outcome::NotApplied {
        return error;
    }
    Error::new(error.kind(), OPERATION)
        .because("the upload was broken off; the object is as it was before")
        .caused_by(error)
}

impl Shelf {
    /// Publishes `out`, again and again while nobody answers for a bucket that is there.
    pub(crate) async fn publish(
        &self,
        out: &Outgoing,
        call: &Call,
    ) -> Result<std::result::Result<PubAck, ApiError>> {
        let link = self.api.link();
        let mut backoff = Backoff::outage();
        loop {
            let silence = match link.publish(out, &link.once(call.operation)).await {
                Err(error) if is_no_stream(&error) => error,
                answered => return answered,
            };
            let reading = call.repeatable();
            let error = self.copies.explain_silence(&self.api, silence, &reading).await;
            if !error.is_retryable() || call.is_over() {
                return Err(error);
            }
            backoff.wait().await;
        }
    }

    /// Publishes `meta` under `expect`; returns it with its place, and what it replaced.
    pub(crate) async fn replace(
        &self,
        meta: Meta,
        expect: Expect,
        mut before: Option<Placed>,
    ) -> Result<(Placed, Option<Placed>)> {
        let name = ObjectName::parse(&meta.name)?;
        let deadline = self.api.link().once(OPERATION).deadline;
        let mut unclear = None;
        loop {
            check_expected(expect, before.as_ref(), &name)?;
            let over = before.as_ref().map_or(0, |placed| placed.sequence);
            match self.write_meta(&meta, over).await {
                Ok(Some(placed)) => return Ok((placed, before)),
                Ok(None) => {}
                Err(error) if error.outcome() == Outcome::Unknown => unclear = Some(error),
                Err(error) => return Err(unclear.unwrap_or(error)),
            }
            // Lost a race, or an acknowledgement: what is there now tells which.
            let now = match self.meta(&name, OPERATION).await {
                Ok(now) => now,
                Err(error) => return Err(unclear.unwrap_or(error)),
            };
            if let Some(placed) = now.as_ref().filter(|placed| placed.meta.nuid == meta.nuid) {
                return Ok((placed.clone(), before));
            }
            let is_untouched = now.as_ref().map_or(0, |placed| placed.sequence) == over;
            if let Some(error) = unclear.take_if(|_| !is_untouched) {
                // Ours may have landed and been replaced, its chunks removed: written again, it
                // would describe bytes that are gone. Its condition holds no more, so it can never
                // land now, and whichever replaced what was there before, nobody refers to that.
                let present = now.as_ref().map(|placed| placed.meta.nuid.as_str());
                for gone in [Some(&meta), before.as_ref().map(|placed| &placed.meta)] {
                    // Others may have changed no more than the description.
                    let gone = gone.filter(|gone| present != Some(gone.nuid.as_str()));
                    self.remove_chunks_of(gone).await;
                }
                return Err(error);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::Unavailable, OPERATION)
                    .because("other writers of the same name were faster every time")
                    .with("object", &name));
            }
            before = now;
        }
    }
}
