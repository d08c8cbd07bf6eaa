//! Buckets of objects: bytes that come and go as a stream, whole or a range of them.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    DeleteOpts, Error, ErrorKind, Headers, Object, ObjectInfo, ObjectName, ObjectPut, Objects,
    Revision, Scope,
};
use serde_json::{Value, json};

use super::call::{Call, broken, too_large};
use super::condition::{self, etag};
use super::kv::{inert, milliseconds};
use super::refusal::Refusal;
use super::table::Answered;

/// Objects in a list at most; a prefix makes it shorter.
const LIST_MAX: usize = 10_000;
/// Under which name an object keeps what kind of content it is.
const KIND: &str = "Content-Type";
/// How often an object is looked at again that is replaced between two looks.
const LOOKS_MAX: usize = 8;
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

async fn open(call: &Call) -> Result<Arc<dyn Objects>, Refusal> {
    let (api, bucket) = (&call.api.overview, call.bucket()?);
    Ok(api.grants.objects(&*api.backend, &bucket).await?)
}

fn name(call: &Call) -> Result<ObjectName, Refusal> {
    Ok(ObjectName::parse(call.path("name"))?)
}

fn absent(objects: &dyn Objects, name: &ObjectName) -> Refusal {
    let (shown, bucket) = (name.as_str().escape_debug(), objects.bucket());
    Refusal::absent(format!("there is no object `{shown}` in `{bucket}`"))
}

