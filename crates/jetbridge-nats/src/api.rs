//! JetStream's API as typed calls, and stored messages as they come back from it.
//!
//! No call here depends on a permission that its caller did not ask for: account information is
//! optional, a bucket can be read without its stream's information.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use jetbridge_core::{Error, ErrorKind, Result};

use crate::error::{ApiError, code, malformed};
use crate::headers;
use crate::link::Link;
use crate::request::{Answers, Call, Counted, Outgoing, is_no_responders};
use crate::time;
use crate::waiters::ANSWERS_MAX;
use crate::wire::{AccountInfo, ConsumerConfig, ConsumerInfo, Refusal, StreamConfig, StreamInfo};

/// The API's subjects when neither a domain nor a prefix is set.
const PREFIX_DEFAULT: &str = "$JS.API";
/// Pages of a listing; a server sends 256 streams or 1024 names in one.
const PAGES_MAX: usize = 100_000;

/// The API behind a link. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    link: Link,
    prefix: std::sync::Arc<str>,
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) subject: Subject,
    pub(crate) sequence: u64,
    pub(crate) time: SystemTime,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl Stored {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        headers::field(&self.headers, name)
    }
}

/// Which message of a stream.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Which<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_by_subj: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_by_subj: Option<&'a str>,
}

impl Which<'_> {
    /// The message at `sequence`.
    pub(crate) fn at(sequence: u64) -> Self {
        Self { seq: Some(sequence), ..Self::default() }
    }
}

/// What a purge removes; nothing set is everything.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Purge<'a> {
    /// Only messages on subjects of this pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<&'a str>,
    /// Only messages before this sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    /// Leave this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<u64>,
}

impl Api {
    /// The API with `domain` or `prefix` in its subjects.
    pub(crate) fn new(link: Link, domain: Option<&str>, prefix: Option<&str>) -> Result<Self> {
        let prefix = match (domain, prefix) {
            (Some(_), Some(_)) => {
                return Err(Error::new(ErrorKind::InvalidInput, "nats.connect")
                    .because("a JetStream domain and an API prefix exclude each other"));
            }
            (Some(domain), None) => format!("$JS.{domain}.API"),
            (None, Some(prefix)) => prefix.trim_end_matches('.').to_owned(),
            (None, None) => PREFIX_DEFAULT.to_owned(),
        };
        jetbridge_core::Subject::parse(&prefix)?;
        Ok(Self { link, prefix: prefix.into() })
    }

    /// The same connection to the API behind another prefix.
    pub(crate) fn behind(&self, prefix: &str) -> Self {
        Self { link: self.link.clone(), prefix: prefix.trim_end_matches('.').into() }
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// What the subjects of API calls begin with.
    pub(crate) fn prefix(&self) -> &std::sync::Arc<str> {
        &self.prefix
    }

    /// True if subjects go to another domain or account by a prefix.
    pub(crate) fn is_remote(&self) -> bool {
        &*self.prefix != PREFIX_DEFAULT
    }

    /// The subject of an API call.
    pub(crate) fn subject(&self, verb: &str) -> String {
        format!("{}.{verb}", self.prefix)
    }

    /// The subject to publish to so that the stream behind the API gets `subject`.
    pub(crate) fn toward(&self, subject: &str) -> String {
        if self.is_remote() { self.subject(subject) } else { subject.to_owned() }
    }

    /// One call. The inner error is the server's refusal.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
        call: &Call,
    ) -> Result<std::result::Result<T, ApiError>> {
        let body = serde_json::to_vec(body).map_err(|cause| malformed(call.operation, cause))?;
        let body = if body == b"null" { Bytes::new() } else { Bytes::from(body) };
        let asked = self.link.request(&Outgoing::new(self.subject(verb), body), call).await;
        let message = asked.map_err(|error| self.explain_silence(error, call.operation))?;
        let refusal: Refusal = serde_json::from_slice(&message.payload)
            .map_err(|cause| malformed(call.operation, cause))?;
        if let Some(error) = refusal.error {
            return Ok(Err(error));
        }
        let answer = serde_json::from_slice(&message.payload)
            .map_err(|cause| malformed(call.operation, cause))?;
        Ok(Ok(answer))
    }

