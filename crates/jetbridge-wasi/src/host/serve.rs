//! A listener whose requests a component answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use jetbridge_core::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::io::TokioIo;

use super::handler::Handler;

/// Connections served at once: more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to send the head of its next request: one that sends nothing would
/// keep its place for ever.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a connection could not be accepted, as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers with `handler` on `listener` until `tasks` stop; requests under way are answered first.
pub async fn serve(handler: Handler, listener: TcpListener, tasks: &Tasks) {
    let handler = Arc::new(handler);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            accepted = next(&listener, &room) => accepted,
        };
        match accepted {
            Some((stream, peer, permit)) => {
                let (handler, stopping) = (Arc::clone(&handler), tasks.clone());
                tasks.spawn(async move {
                    connection(handler, (stream, peer), &stopping).await;
                    drop(permit);
                });
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!("a connection was not accepted: {error}");
            None
        }
    }
}

async fn connection(handler: Arc<Handler>, (stream, peer): (TcpStream, SocketAddr), tasks: &Tasks) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("{peer}: {error}");
    }
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move {
            let answer = handler.answer(request).await;
            if let Some(error) = answer.failure {
                tracing::warn!("{error:?}");
            }
            Ok::<_, Infallible>(answer.response)
        }
    });
    let connection = http(HEAD_TIMEOUT).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("{peer}: {error}");
    }
}

fn http(head_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    http
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_sends_no_request_is_let_go() {
        let (_client, server) = tokio::io::duplex(1024);
        let service = service_fn(|_request| async {
            Ok::<_, Infallible>(hyper::Response::new(String::new()))
        });
        let idle = http(Duration::from_millis(50)).serve_connection(TokioIo::new(server), service);
        let served = tokio::time::timeout(Duration::from_secs(30), idle).await.unwrap();
        assert!(served.unwrap_err().is_timeout());
    }
}
