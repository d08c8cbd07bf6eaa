//! A store that is watched at work.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use jetbridge_core::wrap::{Layered, Observed};
use jetbridge_core::{
    Backend as _, BucketSpec, KvExt as _, MemoryBackend, Open, PutOpts, Read, Scope, Watch,
};
use jetbridge_testkit::Fixture;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{bucket, key};

async fn open() -> Fixture {
    let backend = Arc::new(Layered::new(Arc::new(MemoryBackend::new()), Observed::new()));
    Fixture::new(Arc::clone(&backend) as _, backend, ())
}

jetbridge_testkit::contract!(open);

#[tokio::test]
async fn calls_and_errors_are_counted_by_operation() {
    let observed = Observed::new();
    let store = Layered::new(Arc::new(MemoryBackend::new()), observed.clone());
    let kv = store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap_err();
    assert_eq!(kv.count(Scope::All).await.unwrap(), 1);
    store.delete_bucket(jetbridge_core::BucketKind::Kv, kv.bucket()).await.unwrap();
    kv.get(&key("a"), Read::Fresh).await.unwrap_err();
    kv.watch(Watch::current(Scope::All)).next().await.unwrap().unwrap_err();

    let seen = observed.snapshot();
    let line = |operation: &str| {
        let stats = &seen[operation];
        let errors: Vec<_> = stats.errors.iter().map(|(kind, count)| (*kind, *count)).collect();
        (stats.calls, errors)
    };
    assert_eq!(line("bucket.open"), (1, vec![]));
    assert_eq!(line("kv.put"), (2, vec![("conflict", 1)]));
    assert_eq!(line("kv.keys"), (1, vec![]));
    assert_eq!(line("kv.get"), (1, vec![("not found", 1)]));
    assert_eq!(line("kv.watch"), (1, vec![("not found", 1)]));
}

#[tokio::test]
async fn a_span_says_what_was_done_to_what_and_how_it_ended() {
    let spans = Spans::default();
    let _listening = tracing::subscriber::set_default(spans.clone());
    let store = Layered::new(Arc::new(MemoryBackend::new()), Observed::new());
    let kv = store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap();
    kv.put(&key("a"), "1".into(), PutOpts::create()).await.unwrap_err();

    let seen = spans.0.lock().unwrap();
    let field = |span: usize, name: &str| seen[span].get(name).map_or("", String::as_str);
    for (span, outcome, revision) in [(1, "ok", "1"), (2, "conflict", "")] {
        assert_eq!(field(span, "operation"), "kv.put");
        assert_eq!((field(span, "bucket"), field(span, "name")), ("b", "a"));
        assert_eq!((field(span, "outcome"), field(span, "revision")), (outcome, revision));
        assert!(field(span, "duration_us").parse::<u64>().is_ok());
    }
    assert_eq!(seen.len(), 3);
}

/// The fields of every span, in the order in which the spans began.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("jetbridge_core")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().unwrap();
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let place = usize::try_from(span.into_u64() - 1).unwrap();
        values.record(&mut Fields(&mut self.0.lock().unwrap()[place]));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