    /// Nobody answers the API itself: there is no JetStream here, or not just now.
    fn explain_silence(&self, error: Error, operation: &'static str) -> Error {
        if !is_no_responders(&error) {
            return error;
        }
        let info = self.link.client().server_info();
        if info.jetstream || info.cluster.is_some() || self.is_remote() {
            return error.hint("is the JetStream domain or API prefix right?");
        }
        Error::new(ErrorKind::Unsupported, operation)
            .because("the server runs without JetStream")
            .with("server", info.server_name)
            .hint("enable JetStream: `jetstream {}` in the server's configuration")
    }

    async fn ask_for<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
        call: &Call,
    ) -> Result<T> {
        self.ask(verb, body, call).await?.map_err(|refused| refused.into_error(call.operation))
    }

    /// The account's use and limits. Many users may not ask for them.
    pub(crate) async fn account(&self, call: &Call) -> Result<AccountInfo> {
        self.ask_for("INFO", &(), call).await
    }

    /// A stream; `None` if there is none.
    pub(crate) async fn stream(&self, name: &str, call: &Call) -> Result<Option<StreamInfo>> {
        let sent = Instant::now();
        let answer = self.ask(&format!("STREAM.INFO.{name}"), &(), &call.repeatable()).await?;
        match answer {
            Ok(info) => {
                self.feed_clock(sent, &info);
                Ok(Some(info))
            }
            Err(refused) if refused.err_code == code::STREAM_NOT_FOUND => Ok(None),
            Err(refused) => Err(refused.into_error(call.operation)),
        }
    }

    /// How many subjects of `filter` a stream has messages on.
    pub(crate) async fn subjects(&self, stream: &str, filter: &str, call: &Call) -> Result<u64> {
        #[derive(Deserialize)]
        struct Counted {
            #[serde(default)]
            total: usize,
            state: Subjects,
        }
        #[derive(Deserialize)]
        struct Subjects {
            #[serde(default)]
            subjects: Option<HashMap<String, u64>>,
        }
        let mut found = 0;
        for _ in 0..PAGES_MAX {
            let body = json!({ "subjects_filter": filter, "offset": found });
            let verb = format!("STREAM.INFO.{stream}");
            let page: Counted = self.ask_for(&verb, &body, &call.repeatable()).await?;
            let subjects = page.state.subjects.map_or(0, |subjects| subjects.len());
            found += subjects;
            if subjects == 0 || found >= page.total {
                break;
            }
        }
        Ok(found as u64)
    }

    fn feed_clock(&self, sent: Instant, info: &StreamInfo) {
        if let Some(now) = info.ts.as_deref().and_then(time::parse) {
            self.link.clock().observe(sent, Instant::now(), now);
        }
    }

    /// Makes a stream. The same configuration again is fine, so it may be sent twice.
    pub(crate) async fn create_stream(
        &self,
        config: &StreamConfig,
        call: &Call,
    ) -> Result<std::result::Result<StreamInfo, ApiError>> {
        self.ask(&format!("STREAM.CREATE.{}", config.name), config, &call.repeatable()).await
    }

    /// Changes a stream.
    pub(crate) async fn update_stream(
        &self,
        config: &StreamConfig,
        call: &Call,
    ) -> Result<StreamInfo> {
        let mut config = config.clone();
        // The server's own facts about the stream, which clients must not write back.
        config.metadata.retain(|name, _| !name.starts_with("_nats."));
        let verb = format!("STREAM.UPDATE.{}", config.name);
        self.ask_for(&verb, &config, &call.repeatable()).await
    }

    /// Deletes a stream; `false` if there was none.
    pub(crate) async fn delete_stream(&self, name: &str, call: &Call) -> Result<bool> {
        let verb = format!("STREAM.DELETE.{name}");
        match self.ask::<serde::de::IgnoredAny>(&verb, &(), &call.repeatable()).await? {
            Ok(_) => Ok(true),
            Err(refused) if refused.err_code == code::STREAM_NOT_FOUND => Ok(false),
            Err(refused) => Err(refused.into_error(call.operation)),
        }
    }

    /// Removes messages of a stream; returns how many.
    pub(crate) async fn purge(&self, stream: &str, purge: &Purge<'_>, call: &Call) -> Result<u64> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let verb = format!("STREAM.PURGE.{stream}");
        let purged: Purged = self.ask_for(&verb, purge, &call.repeatable()).await?;
        Ok(purged.purged)
    }

    /// The streams that keep subjects of `subject`, or all, by pages.
    pub(crate) async fn streams(
        &self,
        subject: Option<&str>,
        call: &Call,
    ) -> Result<Vec<StreamInfo>> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(default)]
            total: usize,
            #[serde(default)]
            streams: Option<Vec<StreamInfo>>,
            /// Those whose servers did not answer in time.
            #[serde(default)]
            missing: Option<Vec<String>>,
        }
        // By name: a cluster may list a stream twice while others are being made.
        let mut found: BTreeMap<String, StreamInfo> = BTreeMap::new();
        let mut missing = Vec::new();
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            let body = json!({ "offset": offset, "subject": subject.unwrap_or_default() });
            let page: Listed = self.ask_for("STREAM.LIST", &body, &call.repeatable()).await?;
            let streams = page.streams.unwrap_or_default();
            missing.extend(page.missing.unwrap_or_default());
            offset += streams.len();
            if streams.is_empty() {
                break;
            }
            found.extend(streams.into_iter().map(|stream| (stream.config.name.clone(), stream)));
            if offset >= page.total {
                break;
            }
        }
        for name in missing {
            if let Some(stream) = self.stream(&name, call).await? {
                found.insert(name, stream);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The name of the stream that keeps `subject`.
    pub(crate) async fn stream_of(&self, subject: &str, call: &Call) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Names {
            #[serde(default)]
            streams: Option<Vec<String>>,
        }
        let body = json!({ "subject": subject });
        let names: Names = self.ask_for("STREAM.NAMES", &body, &call.repeatable()).await?;
        Ok(names.streams.unwrap_or_default().into_iter().next())
    }

    /// Makes a consumer, whose name must be set: its name and filter stand in the subject, where
    /// permissions can see them.
    pub(crate) async fn create_consumer(
        &self,
        stream: &str,
        config: &ConsumerConfig,
        call: &Call,
    ) -> Result<std::result::Result<ConsumerInfo, ApiError>> {
        let name = config.name.as_deref().or(config.durable_name.as_deref()).unwrap_or_default();
        let verb = match &config.filter_subject {
            Some(filter) => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
            None => format!("CONSUMER.CREATE.{stream}.{name}"),
        };
        let body = json!({ "stream_name": stream, "config": config });
        self.ask(&verb, &body, &call.repeatable()).await
    }

    /// A consumer; `None` if there is none, or no such stream.
    pub(crate) async fn consumer(
        &self,
        stream: &str,
        name: &str,
        call: &Call,
    ) -> Result<Option<ConsumerInfo>> {
        let verb = format!("CONSUMER.INFO.{stream}.{name}");
        match self.ask(&verb, &(), &call.repeatable()).await? {
            Ok(info) => Ok(Some(info)),
            Err(refused) if is_no_consumer(&refused) => Ok(None),
            Err(refused) => Err(refused.into_error(call.operation)),
        }
    }

    /// Deletes a consumer; `false` if there was none.
    pub(crate) async fn delete_consumer(
        &self,
        stream: &str,
        name: &str,
        call: &Call,
    ) -> Result<bool> {
        let verb = format!("CONSUMER.DELETE.{stream}.{name}");
        match self.ask::<serde::de::IgnoredAny>(&verb, &(), &call.repeatable()).await? {
            Ok(_) => Ok(true),
            Err(refused) if is_no_consumer(&refused) => Ok(false),
            Err(refused) => Err(refused.into_error(call.operation)),
        }
    }

    /// A message as the stream's leader has it.
    pub(crate) async fn message(
        &self,
        stream: &str,
        which: &Which<'_>,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let verb = format!("STREAM.MSG.GET.{stream}");
        match self.ask::<LeaderAnswer>(&verb, which, &call.repeatable()).await? {
            Ok(answer) => answer.message.decode(call.operation).map(Some),
            Err(refused) if refused.err_code == code::MESSAGE_NOT_FOUND => Ok(None),
            Err(refused) => Err(refused.into_error(call.operation)),
        }
    }

    /// The last message on `subject` as any copy of the stream has it; `call` may be sent again.
    pub(crate) async fn direct_last(
        &self,
        stream: &str,
        subject: &str,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let make = || {
            let to = [&*self.prefix, ".DIRECT.GET.", stream, ".", subject].concat();
            Outgoing::new(to, Bytes::new())
        };
        let message = self.link.request_made(make, Counted::No, call).await?;
        direct_answer(message, call.operation)
    }

    /// A message as any copy of the stream has it.
    pub(crate) async fn direct(
        &self,
        stream: &str,
        which: &Which<'_>,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let body = serde_json::to_vec(which).map_err(|cause| malformed(call.operation, cause))?;
        let out = Outgoing::new(self.subject(&format!("DIRECT.GET.{stream}")), body);
        let message = self.link.request(&out, &call.repeatable()).await?;
        direct_answer(message, call.operation)
    }

    /// Several messages by one request, as any copy has them; the caller reads up to the status
    /// 204. Since 2.11.
    pub(crate) async fn direct_many(
        &self,
        stream: &str,
        body: &serde_json::Value,
        call: &Call,
    ) -> Result<Answers> {
        let body = body.to_string();
        let out = Outgoing::new(self.subject(&format!("DIRECT.GET.{stream}")), body);
        self.link.request_many(&out, ANSWERS_MAX, call).await
    }
}

