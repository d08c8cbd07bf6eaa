//! Pages become files: from memory at once, or as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::stream::{self, Peekable};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{Body, Result};

use crate::capture::Page;
use crate::ltx::{Encoder, Header};

/// Bytes of a file that are handed on at once: a chunk as Litestream writes it.
const CHUNK_BYTES: usize = 128 << 10;

/// A file of pages that are in memory.
pub(super) fn encode(header: Header, pages: &[Page]) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new(), header)?.partial();
    for page in pages {
        encoder.page(page.pgno, &page.data)?;
    }
    encoder.finish().map(|(file, _written)| file)
}

type Stream = Peekable<BoxStream<'static, Result<Page>>>;

/// Pages that are read as they are sent, over several files.
pub(super) struct Source {
    pages: Arc<tokio::sync::Mutex<Stream>>,
    failed: Arc<AtomicBool>,
}

impl Source {
    pub(super) fn new(pages: BoxStream<'static, Result<Page>>) -> Self {
        let failed = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&failed);
        let pages = pages.inspect_err(move |_error| noted.store(true, Ordering::Relaxed)).boxed();
        Self { pages: Arc::new(tokio::sync::Mutex::new(pages.peekable())), failed }
    }

    /// True if a page could not be read.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) async fn has_more(&self) -> Result<bool> {
        let mut pages = self.pages.lock().await;
        Ok(std::pin::Pin::new(&mut *pages).peek().await.is_some())
    }

    /// The next pages, `count` at most, as a file.
    pub(super) fn part(&self, header: Header, count: u64) -> Result<Body> {
        let part = Part {
            pages: Arc::clone(&self.pages),
            encoder: Some(Encoder::new(Vec::with_capacity(CHUNK_BYTES), header)?.partial()),
            left: count,
        };
        let body = stream::try_unfold(part, |mut part| async move {
            let chunk = part.next().await?;
            Ok(chunk.map(|chunk| (chunk, part)))
        });
        Ok(body.boxed())
    }
}

struct Part {
    pages: Arc<tokio::sync::Mutex<Stream>>,
    encoder: Option<Encoder<Vec<u8>>>,
    left: u64,
}

impl Part {
    /// The next bytes of the file; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        let mut pages = self.pages.lock().await;
        while self.left > 0 {
            let Some(page) = pages.next().await.transpose()? else { break };
            encoder.page(page.pgno, &page.data)?;
            self.left -= 1;
            if encoder.writer_mut().len() >= CHUNK_BYTES {
                let chunk =
                    std::mem::replace(encoder.writer_mut(), Vec::with_capacity(CHUNK_BYTES));
                self.encoder = Some(encoder);
                return Ok(Some(chunk.into()));
            }
        }
        encoder.finish().map(|(file, _written)| Some(file.into()))
    }
}
