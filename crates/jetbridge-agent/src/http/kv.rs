//! Buckets of keys: a value is the body, its revision the `ETag`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetbridge_core::{
    Change, Cursor, DeleteOpts, Entry, ErrorKind, IncrementOpts, Key, Kv, PutOpts, Read, Revision,
    Scope,
};
use serde_json::{Value, json};

use super::call::{Call, too_large};
use super::condition::{self, etag};
use super::refusal::Refusal;
use super::table::Answered;

/// Keys in a page, if the request does not say.
const PAGE_DEFAULT: u64 = 1000;
/// How often a write looks again, whose condition takes several revisions, when another write got
/// ahead of it: the one that did may be of a revision that it takes too.
const LOOKS_MAX: usize = 32;
/// When a value's own TTL ends, in milliseconds since 1970.
const EXPIRES: HeaderName = HeaderName::from_static("jetbridge-expires");
/// When the store took a value, in milliseconds since 1970.
const WRITTEN: HeaderName = HeaderName::from_static("jetbridge-written");

/// The bucket that the path names, opened.
async fn open(call: &Call) -> Result<Arc<dyn Kv>, Refusal> {
    let (api, bucket) = (&call.api.overview, call.bucket()?);
    Ok(api.grants.kv(&*api.backend, &bucket).await?)
}

fn key(call: &Call) -> Result<Key, Refusal> {
    Ok(Key::parse(call.path("key"))?)
}

pub(super) async fn get(call: Call) -> Answered {
    let (kv, key) = (open(&call).await?, key(&call)?);
    condition::check_read(&call.headers)?;
    if call.flag("history") {
        let changes = kv.history(&key).await?;
        let changes: Vec<Value> = changes.iter().filter_map(change_json).collect();
        return Ok(Json(json!({"changes": changes})).into_response());
    }
    let read = match call.natural("revision") {
        Some(revision) => Read::At(Revision(revision)),
        None => Read::Fresh,
    };
    let Some(entry) = kv.get(&key, read).await? else {
        let shown = key.as_str().escape_debug();
        let bucket = kv.bucket();
        return Err(Refusal::absent(format!("there is no key `{shown}` in `{bucket}`")));
    };
    let headers = entry_headers(&entry);
    match condition::of_read(&call.headers, entry.revision)? {
        Some(status) => Ok((status, headers).into_response()),
        None => Ok((headers, entry.value).into_response()),
    }
}

fn entry_headers(entry: &Entry) -> HeaderMap {
    let mut headers = inert();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ETAG, etag(entry.revision));
    headers.insert(WRITTEN, milliseconds(entry.written).into());
    if let Some(expires) = entry.expires {
        headers.insert(EXPIRES, milliseconds(expires).into());
    }
    headers
}

/// What somebody stored is never taken for a page of ours by a browser.
pub(super) fn inert() -> HeaderMap {
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (CACHE_CONTROL, "no-cache"),
    ];
    fixed.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn put(mut call: Call) -> Answered {
    let (kv, key) = (open(&call).await?, key(&call)?);
    let condition = condition::of_write(&call.headers)?;
    let store_most = call.api.overview.backend.capabilities().value_bytes_max;
    let most = call.api.body_bytes_max.min(store_most);
    let value = call.bytes(most).await?;
    let mut opts = PutOpts::new();
    if let Some(ttl) = call.duration("ttl") {
        opts = opts.ttl(ttl);
    }
    for _look in 0..LOOKS_MAX {
        let present = match condition.must_look() {
            true => present(&*kv, &key).await?,
            false => None,
        };
        let opts = opts.clone().expect(condition.over(present)?);
        match kv.put(&key, value.clone(), opts).await {
            Ok(written) => {
                let body = Json(json!({"revision": written.revision.0}));
                return Ok(([(ETAG, etag(written.revision))], body).into_response());
            }
            Err(error) if condition.must_look() && error.kind() == ErrorKind::Conflict => {}
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                return Err(match error.fact("max") {
                    Some(_) => too_large(most),
                    None => Refusal::from(error),
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(overtaken())
}

/// 503: whether the condition holds could not be settled, since others write all the time.
fn overtaken() -> Refusal {
    Refusal::not_now("the key is written again and again: each time it was another revision")
}

async fn present(kv: &dyn Kv, key: &Key) -> Result<Option<Revision>, Refusal> {
    Ok(kv.get(key, Read::Fresh).await?.map(|entry| entry.revision))
}

pub(super) async fn delete(call: Call) -> Answered {
    let (kv, key) = (open(&call).await?, key(&call)?);
    let condition = condition::of_write(&call.headers)?;
    let must_look = condition.must_look_to_delete();
    for _look in 0..LOOKS_MAX {
        let present = match must_look {
            true => present(&*kv, &key).await?,
            false => None,
        };
        let Some(expect) = condition.over_deletion(present)? else {
            return Ok(StatusCode::NO_CONTENT.into_response());
        };
        let mut opts = DeleteOpts::new();
        opts.expect = expect;
        if call.flag("purge") {
            opts = opts.with_history();
        }
        match kv.delete(&key, opts).await {
            Ok(Some(revision)) => {
                return Ok((StatusCode::NO_CONTENT, [(ETAG, etag(revision))]).into_response());
            }
            Ok(None) => return Ok(StatusCode::NO_CONTENT.into_response()),
            Err(error) if must_look && error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(overtaken())
}

pub(super) async fn increment(call: Call) -> Answered {
    let (kv, key) = (open(&call).await?, key(&call)?);
    let by = call.said("by").and_then(|text| text.parse().ok()).unwrap_or(1);
    let sum = kv.increment(&key, by, IncrementOpts::new()).await;
    let sum = sum.map_err(|error| match error.kind() {
        ErrorKind::Corrupt | ErrorKind::LimitExceeded => {
            Refusal::new(StatusCode::CONFLICT, error.kind(), error.to_string())
                .hint("the value must be a decimal number, and the sum fit 64 bits")
        }
        _ => Refusal::from(error),
    })?;
    Ok(Json(json!({"value": sum})).into_response())
}

pub(super) async fn list(call: Call) -> Answered {
    let kv = open(&call).await?;
    let limit = call.natural("limit").unwrap_or(PAGE_DEFAULT);
    let scope = Scope::prefix(call.said("prefix").unwrap_or_default());
    let after = call.said("cursor").filter(|text| !text.is_empty()).map(Cursor::new);
    let page = kv.page(scope, after, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    let keys: Vec<&str> = page.keys.iter().map(Key::as_str).collect();
    let next = page.next.as_ref().map(Cursor::as_str);
    Ok(Json(json!({"keys": keys, "next": next})).into_response())
}

/// A change as JSON; what is no change is nothing.
pub(super) fn change_json(change: &Change) -> Option<Value> {
    Some(match change {
        Change::Put(entry) => {
            let mut json = json!({
                "type": "put",
                "key": entry.key.as_str(),
                "revision": entry.revision.0,
                "written_unix_ms": milliseconds(entry.written),
            });
            if let Some(expires) = entry.expires {
                json["expires_unix_ms"] = json!(milliseconds(expires));
            }
            put_bytes(&mut json, "value", &entry.value);
            json
        }
        Change::Delete { key, revision, at } => json!({
            "type": "delete",
            "key": key.as_str(),
            "revision": revision.0,
            "written_unix_ms": milliseconds(*at),
        }),
        Change::CaughtUp => return None,
    })
}

/// Text as `name`, anything else as `name_base64`.
pub(super) fn put_bytes(json: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => json[name] = json!(text),
        Err(_not_text) => json[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
    }
}
