//! From what the process knows to the model of a page. The store is asked briefly, for few things,
//! and only while somebody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use jetbridge_core::{BucketInfo, StreamName};
use tokio::time::timeout;

use super::history::History;
use super::model::{
    Bucket, Card, Component, Database, Figures, Handler, Limiter, Named, NamedHandler, Page, Store,
    Template,
};
use super::words::span;
use crate::board::{SectionId, SectionStatus};
use crate::database::{lag, word};
use crate::limit::Desked;
use crate::metrics::Ended;
use crate::status::Overview;

/// How long the store may take for everything: the page must not hang with the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Limiters that are looked at for one page: each is a read.
const PEEKS_MAX: usize = 100;

/// Where pages look beside the overview. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desks {
    pub(crate) named: Arc<Mutex<Named>>,
    pub(crate) history: History,
}

impl Desks {
    /// From now on the files name this.
    pub(crate) fn declare(&self, named: Named) {
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }

    pub(super) fn named(&self) -> Named {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the store was asked.
struct Asked {
    store: Store,
    buckets: BTreeMap<String, BucketInfo>,
    letters: BTreeMap<StreamName, u64>,
    remaining: BTreeMap<String, u32>,
}

pub(super) async fn page(overview: &Overview, desks: &Desks) -> Page {
    let now = overview.clock.now();
    let (named, desked) = (desks.named(), overview.desk.all());
    let asked = ask(overview, &named, &desked).await;
    let gather = Gather { overview, desks, named: &named, desked: &desked, asked: &asked, now };
    let cards = overview.board.all().into_iter().map(|(id, status)| gather.card(id, status));
    Page {
        now,
        up: now.duration_since(overview.started).unwrap_or_default(),
        ready: overview.is_ready(),
        connection: overview.connection.borrow().clone(),
        store: asked.store.clone(),
        files_error: overview.files.borrow().clone(),
        cards: cards.collect(),
    }
}

/// Asks the store everything at once; what does not come in time is not known.
async fn ask(overview: &Overview, named: &Named, desked: &[Desked]) -> Asked {
    let backend = &overview.backend;
    let status = timeout(STORE_TIMEOUT, backend.status());
    let buckets = named.buckets.iter().map(|(kind, name)| async move {
        let info = timeout(STORE_TIMEOUT, backend.bucket(*kind, name)).await.ok()?.ok()?;
        Some((format!("{name} ({kind})"), info))
    });
    let streams: BTreeSet<&StreamName> = named.handlers.iter().map(|it| &it.dead_letters).collect();
    let letters = streams.into_iter().map(|name| async move {
        let bus = backend.bus();
        let info = timeout(STORE_TIMEOUT, bus.stream(name)).await.ok()?.ok()?;
        Some((name.clone(), info.messages))
    });
    let peeks = desked.iter().take(PEEKS_MAX).map(|it| async move {
        let limiter = it.limiter.as_ref().ok()?.as_ref()?;
        let decision = timeout(STORE_TIMEOUT, limiter.peek()).await.ok()?.ok()?;
        Some((it.spec.id.clone(), decision.remaining))
    });
    let (status, buckets, letters, remaining) =
        tokio::join!(status, join_all(buckets), join_all(letters), join_all(peeks));
    let store = match status {
        Ok(Ok(it)) => Store::Answers {
            backend: it.backend,
            location: it.location,
            version: it.version,
            round_trip: it.round_trip,
            facts: it.facts,
        },
        Ok(Err(error)) => Store::Silent(error.to_string()),
        Err(_elapsed) => Store::Silent(format!("no answer within {STORE_TIMEOUT:?}")),
    };
    Asked {
        store,
        buckets: buckets.into_iter().flatten().collect(),
        letters: letters.into_iter().flatten().collect(),
        remaining: remaining.into_iter().flatten().collect(),
    }
}

/// Everything that cards are made of.
struct Gather<'a> {
    overview: &'a Overview,
    desks: &'a Desks,
    named: &'a Named,
    desked: &'a [Desked],
    asked: &'a Asked,
    now: SystemTime,
}

impl Gather<'_> {
    fn card(&self, id: SectionId, status: SectionStatus) -> Card {
        let name = id.name.as_str();
        let figures = match id.kind {
            "bucket" => self.asked.buckets.get(name).map(|it| Figures::Bucket(bucket(it))),
            "handler" => {
                let named = self.named.handlers.iter().find(|it| it.name == name);
                named.map(|it| Figures::Handler(self.handler(it)))
            }
            "limiter" => {
                let desked = self.desked.iter().find(|it| it.spec.id == name);
                desked.map(|it| Figures::Limiter(self.limiter(it)))
            }
            "database" => Some(Figures::Databases(self.databases(name))),
            "template" => Some(Figures::Template(self.template(name))),
            "component" => Some(Figures::Component(self.component(name))),
            _ => None,
        };
        Card { figures: figures.unwrap_or(Figures::None), id, status }
    }

