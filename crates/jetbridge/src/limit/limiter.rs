//! One entry of `limiters`: what is allowed, and what happens when nobody can tell.

use std::fmt;
use std::time::Duration;

use jetbridge_core::{Error, Result};
use jetbridge_limit::{LOG_LIMIT_MAX, LimiterOpts, OnError, Policy};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use super::store::{StoreSpec, TIMING_MARGIN};
use crate::settings::{Entry, Node, Seconds};

/// A limiter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimiterSpec {
    /// Its id.
    pub id: String,
    /// The store it names; `None` for the file's store.
    pub store: Option<String>,
    /// What it allows.
    pub policy: Policy,
    /// What it does when things go wrong.
    pub opts: LimiterOpts,
    /// How long a call waits that does not say it; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// The longest that any call waits, whatever it says.
    pub max_wait: Option<Duration>,
    /// The permits of a call that does not say it.
    pub cost: u32,
}

impl LimiterSpec {
    /// How long a call waits that asks for `wait`, or for nothing in particular.
    pub fn wait(&self, asked: Option<Duration>) -> Option<Duration> {
        match (asked.or(self.timeout), self.max_wait) {
            (Some(wait), Some(most)) => Some(wait.min(most)),
            (wait, most) => wait.or(most),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    store: Option<String>,
    #[serde(default)]
    algorithm: Algorithm,
    rate_per_second: Option<f64>,
    max_concurrent: Option<u32>,
    limit: Option<u32>,
    window_seconds: Option<Seconds>,
    timeout: Option<Seconds>,
    #[serde(default)]
    fail_closed: bool,
    burst: Option<u32>,
    period: Option<Seconds>,
    cost: Option<u32>,
    max_wait: Option<Seconds>,
    lease: Option<Seconds>,
    on_error: Option<OnErrorWritten>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    FixedWindow,
    SlidingWindow,
    #[default]
    TokenBucket,
}

/// Reads one limiter; the text is a note. With `broken` stores, one that is missing is no news.
pub(super) fn read(
    entry: &Entry,
    stores: &[StoreSpec],
    broken: bool,
) -> Result<(LimiterSpec, Option<String>)> {
    let node = &entry.node;
    let at = |name: &str| node.entry(name).map_or(&entry.place, |it| &it.node.place);
    let written: Written = node.read()?;
    if entry.name.is_empty() || entry.name.contains(':') {
        return Err(entry
            .place
            .error("a limiter's id is not empty and has no `:`")
            .hint("what stands behind a `:` is a key of the limiter, and needs no entry"));
    }
    let store = written.store.as_deref().map(|name| stores.iter().find(|it| it.name == name));
    if matches!(store, Some(None)) && !broken {
        let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(at("store")
            .error(format!("there is no store `{}`", written.store.unwrap_or_default()))
            .hint(format!("there are: {known}; without `store` it uses the file's")));
    }
    let margin = store.flatten().map_or(TIMING_MARGIN, |store| store.timing_margin);
    let (policy, note) = policy(&written, entry, margin)?;
    let cost = written.cost.unwrap_or(1);
    if cost == 0 || cost > policy.limit() {
        let most = policy.limit();
        return Err(at("cost").error(format!("`cost` is 1 to {most}, what can be had at once")));
    }
    let mut opts = LimiterOpts::default().on_error(match written.on_error {
        Some(OnErrorWritten(on_error)) => on_error,
        None if written.fail_closed => OnError::Closed,
        None => OnError::Open,
    });
    if let Some(Seconds(lease)) = written.lease {
        opts = opts.lease(lease);
    }
    opts.check().map_err(|error| {
        let name = if error.fact("share").is_some() { "on_error" } else { "lease" };
        placed(at(name), &error)
    })?;
    let spec = LimiterSpec {
        id: entry.name.clone(),
        store: written.store,
        policy,
        opts,
        timeout: written.timeout.map(|it| it.0),
        max_wait: written.max_wait.map(|it| it.0),
        cost,
    };
    Ok((spec, note))
}

/// What is allowed; the text is a note.
fn policy(written: &Written, entry: &Entry, margin: Duration) -> Result<(Policy, Option<String>)> {
    let node = &entry.node;
    let placed = |error: Error| placed(&entry.place, &error);
    let mut note = None;
    let over_time = match written.algorithm {
        Algorithm::TokenBucket => {
            refuse(node, "window_seconds", "is for windows: a token bucket has `period`")?;
            bucket(written, entry, margin)?
        }
        Algorithm::FixedWindow | Algorithm::SlidingWindow => {
            for name in ["rate_per_second", "burst", "period"] {
                refuse(
                    node,
                    name,
                    "is for token buckets: a window has `limit` and `window_seconds`",
                )?;
            }
            let (Some(limit), Some(Seconds(window))) = (written.limit, written.window_seconds)
            else {
                return Err(entry.place.error("a window needs `limit` and `window_seconds`"));
            };
            let policy = match written.algorithm {
                Algorithm::SlidingWindow if limit <= LOG_LIMIT_MAX => {
                    Policy::sliding_log(limit, window)
                }
                Algorithm::SlidingWindow => {
                    note = Some(format!(
                        "{}: `{}` counts by two windows: over {LOG_LIMIT_MAX} permits an exact \
                         log would be too long",
                        entry.place, entry.name
                    ));
                    Policy::sliding_window(limit, window)
                }
                Algorithm::FixedWindow | Algorithm::TokenBucket => {
                    Policy::fixed_window(limit, window)
                }
            };
            Some(policy.map_err(placed)?)
        }
    };
    let policy = match (over_time, written.max_concurrent) {
        (Some(policy), None) => policy,
        (Some(policy), Some(slots)) => policy.max_concurrent(slots).map_err(placed)?,
        (None, Some(slots)) => Policy::concurrent(slots).map_err(placed)?,
        (None, None) => {
            return Err(entry
                .place
                .error(format!("`{}` limits nothing", entry.name))
                .hint("write `rate_per_second`, `period` or `max_concurrent`"));
        }
    };
    Ok((policy, note))
}

/// A rate with its burst, if there is one.
fn bucket(written: &Written, entry: &Entry, margin: Duration) -> Result<Option<Policy>> {
    let node = &entry.node;
    let at = |name: &str| node.entry(name).map_or(&entry.place, |it| &it.node.place);
    let (rate, name) = match (written.rate_per_second, written.period) {
        (Some(_), Some(_)) => {
            return Err(at("period")
                .error("`period` and `rate_per_second` are two ways to say one thing")
                .hint("`limit = 5` and `period = \"1m\"` are five a minute"));
        }
        (Some(rate), None) => {
            refuse(node, "limit", "is for `period` and for windows")?;
            (rate, "rate_per_second")
        }
        (None, Some(Seconds(period))) => {
            (f64::from(written.limit.unwrap_or(1)) / period.as_secs_f64(), "period")
        }
        (None, None) => {
            refuse(node, "limit", "needs `period`, or a window's algorithm")?;
            refuse(node, "burst", "needs `rate_per_second` or `period`")?;
            return Ok(None);
        }
    };
    let policy = Policy::per_second(rate).map_err(|error| placed(at(name), &error))?;
    let burst = written.burst.unwrap_or_else(|| burst(rate, margin));
    policy.burst(burst).map(Some).map_err(|error| placed(at("burst"), &error))
}

/// What a rate gives at once if nobody says it: what rate-sync's margin let through.
fn burst(rate: f64, margin: Duration) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    #[expect(clippy::cast_sign_loss, reason = "a rate is positive")]
    let permits = (rate * margin.as_secs_f64()) as u32;
    permits.max(1)
}

fn refuse(node: &Node, name: &str, why: &str) -> Result<()> {
    match node.entry(name) {
        None => Ok(()),
        Some(entry) => Err(entry.place.error(format!("`{name}` {why}"))),
    }
}

/// The words of an error of the limiters, at a place.
fn placed(place: &crate::settings::Place, error: &Error) -> Error {
    let placed = place.error(error.message().unwrap_or(error.kind().as_str()));
    match error.hint_text() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

/// `"open"`, `"closed"`, `"local"` or `{local = 0.25}`.
struct OnErrorWritten(OnError);

impl<'de> Deserialize<'de> for OnErrorWritten {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OnErrorVisitor).map(Self)
    }
}

struct OnErrorVisitor;

impl<'de> Visitor<'de> for OnErrorVisitor {
    type Value = OnError;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`open`, `closed`, `local` or `{local = SHARE}`")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<OnError, E> {
        match word {
            "open" => Ok(OnError::Open),
            "closed" => Ok(OnError::Closed),
            // Alone it is as good as the whole: who has several processes says the share.
            "local" => Ok(OnError::Local { share: 1.0 }),
            _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OnError, A::Error> {
        match map.next_key::<String>()?.as_deref() {
            Some("local") => {
                let share = map.next_value()?;
                match map.next_key::<String>()? {
                    None => Ok(OnError::Local { share }),
                    Some(_) => Err(de::Error::invalid_value(de::Unexpected::Map, &self)),
                }
            }
            _ => Err(de::Error::invalid_value(de::Unexpected::Map, &self)),
        }
    }
}
