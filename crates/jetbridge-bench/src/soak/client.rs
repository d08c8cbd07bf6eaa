//! Asks `up` over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, timeout};

use crate::Outcome;

/// How long one answer may take: more than `up` gives itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long everything may take to do its work, at the start and after what happened to it.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Clones share the connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The number that the body begins with.
    pub(super) fn number(&self) -> Option<u64> {
        let text = std::str::from_utf8(&self.body).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        Self { http: Http::builder(TokioExecutor::new()).build_http(), base: base.to_owned() }
    }

    /// What is answered; `None` if nothing is, in which case it may have been done.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Bytes) -> Option<Answer> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.body(Full::new(body)).ok()?;
        let exchange = async {
            let response = self.http.request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Answer { status, body })
        };
        timeout(ANSWER_WITHIN, exchange).await.ok().flatten()
    }

    /// Events, from behind `last` on; they go on for as long as they are read.
    pub(super) async fn events(&self, path: &str, last: Option<&str>) -> Option<Incoming> {
        let mut request = Request::builder().uri(format!("{}{path}", self.base));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let request = request.body(Full::default()).ok()?;
        let response = timeout(ANSWER_WITHIN, self.http.request(request)).await.ok()?.ok()?;
        response.status().is_success().then(|| response.into_body())
    }

    pub(super) async fn get(&self, path: &str) -> Option<Answer> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Waits until every section does its work.
    pub(super) async fn ready(&self) -> Outcome {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = self.get("/readyz").await;
            if answer.as_ref().is_some_and(Answer::is_success) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = answer.map(|it| String::from_utf8_lossy(&it.body).into_owned());
                let why = why.unwrap_or_else(|| "it does not answer".to_owned());
                return Err(format!("up is not ready within {READY_WITHIN:?}: {why}").into());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
