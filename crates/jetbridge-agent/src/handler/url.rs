//! A message to a URL: the payload is the body of a POST, facts and headers are its fields.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jetbridge_core::{Error, ErrorKind, Result};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tracing::Span;

use super::attempt::{ANSWER_BYTES_MAX, Attempt, Verdict};
use crate::causes::chain;
use crate::traces::{TRACEPARENT, traceparent};

/// Fields that belong to the connection or the body, not to the message.
const KEPT_FIELDS: [&str; 5] =
    ["connection", "content-length", "host", "transfer-encoding", "upgrade"];

/// The longest wait that the other side may ask for; more is a mistake or an attack.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// An HTTP client. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient {
    /// A client that trusts the system's authorities.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector(true)?)))
    }

    /// Posts `attempt`'s message to `url`.
    pub(crate) async fn post(&self, url: &str, attempt: &Attempt, timeout: Duration) -> Verdict {
        let request = request(url, attempt);
        let url = origin(url);
        let request = match request {
            Ok(request) => request,
            Err(error) => return Verdict::failed(format!("{url}: {error}")),
        };
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Err(_elapsed) => Verdict::failed(format!("{url} did not answer within {timeout:?}")),
            Ok(Err(reason)) => Verdict::failed(format!("{url}: {reason}")),
            Ok(Ok(answer)) => answer.verdict(&url),
        }
    }

    /// Asks for `url`; why it did not work.
    pub(crate) async fn get(
        &self,
        url: &str,
        timeout: Duration,
    ) -> std::result::Result<(), String> {
        let request = Request::builder().method(Method::GET).uri(url).body(Full::default());
        let url = origin(url);
        let request = request.map_err(|error| format!("{url}: {error}"))?;
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Err(_elapsed) => Err(format!("{url} did not answer within {timeout:?}")),
            Ok(Err(reason)) => Err(format!("{url}: {reason}")),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("{url} answered {}", answer.status)),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> std::result::Result<Answer, String> {
        let response = self.0.request(request).await.map_err(|error| chain(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer could not be read: {error}"))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
}

/// Connects in the clear, and, `encrypted`, to whom the system's authorities vouch for. A system
/// without any is no reason not to connect in the clear.
pub(crate) fn connector(encrypted: bool) -> Result<HttpsConnector<HttpConnector>> {
    let builder = HttpsConnectorBuilder::new();
    let builder = match encrypted {
        true => builder.with_native_roots().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "http.client")
                .because("the system's certificates could not be read")
                .caused_by(error)
        })?,
        false => {
            let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::new(ErrorKind::Internal, "http.client").caused_by(error))?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config)
        }
    };
    Ok(builder.https_or_http().enable_http1().build())
}

/// Scheme and host of `url`: its user, path and query may be secrets, and reasons go to logs, to
/// the status and into dead letters.
pub(crate) fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_user, host)| host);
    format!("{scheme}://{host}")
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn verdict(self, url: &str) -> Verdict {
        if self.status.is_success() {
            return Verdict::Done(self.body);
        }
        let wait = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = wait.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let retry_after = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
        Verdict::Failed { reason: format!("{url} answered {}", self.status), retry_after }
    }
}

fn request(url: &str, attempt: &Attempt) -> std::result::Result<Request<Full<Bytes>>, String> {
    let body = Full::new(attempt.message.payload.clone());
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .body(body)
        .map_err(|error| error.to_string())?;
    let fields = request.headers_mut();
    for (name, value) in attempt.message.headers.iter() {
        let kept = KEPT_FIELDS.iter().any(|kept| kept.eq_ignore_ascii_case(name));
        // What HTTP cannot carry stays behind; the facts below always arrive.
        if let (false, Ok(name), Ok(value)) = (kept, name.parse::<HeaderName>(), value.parse()) {
            fields.append(name, value);
        }
    }
    for (name, value) in attempt.facts() {
        let name = HeaderName::try_from(format!("jetbridge-{name}")).map_err(|e| e.to_string())?;
        fields.insert(name, HeaderValue::try_from(value).map_err(|e| e.to_string())?);
    }
    if let Some(Ok(parent)) = traceparent(&Span::current()).map(HeaderValue::try_from) {
        fields.insert(TRACEPARENT, parent);
    }
    fields.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/octet-stream"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use jetbridge_core::{Headers, Message, Subject};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn attempt() -> Attempt {
        let headers = Headers::new().with("Trace-Id", "7").unwrap().with("Host", "x").unwrap();
        let message = Message::new(Subject::parse("a.b").unwrap(), "hello").headers(headers);
        Attempt { handler: "h".to_owned(), message, stored: None, number: 1 }
    }

    async fn serve(router: Router) -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the test aborts it")]
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        (url, server)
    }

    #[tokio::test]
    async fn a_url_gets_payload_facts_and_headers() {
        let echo = |headers: HeaderMap, body: String| async move {
            let field = |name: &str| headers[name].to_str().unwrap().to_owned();
            let host = field("host").contains(':');
            format!("{body} {} {} {host}", field("jetbridge-subject"), field("trace-id"))
        };
        let (url, server) = serve(Router::new().route("/", post(echo))).await;
        let verdict = HttpClient::new().unwrap().post(&url, &attempt(), LONG).await;
        assert_eq!(verdict, Verdict::Done(Bytes::from_static(b"hello a.b 7 true")));
        server.abort();
    }

    #[test]
    fn what_is_told_of_a_url_holds_no_secret() {
        assert_eq!(origin("https://me:pw@h.example:8/hooks/T0KEN?key=k@x"), "https://h.example:8");
        assert_eq!(origin("http://h?a=1"), "http://h");
    }

    #[tokio::test]
    async fn a_refusal_is_a_failure_and_may_say_when_to_come_back() {
        let busy = || async {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")], "").into_response()
        };
        let (url, server) = serve(Router::new().route("/", post(busy))).await;
        let verdict = HttpClient::new().unwrap().post(&url, &attempt(), LONG).await;
        let Verdict::Failed { reason, retry_after } = verdict else { panic!("it failed") };
        assert!(reason.ends_with("answered 503 Service Unavailable"), "{reason}");
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        let verdict = HttpClient::new().unwrap().post(&url, &attempt(), LONG).await;
        assert!(
            matches!(verdict, Verdict::Failed { ref reason, .. } if reason.contains("refused")),
            "{verdict:?}"
        );
    }
}