    fn handler(&self, it: &NamedHandler) -> Handler {
        let metrics = &self.overview.metrics;
        Handler {
            words: it.words.clone(),
            in_flight: metrics.in_flight(&it.name).try_into().unwrap_or_default(),
            concurrency: it.concurrency as u64,
            done: metrics.attempts(&it.name, Ended::Done),
            failed: metrics.attempts(&it.name, Ended::Failed),
            dead: metrics.dead(&it.name),
            dead_letters: it.dead_letters.clone(),
            letters: self.asked.letters.get(&it.dead_letters).copied(),
        }
    }

    fn limiter(&self, it: &Desked) -> Limiter {
        let policy = &it.spec.policy;
        let limiter = it.limiter.as_ref().ok().and_then(Option::as_ref).unwrap_or(&it.alone);
        let metrics = limiter.metrics();
        let words = match policy.window() {
            Some(window) => {
                format!("{} in {} ({})", policy.limit(), span(window), policy.kind())
            }
            None => format!("{} at once", policy.limit()),
        };
        let wait = Duration::try_from_secs_f64(metrics.max_wait_time_ms / 1000.0);
        Limiter {
            policy: words,
            limit: policy.limit(),
            remaining: self.asked.remaining.get(&it.spec.id).copied(),
            waiting: self.overview.desk.waiting(&it.spec.id),
            allowed: metrics.total_acquisitions,
            denied: metrics.timeouts,
            without_store: metrics.fallback_activations,
            slots: policy.slots().map(|_| metrics.current_concurrent),
            longest_wait: wait.unwrap_or_default(),
        }
    }

    fn databases(&self, section: &str) -> Vec<Database> {
        let of = |it: &jetbridge::DatabaseStatus| {
            let path = it.path.display().to_string();
            let verified = it.verified.as_ref();
            Database {
                replica: it.replica.clone(),
                state: word(it),
                txid: it.capture.txid.to_string(),
                caught_up: it.capture.caught_up,
                lag: lag(it, self.now).and_then(|lag| Duration::try_from_secs_f64(lag).ok()),
                lags: self.desks.history.of(&path),
                window: it.window,
                files: it.files,
                error: it.error().map(str::to_owned),
                verified: verified.map(|it| (it.at, it.outcome.as_ref().err().cloned())),
                path,
            }
        };
        self.overview.databases.of(section).iter().map(of).collect()
    }

    fn template(&self, name: &str) -> Template {
        let it = self.overview.metrics.templates.figures(name);
        let written = (it.written_unix_s > 0.0)
            .then(|| Duration::try_from_secs_f64(it.written_unix_s).ok())
            .flatten();
        Template {
            written: it.written,
            same: it.same,
            failed: it.failed,
            reloads: it.reloads,
            last_written: written.map(|since| SystemTime::UNIX_EPOCH + since),
            diff: it.diff,
        }
    }

    fn component(&self, name: &str) -> Component {
        let it = self.overview.metrics.components.figures(name);
        Component {
            requests_done: it.requests_done,
            requests_failed: it.requests_failed,
            changes_done: it.changes_done,
            changes_failed: it.changes_failed,
            changes_passed_over: it.changes_passed_over,
        }
    }
}

fn bucket(it: &BucketInfo) -> Bucket {
    Bucket {
        bytes: it.bytes,
        bytes_max: it.spec.max_bytes,
        messages: it.messages,
        history: it.spec.history,
        max_age: it.spec.max_age,
        replicas: it.spec.replicas,
    }
}