fn is_no_consumer(refused: &ApiError) -> bool {
    matches!(refused.err_code, code::CONSUMER_NOT_FOUND | code::STREAM_NOT_FOUND)
}

/// The answer to a direct get of one message.
fn direct_answer(message: Message, operation: &'static str) -> Result<Option<Stored>> {
    match message.status.map(|status| status.as_u16()) {
        None => stored(message, operation).map(Some),
        Some(404) => Ok(None),
        Some(status) => {
            let description = message.description.unwrap_or_default();
            Err(ApiError { code: status, err_code: 0, description }.into_error(operation))
        }
    }
}

/// A message of a direct get, whose place in the stream stands in its headers.
pub(crate) fn stored(message: Message, operation: &'static str) -> Result<Stored> {
    let headers = message.headers.unwrap_or_default();
    let field = |name: &str| headers::field(&headers, name);
    let place = (
        field(headers::SUBJECT),
        field(headers::SEQUENCE).and_then(|text| text.parse().ok()),
        field(headers::TIME_STAMP).and_then(time::parse),
    );
    let (Some(subject), Some(sequence), Some(time)) = place else {
        return Err(malformed(operation, "a direct get without subject, sequence or time"));
    };
    let subject = Subject::from(subject);
    Ok(Stored { subject, sequence, time, headers, payload: message.payload })
}

