//! Connections: accepted, spoken to in HTTP/1.1, and ended.
//!
//! A client costs little, however slowly it speaks: heads have a deadline, writes may not stall,
//! and there is a most of connections. What is asked and answered is the router's business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jetbridge_core::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections at once; more wait in the kernel's queue. Room for 10,000 streams of events.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a client may take to say what it wants, and how long it may say nothing in between.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on encryption.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing of what it is sent.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may still send when all was answered. A connection that is closed over unread
/// bytes is reset, and takes the answer with it that says why they were not read.
const LINGER: Duration = Duration::from_secs(2);
/// How many bytes are thrown away then, at most.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// How many of them at a time.
const LINGER_PIECE_BYTES: usize = 8 << 10;
/// How long a request under way may still take when the server stops.
const GRACE: Duration = Duration::from_secs(2);
/// How long not to accept when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `tasks` stop; each connection is one of them.
pub(super) async fn serve(
    listener: Arc<TcpListener>,
    tls: Option<TlsAcceptor>,
    router: Router,
    tasks: Tasks,
) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async || {
        // The semaphore is never closed.
        let seat = Arc::clone(&seats).acquire_owned().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>((seat, listener.accept().await?.0))
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok((seat, stream)) => {
                let (router, tls, stopping) = (router.clone(), tls.clone(), tasks.clone());
                tasks.spawn(async move {
                    handle(stream, tls, router, stopping).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handle(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, stopping: Tasks) {
    // Answers are written whole: what waits for more to send would only come later.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection has ended at once");
        return;
    }
    match tls {
        None => speak(stream, router, stopping).await,
        // Apart, so that connections without encryption are as small as they can be.
        Some(tls) => Box::pin(encrypted(stream, tls, router, stopping)).await,
    }
}

async fn encrypted(stream: TcpStream, tls: TlsAcceptor, router: Router, stopping: Tasks) {
    let agreed = tokio::select! {
        // Nothing was asked yet that would have to be answered.
        () = stopping.stopping() => return,
        agreed = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => agreed,
    };
    match agreed {
        Ok(Ok(stream)) => speak(stream, router, stopping).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client did not agree on encryption"),
        Err(_elapsed) => tracing::debug!("a client took too long to agree on encryption"),
    }
}

async fn speak<S>(stream: S, router: Router, stopping: Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let stream = TokioIo::new(Stalling { stream, stalled: None, lingering: None });
    let mut connection =
        std::pin::pin!(http.serve_connection(stream, TowerToHyperService::new(router)));
    tokio::select! {
        ended = &mut connection => return log(ended),
        () = stopping.stopping() => connection.as_mut().graceful_shutdown(),
    }
    // What takes longer is dropped with the connection.
    if let Ok(ended) = timeout(GRACE, connection).await {
        log(ended);
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// A stream whose writes end with an error if the other side reads nothing for
/// [`STALL_TIMEOUT`], and which listens for [`LINGER`] when it is shut down.
struct Stalling<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
    /// From the end of what is sent on: until when to listen, and for how many bytes more.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: Unpin> Stalling<S> {
    /// What `poll` came to, or that it has been pending for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = poll(Pin::new(&mut self.stream), context) {
            self.stalled = None;
            return Poll::Ready(done);
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stalling<S> {
    /// Throws away what still comes, until it ends or has lasted too long.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let begun = || (Box::pin(sleep(LINGER)), LINGER_BYTES_MAX);
        let (until, left) = self.lingering.get_or_insert_with(begun);
        let mut piece = [0; LINGER_PIECE_BYTES];
        while *left > 0 && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            match buffer.filled().len() {
                0 => break,
                bytes if read.is_ok() => *left = left.saturating_sub(bytes),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(self.watch(context, |stream, context| stream.poll_shutdown(context)))?;
        }
        self.poll_linger(context).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch(context, |stream, context| stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_testkit::Certificates;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::TlsSpec;
    use super::*;

    /// A server that speaks TLS to whoever does.
    async fn encrypted(tasks: &Tasks) -> std::net::SocketAddr {
        let certificates = Certificates::new();
        let file = |name: &str| certificates.dir().join(name);
        let spec = TlsSpec::read(&file("server.pem"), &file("server-key.pem")).unwrap();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let acceptor = spec.acceptor().unwrap();
        tasks.spawn(serve(listener, Some(acceptor), Router::new(), tasks.clone()));
        address
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_hangs_does_not_hold_up_the_end() {
        let tasks = Tasks::new();
        let mut silent = TcpStream::connect(encrypted(&tasks).await).await.unwrap();
        // The first bytes of a hello, and no more.
        silent.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        while tasks.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.stop(HANDSHAKE_TIMEOUT / 2).await, 0);
        assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_hangs_is_given_up() {
        let tasks = Tasks::new();
        let mut silent = TcpStream::connect(encrypted(&tasks).await).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);
        assert!(begun.elapsed() >= HANDSHAKE_TIMEOUT, "it ended before its time");
        assert_eq!(tasks.stop(GRACE).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_given_up() {
        let (stream, _unread) = tokio::io::duplex(8);
        let mut stalling = Stalling { stream, stalled: None, lingering: None };
        stalling.write_all(b"12345678").await.unwrap();
        let error = stalling.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
