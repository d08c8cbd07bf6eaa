//! Carries batches of spans to the collector, and says when it begins and ends to fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::uri::Scheme;
use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jetbridge_core::{Error, ErrorKind, Result};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::{Builder, Runtime};

use super::settings::Settings;
use crate::causes::chain;
use crate::handler::{connector, origin};

/// Bytes of an answer that are read; it says little more than that all is well.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The HTTP client of the thread that sends.
#[derive(Debug)]
pub(super) struct Courier {
    /// Its own: the spans of the end are sent when the process's has ended.
    runtime: Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    /// As the log names it.
    collector: String,
    fails: AtomicBool,
}

impl Courier {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Unavailable, "traces.start").caused_by(error))?;
        let connector = connector(settings.endpoint.scheme() == Some(&Scheme::HTTPS))?;
        // Seconds lie between two batches, and nobody attends to a connection meanwhile.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self {
            runtime,
            client,
            timeout: settings.timeout,
            collector: origin(&settings.endpoint.to_string()),
            fails: AtomicBool::new(false),
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let exchange = async {
            let response = self.client.request(request.map(Full::new)).await;
            let (parts, body) = response.map_err(|error| chain(&error))?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("the answer could not be read: {error}"))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let late = |_elapsed| format!("there was no answer within {:?}", self.timeout);
        tokio::time::timeout(self.timeout, exchange).await.map_err(late)?
    }

    /// One line when it begins to fail, and one when that is over.
    fn say(&self, answer: &Result<Response<Bytes>, String>) {
        let collector = &self.collector;
        let reason = match answer {
            Ok(answer) if answer.status().is_success() => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!(collector, "the collector takes traces again");
                }
                return;
            }
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(reason) => reason.clone(),
        };
        if !self.fails.swap(true, Ordering::Relaxed) {
            let words = "the collector takes no traces: spans that find no room are dropped";
            tracing::warn!(collector, reason, "{words}");
        }
    }
}

#[async_trait]
impl HttpClient for Courier {
    /// Blocks: the thread that sends does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.runtime.block_on(self.exchange(request));
        self.say(&answer);
        Ok(answer?)
    }
}
