//! One store into another: everything arrives, once, and a copy that is cut short goes on.

mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jetbridge::copy::{Copy, CopyReport, Selection};
use jetbridge::core::{
    AppendOpts, Backend, BucketName, BucketSpec, Change, DeleteOpts, ErrorKind, Headers, Key, Link,
    Message, ObjectName, ObjectPut, Open, Pattern, PutOpts, Read, ReadStream, Scope, StreamName,
    StreamSpec, Subject, body_of,
};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

const GRACE: Duration = Duration::from_secs(5);

/// Two stores, and what keeps them alive.
struct Pair {
    from: Arc<dyn Backend>,
    to: Arc<dyn Backend>,
    _directory: tempfile::TempDir,
    _server: Option<NatsServer>,
}

impl Pair {
    async fn local_to_nats(release: Release) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = NatsServer::start(release, ServerOptions::default()).await;
        let from = jetbridge::connect(format!("local:{}", directory.path().display())).await;
        let to = jetbridge::connect(server.url()).await.unwrap();
        Self { from: from.unwrap(), to, _directory: directory, _server: Some(server) }
    }

    async fn nats_to_local(release: Release) -> Self {
        let Self { from, to, _directory, _server } = Self::local_to_nats(release).await;
        Self { from: to, to: from, _directory, _server }
    }

    async fn local_to_memory() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let from = jetbridge::connect(format!("local:{}", directory.path().display())).await;
        let to = jetbridge::connect("memory:").await.unwrap();
        Self { from: from.unwrap(), to, _directory: directory, _server: None }
    }

    fn copy(&self) -> Copy {
        Copy::new(Arc::clone(&self.from), Arc::clone(&self.to))
    }

    async fn all(&self) -> BTreeMap<String, CopyReport> {
        reports(&self.copy()).await
    }

    async fn close(self) {
        assert!(self.from.close(GRACE).await.is_clean());
        assert!(self.to.close(GRACE).await.is_clean());
    }
}

async fn reports(copy: &Copy) -> BTreeMap<String, CopyReport> {
    let mut reports = BTreeMap::new();
    for part in copy.parts().await.unwrap() {
        let report = copy.run(&part, &|_step| {}).await.unwrap();
        reports.insert(format!("{} {}", part.kind(), part.name()), report);
    }
    reports
}

fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

fn object(name: &str) -> ObjectName {
    ObjectName::parse(name).unwrap()
}

async fn kv(store: &Arc<dyn Backend>, name: &str) -> Arc<dyn jetbridge::core::Kv> {
    let mut spec = BucketSpec::default();
    spec.history = if name == "history" { 5 } else { 1 };
    store.kv(&bucket(name), Open::ensure(spec)).await.unwrap()
}

async fn value(store: &Arc<dyn Backend>, name: &str, of: &str) -> Option<Bytes> {
    let kv = store.kv(&bucket(name), Open::existing()).await.unwrap();
    kv.get(&key(of), Read::Fresh).await.unwrap().map(|entry| entry.value)
}

async fn append(store: &Arc<dyn Backend>, range: std::ops::Range<u32>) {
    let bus = store.bus();
    let spec = StreamSpec::new(
        StreamName::parse("ORDERS").unwrap(),
        vec![Pattern::parse("orders.>").unwrap()],
    );
    bus.create_stream(&spec).await.unwrap();
    for number in range {
        let subject = Subject::parse(format!("orders.{}", number % 3)).unwrap();
        let headers = Headers::new().with("X-Number", &number.to_string()).unwrap();
        // Not every store keeps the order of names.
        let headers = headers.with("A-Later", "a").unwrap();
        // Every seventh is the same as others, so that a position cannot be told by its text.
        let text = if number % 7 == 0 { "tick".to_owned() } else { number.to_string() };
        let message = Message::new(subject, text);
        let message = if number % 2 == 0 { message.headers(headers) } else { message };
        bus.append(message, AppendOpts::new()).await.unwrap();
    }
}

