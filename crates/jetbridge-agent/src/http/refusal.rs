//! Answers that are no success: one body for all of them.
//!
//! `kind` is what a program looks at, `message` what people read, `hint` what to do about it.

use axum::Json;
use axum::http::header::{ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jetbridge_core::{Error, ErrorKind, Outcome, Revision};
use serde_json::{Value, json};

use super::access::Shown;
use super::condition::etag;

/// In seconds: most of what cannot be had now is there soon.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    outcome: Outcome,
    /// The revision that a condition met instead.
    revision: Option<Revision>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            kind,
            message: message.into(),
            hint: None,
            outcome: Outcome::NotApplied,
            revision: None,
            header: None,
        }))
    }

    /// 400: the request says something that cannot be.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidInput, message)
    }

    /// 403: the caller may not.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionDenied, message)
    }

    /// 404: there is no such thing.
    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// 401: nobody knows who asks.
    pub(crate) fn stranger(shown: Shown) -> Self {
        let message = "the token is missing or wrong";
        let refusal = Self::new(StatusCode::UNAUTHORIZED, ErrorKind::PermissionDenied, message)
            .hint("send `Authorization: Bearer TOKEN` with a token of the file's `http:`");
        let challenge = match shown {
            Shown::AsBearer => "Bearer",
            Shown::AsPasswordToo => "Basic realm=\"Jetbridge: any name, and the token\", Bearer",
        };
        refusal.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 503: not now.
    pub(crate) fn not_now(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unavailable, message)
    }

    /// Says which revision a condition met. Stores call what is not there revision 0: it is none.
    pub(crate) fn over(mut self, present: Option<Revision>) -> Self {
        self.0.revision = present.filter(|revision| revision.0 != 0);
        self
    }

    /// 504: the write may have happened, though its answer did not come in time.
    pub(crate) fn unknown(mut self) -> Self {
        self.0.status = StatusCode::GATEWAY_TIMEOUT;
        self.0.outcome = Outcome::Unknown;
        if self.0.hint.is_none() {
            self.0.hint = Some("see what is there before you write it again".to_owned());
        }
        self
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// The body.
    pub(crate) fn json(&self) -> Value {
        let mut body = json!({"kind": self.0.kind.as_str(), "message": self.0.message});
        if let Some(hint) = &self.0.hint {
            body["hint"] = json!(hint);
        }
        if self.0.outcome == Outcome::Unknown {
            body["outcome"] = json!("unknown");
        }
        if let Some(revision) = self.0.revision {
            body["revision"] = json!(revision.0);
        }
        body
    }
}

/// The one table from the seam's kinds to HTTP's.
impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::AlreadyExists => StatusCode::CONFLICT,
            ErrorKind::Conflict => StatusCode::PRECONDITION_FAILED,
            ErrorKind::LimitExceeded => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut refusal = Self::new(status, error.kind(), error.to_string());
        refusal.0.hint = error.hint_text().map(str::to_owned);
        if error.kind() == ErrorKind::Conflict {
            refusal = refusal.over(error.present_revision());
        }
        match error.outcome() {
            // To come back and do it again is not what it asks for.
            Outcome::Unknown => refusal.unknown(),
            Outcome::NotApplied => refusal,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut answer = (self.0.status, Json(self.json())).into_response();
        let headers = answer.headers_mut();
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE && self.0.kind == ErrorKind::Unavailable
        {
            headers.insert(RETRY_AFTER, RETRY_SOON);
        }
        if let Some(revision) = self.0.revision {
            headers.insert(ETAG, etag(revision));
        }
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        answer
    }
}
