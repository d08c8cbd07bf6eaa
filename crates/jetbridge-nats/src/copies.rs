//! The copies of a bucket's stream, and whom to ask for what the last acknowledged write left.
//!
//! A direct get is answered by any copy and by mirrors, all of which may lag. So the only copy of
//! an unmirrored stream may answer for the last write, and nobody else but the leader. A server
//! that is no cluster does not tell of mirrors; there an answer says whose it is, but for one
//! that found nothing, and that is confirmed.

use serde_json::Value;

use jetbridge_core::{BucketKind, BucketName, Error, ErrorKind, Result};

use crate::api::{Api, Stored, Which};
use crate::bucket::stream_name;
use crate::error::not_sent;
use crate::headers;
use crate::request::{Call, is_no_responders, may_not_ask};
use crate::wire::StreamInfo;

/// What is known of the copies.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    kind: BucketKind,
    bucket: BucketName,
    pub(crate) stream: String,
    /// Whether they may be asked at all.
    pub(crate) direct: bool,
    authority: Authority,
    /// Whether there may be mirrors that nobody tells of.
    pub(crate) hides_mirrors: bool,
}

/// Who surely knows the last write.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Authority {
    /// The only copy there is, which answers direct gets.
    OnlyCopy,
    /// The leader of this stream, behind this API prefix if it is not the usual one.
    Leader { stream: String, prefix: Option<String> },
}

impl Copies {
    /// As a stream's information says.
    pub(crate) fn of(kind: BucketKind, bucket: BucketName, info: &StreamInfo) -> Self {
        Self {
            kind,
            bucket,
            stream: info.config.name.clone(),
            direct: info.config.allow_direct,
            authority: authority(info),
            hides_mirrors: info.cluster.as_ref().is_none_or(|cluster| cluster.name.is_none()),
        }
    }

    /// Of a stream that may not be asked about: only its leader surely knows.
    pub(crate) fn unknown(kind: BucketKind, bucket: BucketName) -> Self {
        let stream = stream_name(kind, bucket.as_str());
        let authority = Authority::Leader { stream: stream.clone(), prefix: None };
        Self { kind, bucket, stream, direct: true, authority, hides_mirrors: true }
    }

    /// True if a copy that answers is the only one.
    pub(crate) fn is_only_one(&self) -> bool {
        self.authority == Authority::OnlyCopy
    }

    /// The API and the stream whose leader surely knows, and takes the writes.
    pub(crate) fn leader(&self, api: &Api) -> (Api, String) {
        match &self.authority {
            Authority::OnlyCopy => (api.clone(), self.stream.clone()),
            Authority::Leader { stream, prefix: None } => (api.clone(), stream.clone()),
            Authority::Leader { stream, prefix: Some(prefix) } => {
                (api.behind(prefix), stream.clone())
            }
        }
    }

    /// True if this is no mirror's answer.
    pub(crate) fn answered(&self, stored: &Stored) -> bool {
        stored.header(headers::STREAM).is_none_or(|stream| stream == self.stream)
    }

    /// The last message on `subject`, surely.
    pub(crate) async fn fresh(
        &self,
        api: &Api,
        subject: &str,
        call: &Call,
    ) -> Result<Option<Stored>> {
        // Boxed where it is not the usual way, so that thousands of reads stay small.
        if !self.is_only_one() {
            return Box::pin(self.leaders(api, subject, call)).await;
        }
        let mirrors = match self.any(api, subject, call).await? {
            Some(stored) if self.answered(&stored) => return Ok(Some(stored)),
            Some(_mirrors) => true,
            None if self.hides_mirrors => false,
            None => return Ok(None),
        };
        if mirrors {
            return Box::pin(self.leaders(api, subject, call)).await;
        }
        Box::pin(self.confirm_absence(api, subject, call)).await
    }

    /// The last message on `subject` as some copy has it.
    ///
    /// A server that has deleted the stream may go on listening for a while and say nothing, so
    /// after the time of one attempt it is asked whether the stream is there.
    pub(crate) async fn any(
        &self,
        api: &Api,
        subject: &str,
        call: &Call,
    ) -> Result<Option<Stored>> {
        if !self.direct {
            return Box::pin(self.leaders(api, subject, call)).await;
        }
        let attempt = call.first_attempt().repeatable();
        let silence = match api.direct_last(&self.stream, subject, &attempt).await {
            Err(silence) if silence.kind() == ErrorKind::Unavailable => silence,
            answered => return answered,
        };
        Box::pin(self.any_after(silence, api, subject, call)).await
    }

    /// As [`Copies::any`], after `first` was the end of the first attempt.
    async fn any_after(
        &self,
        first: Error,
        api: &Api,
        subject: &str,
        call: &Call,
    ) -> Result<Option<Stored>> {
        match api.stream(&self.stream, call).await {
            Ok(None) => Err(self.gone(call.operation)),
            _ if is_no_responders(&first) => Err(self.explain_silence(api, first, call).await),
            _ => api.direct_last(&self.stream, subject, &call.repeatable()).await,
        }
    }

    /// The message at `sequence`.
    pub(crate) async fn at(&self, api: &Api, sequence: u64, call: &Call) -> Result<Option<Stored>> {
        let which = Which::at(sequence);
        if !self.is_only_one() {
            let (api, stream) = self.leader(api);
            return api.message(&stream, &which, call).await;
        }
        match api.direct(&self.stream, &which, call).await {
            Ok(None) if self.hides_mirrors => {
                let confirmed = api.message(&self.stream, &which, call).await;
                confirmed.or_else(|error| if may_not_ask(&error) { Ok(None) } else { Err(error) })
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.explain_silence(api, error, call).await),
        }
    }