/// What a stream holds, the headers by their names.
async fn messages(store: &Arc<dyn Backend>) -> Vec<Message> {
    let read = store.bus().read_stream(&StreamName::parse("ORDERS").unwrap(), ReadStream::all());
    let stored: Vec<_> = read.map_ok(|stored| stored.message).try_collect().await.unwrap();
    let sorted = |message: Message| {
        let mut fields: Vec<_> = message.headers.iter().collect();
        fields.sort();
        let mut headers = Headers::new();
        fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
        Message::new(message.subject.clone(), message.payload.clone()).headers(headers)
    };
    stored.into_iter().map(sorted).collect()
}

/// Something of everything.
async fn fill(store: &Arc<dyn Backend>) {
    let settings = kv(store, "settings").await;
    for number in 0..1500 {
        let text = Bytes::from(format!("value {number}"));
        settings.put(&key(&format!("key/{number}")), text, PutOpts::new()).await.unwrap();
    }
    let hostile = key("a b/*.>=\u{fc}..x");
    let headers = Headers::new().with("X-Who", "me").unwrap().with("A-Later", "a").unwrap();
    settings.put(&hostile, "odd".into(), PutOpts::new().headers(headers)).await.unwrap();
    let brief = PutOpts::new().ttl(Duration::from_secs(3600));
    settings.put(&key("brief"), "soon gone".into(), brief).await.unwrap();
    settings.put(&key("gone"), "x".into(), PutOpts::new()).await.unwrap();
    settings.delete(&key("gone"), DeleteOpts::new()).await.unwrap();
    let history = kv(store, "history").await;
    for version in ["one", "two", "one", "three"] {
        history.put(&key("k"), version.into(), PutOpts::new()).await.unwrap();
    }
    let files = store.objects(&bucket("files"), Open::ensure(BucketSpec::default())).await.unwrap();
    let body = Bytes::from(vec![7; 700_000]);
    let headers = Headers::new().with("X-Type", "seven").unwrap().with("A-Later", "a").unwrap();
    let opts = ObjectPut::new().headers(headers).description("sevens");
    files.put(&object("large one"), body_of(body), opts).await.unwrap();
    files.put(&object("empty"), body_of(""), ObjectPut::new()).await.unwrap();
    files.link(&object("link"), Link::object(bucket("files"), object("empty"))).await.unwrap();
    append(store, 0..1000).await;
}