#[derive(Deserialize)]
struct LeaderAnswer {
    message: LeaderMessage,
}

#[derive(Deserialize)]
struct LeaderMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: Option<String>,
    #[serde(default)]
    data: Option<String>,
    time: String,
}

impl LeaderMessage {
    fn decode(self, operation: &'static str) -> Result<Stored> {
        let bytes = |text: Option<String>| {
            STANDARD.decode(text.unwrap_or_default()).map_err(|cause| malformed(operation, cause))
        };
        let time = time::parse(&self.time)
            .ok_or_else(|| malformed(operation, format!("not a time: {}", self.time)))?;
        Ok(Stored {
            subject: self.subject.into(),
            sequence: self.seq,
            time,
            headers: parse_block(&bytes(self.hdrs)?),
            payload: Bytes::from(bytes(self.data)?),
        })
    }
}

/// Reads a header block. What is no field is left out, as every NATS client does.
fn parse_block(block: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let Ok(text) = std::str::from_utf8(block) else { return map };
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let parsed = (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>());
        if let (Ok(name), Ok(value)) = parsed {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_block_is_read_as_the_client_reads_it() {
        let map = parse_block(b"NATS/1.0\r\nA: 1\r\nB:2\r\nA: 3\r\n\r\n");
        let all: Vec<&str> = map.get_all("A").map(HeaderValue::as_str).collect();
        assert_eq!(all, ["1", "3"]);
        assert_eq!(map.get("B").map(HeaderValue::as_str), Some("2"));
        assert!(parse_block(b"").is_empty());
    }
}