    /// The first message at or behind a sequence, as `which` says, surely.
    pub(crate) async fn next(
        &self,
        api: &Api,
        which: &Which<'_>,
        call: &Call,
    ) -> Result<Option<Stored>> {
        if self.is_only_one() {
            return api.direct(&self.stream, which, call).await;
        }
        let (api, stream) = self.leader(api);
        api.message(&stream, which, call).await
    }

    async fn leaders(&self, api: &Api, subject: &str, call: &Call) -> Result<Option<Stored>> {
        let (api, stream) = self.leader(api);
        let which = Which { last_by_subj: Some(subject), ..Which::default() };
        api.message(&stream, &which, call).await.map_err(|error| {
            if !may_not_ask(&error) {
                return error;
            }
            error.hint(
                "a fresh read needs this permission, or the one for `STREAM.INFO` of a bucket \
                 with a single copy; a read that may be stale needs neither",
            )
        })
    }

    /// Asks the leader about a subject that a copy has nothing on, in one way or the other.
    async fn confirm_absence(
        &self,
        api: &Api,
        subject: &str,
        call: &Call,
    ) -> Result<Option<Stored>> {
        let denial = match self.leaders(api, subject, call).await {
            Err(error) if may_not_ask(&error) => error,
            answered => return answered,
        };
        // Who may ask about the stream is told on which subjects it has messages.
        match api.subjects(&self.stream, subject, call).await {
            Ok(0) => Ok(None),
            _ => Err(denial),
        }
    }

    /// Nobody answers: usually the bucket is gone, but a cluster may just have no leader.
    pub(crate) async fn explain_silence(&self, api: &Api, error: Error, call: &Call) -> Error {
        let silent = is_no_responders(&error) || error.kind() == ErrorKind::NotFound;
        if !silent {
            return error;
        }
        match api.stream(&self.stream, call).await {
            Ok(None) => self.gone(call.operation),
            Ok(Some(_)) => not_sent(call.operation, "nobody answers for the bucket just now")
                .with("bucket", &self.bucket)
                .caused_by(error),
            Err(asking) if may_not_ask(&asking) => self.gone(call.operation).caused_by(error),
            Err(asking) => asking,
        }
    }

    /// The bucket is not there.
    pub(crate) fn gone(&self, operation: &'static str) -> Error {
        no_bucket(self.kind, &self.bucket, operation)
    }
}

/// A bucket that is not there.
pub(crate) fn no_bucket(kind: BucketKind, bucket: &BucketName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("there is no such bucket")
        .with("bucket", bucket)
        .hint(format!("create it with `jetbridge {kind} add {bucket}`"))
}

fn authority(info: &StreamInfo) -> Authority {
    let config = &info.config;
    if let Some((stream, prefix)) = config.mirror.as_ref().and_then(origin) {
        return Authority::Leader { stream, prefix };
    }
    let mirrored = info.alternates.as_ref().is_some_and(|others| others.len() > 1);
    if config.num_replicas > 1 || mirrored || !config.allow_direct {
        return Authority::Leader { stream: config.name.clone(), prefix: None };
    }
    Authority::OnlyCopy
}

/// The stream that a mirror mirrors, and the prefix of the API it is behind.
fn origin(mirror: &Value) -> Option<(String, Option<String>)> {
    let stream = mirror.get("name")?.as_str()?.to_owned();
    let prefix = mirror.get("external").and_then(|external| external.get("api")?.as_str());
    Some((stream, prefix.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StreamConfig;
    use serde_json::json;

    fn copies(change: impl FnOnce(&mut StreamInfo)) -> Copies {
        let mut config = StreamConfig::new("KV_b", vec!["$KV.b.>".to_owned()]);
        config.allow_direct = true;
        let mut info: StreamInfo =
            serde_json::from_value(json!({ "config": serde_json::to_value(config).unwrap() }))
                .unwrap();
        change(&mut info);
        Copies::of(BucketKind::Kv, BucketName::parse("b").unwrap(), &info)
    }

    fn leader(stream: &str, prefix: Option<&str>) -> Authority {
        Authority::Leader { stream: stream.to_owned(), prefix: prefix.map(str::to_owned) }
    }

    #[test]
    fn only_a_single_unmirrored_copy_may_answer_for_the_last_write() {
        assert!(copies(|_| {}).is_only_one());
        assert_eq!(copies(|it| it.config.num_replicas = 3).authority, leader("KV_b", None));
        let two = Some(vec![json!({}), json!({})]);
        assert_eq!(copies(|it| it.alternates = two).authority, leader("KV_b", None));
        assert_eq!(copies(|it| it.config.allow_direct = false).authority, leader("KV_b", None));
        let mirror = Some(json!({ "name": "KV_o" }));
        assert_eq!(copies(|it| it.config.mirror = mirror).authority, leader("KV_o", None));
        let mirror = Some(json!({ "name": "KV_o", "external": { "api": "$JS.hub.API" } }));
        let far = leader("KV_o", Some("$JS.hub.API"));
        assert_eq!(copies(|it| it.config.mirror = mirror).authority, far);
        let unknown = Copies::unknown(BucketKind::Kv, BucketName::parse("b").unwrap());
        assert_eq!(unknown.authority, leader("KV_b", None));
    }
}