async fn everything_arrives(pair: Pair) {
    fill(&pair.from).await;
    let reports = pair.all().await;
    let names: Vec<&str> = reports.keys().map(String::as_str).collect();
    assert_eq!(names, ["kv history", "kv settings", "object files", "stream ORDERS"]);
    for (name, report) in &reports {
        assert!(report.is_complete(), "{name}: {report:?}");
    }
    assert_eq!(reports["kv settings"].copied, 1502);
    assert_eq!(reports["object files"].copied, 3);
    assert_eq!(reports["stream ORDERS"].copied, 1000);

    assert_eq!(value(&pair.to, "settings", "key/1499").await.unwrap(), "value 1499");
    let settings = kv(&pair.to, "settings").await;
    let odd = settings.get(&key("a b/*.>=\u{fc}..x"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!((&*odd.value, odd.headers.get("X-Who")), (&b"odd"[..], Some("me")));
    let brief = settings.get(&key("brief"), Read::Fresh).await.unwrap().unwrap();
    let left = brief.ttl(pair.to.now().await.unwrap().now).unwrap();
    assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600), "{left:?}");
    assert_eq!(value(&pair.to, "settings", "gone").await, None);
    let versions = kv(&pair.to, "history").await.history(&key("k")).await.unwrap();
    let texts: Vec<_> = versions
        .iter()
        .map(|change| match change {
            Change::Put(entry) => String::from_utf8(entry.value.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["one", "two", "one", "three"]);
    let files = pair.to.objects(&bucket("files"), Open::existing()).await.unwrap();
    let large = files.get(&object("large one"), None).await.unwrap().unwrap();
    assert_eq!(large.info.description.as_deref(), Some("sevens"));
    assert_eq!(large.info.headers.get("X-Type"), Some("seven"));
    let body: Vec<Bytes> = large.body.try_collect().await.unwrap();
    assert_eq!(body.concat(), vec![7; 700_000]);
    let link = files.info(&object("link")).await.unwrap().unwrap().link.unwrap();
    assert_eq!(link, Link::object(bucket("files"), object("empty")));
    assert_eq!(messages(&pair.to).await, messages(&pair.from).await);

    for (name, report) in pair.all().await {
        assert!(report.is_complete() && report.copied == 0, "{name}, again: {report:?}");
    }
    drop((settings, files));
    pair.close().await;
}

async fn a_second_copy_brings_what_came_since(pair: Pair) {
    fill(&pair.from).await;
    pair.all().await;
    let settings = kv(&pair.from, "settings").await;
    settings.put(&key("key/3"), "changed".into(), PutOpts::new()).await.unwrap();
    settings.put(&key("new"), "n".into(), PutOpts::new()).await.unwrap();
    settings.delete(&key("key/4"), DeleteOpts::new()).await.unwrap();
    kv(&pair.from, "history").await.put(&key("k"), "four".into(), PutOpts::new()).await.unwrap();
    let files = pair.from.objects(&bucket("files"), Open::existing()).await.unwrap();
    files.put(&object("empty"), body_of("no more"), ObjectPut::new()).await.unwrap();
    append(&pair.from, 1000..1100).await;
    let reports = pair.all().await;
    for (name, copied) in
        [("kv settings", 3), ("kv history", 1), ("object files", 1), ("stream ORDERS", 100)]
    {
        let report = &reports[name];
        assert!(report.is_complete() && report.copied == copied, "{name}: {report:?}");
    }
    assert_eq!(value(&pair.to, "settings", "key/3").await.unwrap(), "changed");
    assert_eq!(value(&pair.to, "settings", "key/4").await, None);
    assert_eq!(kv(&pair.to, "history").await.history(&key("k")).await.unwrap().len(), 5);
    assert_eq!(messages(&pair.to).await, messages(&pair.from).await);
    drop((settings, files));
    pair.close().await;
}

async fn what_is_newer_in_the_destination_stays(pair: Pair) {
    kv(&pair.from, "settings").await.put(&key("a"), "old".into(), PutOpts::new()).await.unwrap();
    kv(&pair.from, "settings").await.put(&key("b"), "b".into(), PutOpts::new()).await.unwrap();
    kv(&pair.to, "settings").await.put(&key("a"), "new".into(), PutOpts::new()).await.unwrap();
    kv(&pair.to, "settings").await.put(&key("c"), "c".into(), PutOpts::new()).await.unwrap();
    let report = pair.all().await.remove("kv settings").unwrap();
    assert_eq!((report.copied, report.kept, report.verified), (1, 1, true), "{report:?}");
    assert_eq!(report.kept_names, ["a"]);
    assert!(!report.is_complete());
    for (of, is) in [("a", "new"), ("b", "b"), ("c", "c")] {
        assert_eq!(value(&pair.to, "settings", of).await.unwrap(), is);
    }
    pair.close().await;
}

/// Cut off at every kind of place, again and again, it ends with the right thing.
async fn a_copy_that_is_cut_off_goes_on(pair: Pair) {
    fill(&pair.from).await;
    let copy = pair.copy();
    let mut cuts = 0;
    for part in copy.parts().await.unwrap() {
        for after in [1, 40, 300, 700, 1400] {
            let seen = AtomicU64::new(0);
            let (cut, is_cut) = tokio::sync::oneshot::channel();
            let cut = std::sync::Mutex::new(Some(cut));
            let tell = |step: jetbridge::copy::Step| {
                if seen.fetch_add(step.items, Ordering::Relaxed) + step.items >= after
                    && let Some(cut) = cut.lock().unwrap().take()
                {
                    cut.send(()).unwrap_or(());
                }
            };
            tokio::select! {
                biased;
                Ok(()) = is_cut => cuts += 1,
                report = copy.run(&part, &tell) => assert!(report.unwrap().is_complete()),
            }
        }
    }
    assert!(cuts >= 3, "only {cuts} were cut off");
    for (name, report) in pair.all().await {
        assert!(report.is_complete(), "{name}: {report:?}");
    }
    assert_eq!(messages(&pair.to).await, messages(&pair.from).await);
    let (from, to) = (kv(&pair.from, "settings").await, kv(&pair.to, "settings").await);
    let count = |kv: Arc<dyn jetbridge::core::Kv>| async move {
        kv.keys(Scope::All).try_collect::<Vec<_>>().await.unwrap().len()
    };
    assert_eq!(count(from).await, count(to).await);
    let versions = kv(&pair.to, "history").await.history(&key("k")).await.unwrap();
    assert_eq!(versions.len(), 4, "{versions:?}");
    pair.close().await;
}

async fn foreign_messages_are_refused(pair: Pair) {
    append(&pair.from, 0..10).await;
    pair.all().await;
    append(&pair.to, 90..91).await;
    append(&pair.from, 10..11).await;
    let copy = pair.copy();
    let parts = copy.parts().await.unwrap();
    let error = copy.run(&parts[0], &|_step| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert_eq!(messages(&pair.to).await.len(), 11);
    pair.close().await;
}

async fn numbers_become_counters(pair: Pair) {
    let counts = kv(&pair.from, "hits").await;
    for (name, n) in [("a", 7), ("b", -3)] {
        counts.increment(&key(name), n, Default::default()).await.unwrap();
    }
    let mut selection = Selection::default();
    selection.counters.push(bucket("hits"));
    let copy = pair.copy().only(selection);
    let report = reports(&copy).await.remove("counters hits").unwrap();
    assert!(report.is_complete() && report.copied == 2, "{report:?}");
    let there = pair.to.counters(&bucket("hits")).await.unwrap();
    assert_eq!(there.fetch_add(&key("a"), 1).await.unwrap(), 8);
    assert_eq!(there.value(&key("b")).await.unwrap(), Some(-3));
    let report = reports(&copy).await.remove("counters hits").unwrap();
    assert_eq!((report.kept_names.clone(), report.unchanged), (vec!["a".to_owned()], 1));
    assert_eq!(there.value(&key("a")).await.unwrap(), Some(8), "what was counted since stays");
    drop((counts, there));
    pair.close().await;
}

macro_rules! rows {
    ($($row:ident = $open:expr;)+) => {
        $(mod $row {
            use super::*;
            rows!(@cases $open; everything_arrives, a_second_copy_brings_what_came_since,
                what_is_newer_in_the_destination_stays, foreign_messages_are_refused,
                numbers_become_counters);
        })+
    };
    (@cases $open:expr; $($case:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() { super::$case($open.await).await })+
    };
}

rows! {
    local_to_2_9_25 = Pair::local_to_nats(Release::Oldest);
    local_to_2_15_2 = Pair::local_to_nats(Release::Newest);
    from_2_9_25_to_local = Pair::nats_to_local(Release::Oldest);
    from_2_15_2_to_local = Pair::nats_to_local(Release::Newest);
    local_to_memory = Pair::local_to_memory();
}

// Where the destination never waits, there is nothing to cut off.
mod cut_off {
    use super::*;
    macro_rules! cut {
        ($($row:ident = $open:expr;)+) => {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $row() { a_copy_that_is_cut_off_goes_on($open.await).await })+
        };
    }
    cut! {
        local_to_2_9_25 = Pair::local_to_nats(Release::Oldest);
        local_to_2_15_2 = Pair::local_to_nats(Release::Newest);
        from_2_15_2_to_local = Pair::nats_to_local(Release::Newest);
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_is_not_found() {
    let pair = Pair::local_to_memory().await;
    kv(&pair.from, "settings").await;
    for (buckets, streams) in [(vec![bucket("setting")], vec![]), (vec![], vec!["S"])] {
        let mut selection = Selection::default();
        selection.buckets = buckets;
        selection.streams = streams.iter().map(|it| StreamName::parse(it).unwrap()).collect();
        let error = pair.copy().only(selection).parts().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    pair.close().await;
}