pub(super) async fn get(call: Call) -> Answered {
    let (objects, name) = (open(&call).await?, name(&call)?);
    condition::check_read(&call.headers)?;
    for _look in 0..LOOKS_MAX {
        // A link is followed to bytes of another bucket, which the file may not grant.
        let info = objects.info(&name).await?.ok_or_else(|| absent(&*objects, &name))?;
        if info.link.is_some() {
            return Err(Refusal::forbidden("this is a link, and links are not followed over HTTP")
                .hint("ask for the object that it stands for"));
        }
        if let Some(status) = condition::of_read(&call.headers, info.revision)? {
            return Ok((status, info_headers(&info)).into_response());
        }
        let wanted = wanted(&call.headers, &info)?;
        let read = objects.get(&name, wanted.clone()).await;
        match read {
            Ok(Some(object)) if object.info.revision == info.revision => {
                return Ok(answer(object, wanted));
            }
            // It was replaced, shortened or deleted in between: look again.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::InvalidInput && wanted.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(overtaken())
}

fn answer(object: Object, wanted: Option<Range<u64>>) -> axum::response::Response {
    let mut headers = info_headers(&object.info);
    let bytes = wanted.as_ref().map_or(object.info.size, |range| range.end - range.start);
    headers.insert(CONTENT_LENGTH, bytes.into());
    // An answer that cannot be whole is broken off, so that nobody takes it for the object.
    let body = Body::from_stream(object.body.inspect_err(|error| {
        tracing::warn!(%error, "an object could not be sent to its end");
    }));
    let Some(range) = wanted else { return (headers, body).into_response() };
    let text = format!("bytes {}-{}/{}", range.start, range.end - 1, object.info.size);
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.insert(CONTENT_RANGE, text);
    }
    (StatusCode::PARTIAL_CONTENT, headers, body).into_response()
}

/// The range that is asked for: `None` for all, also where the words mean nothing or the object
/// is another by now.
fn wanted(headers: &HeaderMap, info: &ObjectInfo) -> Result<Option<Range<u64>>, Refusal> {
    if headers.get(IF_RANGE).is_some_and(|tag| *tag != etag(info.revision)) {
        return Ok(None);
    }
    let Some(text) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    match parse_range(text, info.size) {
        Ranged::All => Ok(None),
        Ranged::Part(range) => Ok(Some(range)),
        Ranged::Beyond => {
            let size = HeaderValue::try_from(format!("bytes */{}", info.size));
            let refusal = Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorKind::InvalidInput,
                format!("the object has {} bytes: none of them are in that range", info.size),
            );
            Err(match size {
                Ok(size) => refusal.header(CONTENT_RANGE, size),
                Err(_no_header) => refusal,
            })
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Ranged {
    All,
    Part(Range<u64>),
    Beyond,
}

/// `bytes=2-5`, `bytes=2-` or `bytes=-3`. Several ranges at once are answered with all.
fn parse_range(text: &str, size: u64) -> Ranged {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-'))
    else {
        return Ranged::All;
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(last)) if first.trim().is_empty() => size.saturating_sub(last)..size,
        _ => return Ranged::All,
    };
    if range.is_empty() { Ranged::Beyond } else { Ranged::Part(range) }
}

fn info_headers(info: &ObjectInfo) -> HeaderMap {
    let mut headers = inert();
    let kind = info.headers.get(KIND).and_then(|kind| HeaderValue::try_from(kind).ok());
    headers.insert(CONTENT_TYPE, kind.unwrap_or(BINARY));
    headers.insert(ETAG, etag(info.revision));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(digest) = &info.digest {
        let text = format!("sha-256=:{}:", STANDARD.encode(digest.as_bytes()));
        headers.extend(HeaderValue::try_from(text).ok().map(|text| (REPR_DIGEST, text)));
    }
    headers
}

pub(super) async fn put(mut call: Call) -> Answered {
    let (objects, name) = (open(&call).await?, name(&call)?);
    let condition = condition::of_write(&call.headers)?;
    let most = call.api.object_bytes_max.unwrap_or(u64::MAX);
    let declared = call.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > most) {
        return Err(too_large(most));
    }
    let present = match condition.must_look() {
        true => present(&*objects, &name).await?,
        false => None,
    };
    let mut opts = ObjectPut::new().expect(condition.over(present)?);
    if let Some(kind) = call.header(CONTENT_TYPE.as_str()) {
        opts = opts.headers(Headers::new().with(KIND, kind)?);
    }
    let mut sent = 0_u64;
    let body = call.stream().map(move |piece| {
        let piece = piece?;
        sent += piece.len() as u64;
        match sent <= most {
            true => Ok(piece),
            false => Err(Error::new(ErrorKind::LimitExceeded, "http.body").with("max", most)),
        }
    });
    let info =
        objects.put(&name, body.boxed(), opts).await.map_err(|error| match error.operation() {
            "http.body" if error.kind() == ErrorKind::LimitExceeded => too_large(most),
            "http.body" => broken(&error),
            _ => Refusal::from(error),
        })?;
    Ok(([(ETAG, etag(info.revision))], Json(info_json(&info))).into_response())
}

async fn present(objects: &dyn Objects, name: &ObjectName) -> Result<Option<Revision>, Refusal> {
    Ok(objects.info(name).await?.map(|info| info.revision))
}

pub(super) async fn delete(call: Call) -> Answered {
    let (objects, name) = (open(&call).await?, name(&call)?);
    let condition = condition::of_write(&call.headers)?;
    let must_look = condition.must_look_to_delete();
    for _look in 0..LOOKS_MAX {
        let present = match must_look {
            true => present(&*objects, &name).await?,
            false => None,
        };
        let Some(expect) = condition.over_deletion(present)? else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let mut opts = DeleteOpts::new();
        opts.expect = expect;
        match objects.delete(&name, opts).await {
            Ok(_) => return Ok(StatusCode::NO_CONTENT.into_response()),
            // It was replaced in between: look again.
            Err(error) if must_look && error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(overtaken())
}

/// 503: nothing can be said of an object that is another each time.
fn overtaken() -> Refusal {
    Refusal::not_now("the object is replaced again and again")
}

pub(super) async fn list(call: Call) -> Answered {
    let objects = open(&call).await?;
    let scope = Scope::prefix(call.said("prefix").unwrap_or_default());
    let found: Vec<ObjectInfo> = objects.list(scope).take(LIST_MAX + 1).try_collect().await?;
    let listed: Vec<Value> = found.iter().take(LIST_MAX).map(info_json).collect();
    Ok(Json(json!({"objects": listed, "more": found.len() > LIST_MAX})).into_response())
}

fn info_json(info: &ObjectInfo) -> Value {
    json!({
        "name": info.name.as_str(),
        "size": info.size,
        "revision": info.revision.0,
        "digest": info.digest.map(|digest| digest.to_string()),
        "content_type": info.headers.get(KIND),
        "modified_unix_ms": milliseconds(info.modified),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, size, ranged) in [
            ("bytes=2-4", 10, Ranged::Part(2..5)),
            ("bytes=2-", 10, Ranged::Part(2..10)),
            ("bytes=-3", 10, Ranged::Part(7..10)),
            ("bytes=-30", 10, Ranged::Part(0..10)),
            ("bytes=8-99", 10, Ranged::Part(8..10)),
            ("bytes=0-18446744073709551615", 10, Ranged::Part(0..10)),
            ("bytes=10-", 10, Ranged::Beyond),
            ("bytes=-0", 10, Ranged::Beyond),
            ("bytes=0-0", 0, Ranged::Beyond),
            ("bytes=4-2", 10, Ranged::All),
            ("bytes=1-2,4-5", 10, Ranged::All),
            ("lines=1-2", 10, Ranged::All),
            ("bytes=", 10, Ranged::All),
            ("bytes=-", 10, Ranged::All),
        ] {
            assert_eq!(parse_range(text, size), ranged, "{text}");
        }
    }
}
