//! A store as the version that introduced its layout wrote it: see `tests/golden/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use jetbridge_core::{
    AppendOpts, Backend as _, BucketKind, BucketSpec, Bus, Change, Consume, ConsumerName,
    DeleteOpts, Headers, IncrementOpts, Kv, Link, ManualClock, Message, ObjectPut, Objects, Open,
    Pattern, PutOpts, Read, ReadStream, StreamName, StreamSpec, Subject,
};
use jetbridge_local::{LocalBackend, LocalOptions};
use rusqlite::Connection;

use crate::support::{body, bucket, close, fetch, files, key, next, object, pattern};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the golden store is.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layout-1")
}

/// The time at which it was written.
fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + 56 * YEAR
}

async fn open_at(directory: &Path, time: SystemTime) -> LocalBackend {
    let clock = Arc::new(ManualClock::new(time));
    LocalBackend::open(directory, LocalOptions::default().clock(clock)).await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), target).unwrap();
    }
}

fn orders() -> StreamName {
    StreamName::parse("ORDERS").unwrap()
}

fn consume() -> Consume {
    Consume::new(orders(), ConsumerName::parse("mailer").unwrap())
}

/// The role of a process that writes the golden store.
pub(crate) async fn write(directory: &Path) {
    let store = open_at(directory, then()).await;
    let mut spec = BucketSpec::default();
    spec.history = 3;
    spec.max_bytes = Some(1 << 20);
    spec.description = Some("settings".to_owned());
    spec.metadata.insert("owner".to_owned(), "ops".to_owned());
    write_keys(&*store.kv(&bucket("config"), Open::ensure(spec)).await.unwrap()).await;
    let assets = store.objects(&bucket("assets"), Open::ensure(BucketSpec::default())).await;
    write_objects(&*assets.unwrap()).await;
    write_stream(&*store.bus()).await;
    close(store).await;
}

async fn write_keys(kv: &dyn Kv) {
    kv.put(&key("app.port"), "80".into(), PutOpts::new()).await.unwrap();
    let headers = Headers::new().with("Set-By", "hand").unwrap();
    let put = PutOpts::new().headers(headers).ttl(YEAR);
    kv.put(&key("app.port"), "8080".into(), put).await.unwrap();
    kv.put(&key("user:1 é"), "foreign to NATS".into(), PutOpts::new()).await.unwrap();
    kv.put(&key("gone"), "1".into(), PutOpts::new()).await.unwrap();
    kv.delete(&key("gone"), DeleteOpts::new()).await.unwrap();
    kv.increment(&key("count"), 41, IncrementOpts::new()).await.unwrap();
    kv.increment(&key("count"), 1, IncrementOpts::new()).await.unwrap();
}

async fn write_objects(objects: &dyn Objects) {
    let headers = Headers::new().with("Content-Type", "image/png").unwrap();
    let put = ObjectPut::new().headers(headers).description("the logo").chunk_bytes(1000);
    objects.put(&object("logo.png"), body(pattern(3_500, 1)), put).await.unwrap();
    let target = Link::object(bucket("assets"), object("logo.png"));
    objects.link(&object("favicon"), target).await.unwrap();
}

async fn write_stream(bus: &dyn Bus) {
    let subjects = vec![Pattern::parse("orders.>").unwrap()];
    bus.create_stream(&StreamSpec::new(orders(), subjects)).await.unwrap();
    for (subject, text) in [("orders.new", "first"), ("orders.paid", "second")] {
        let message = Message::new(Subject::parse(subject).unwrap(), text);
        bus.append(message, AppendOpts::new().id(text)).await.unwrap();
    }
    let mut consumer = bus.consume(consume()).await.unwrap();
    next(&mut consumer).await.unwrap().ack().await.unwrap();
}

#[tokio::test]
async fn a_store_of_the_first_layout_is_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    let store = open_at(dir.path(), then() + Duration::from_secs(60)).await;
    let config = store.kv(&bucket("config"), Open::existing()).await.unwrap();
    check_keys(&*config).await;
    let info = store.bucket(BucketKind::Kv, &bucket("config")).await.unwrap();
    assert_eq!((info.last_revision, info.messages, info.spec.history), (7, 7, 3));
    assert_eq!((info.created, info.spec.metadata["owner"].as_str()), (then(), "ops"));
    let written = config.put(&key("new"), "1".into(), PutOpts::new()).await.unwrap();
    assert_eq!(written.revision.0, 8);

    let assets = store.objects(&bucket("assets"), Open::existing()).await.unwrap();
    for name in ["logo.png", "favicon"] {
        assert_eq!(fetch(&assets, name).await.unwrap(), pattern(3_500, 1));
    }
    let logo = assets.info(&object("logo.png")).await.unwrap().unwrap();
    assert_eq!((logo.chunks, logo.description.as_deref()), (4, Some("the logo")));
    assert_eq!(logo.headers.get("Content-Type"), Some("image/png"));
    check_stream(&*store.bus()).await;
    drop((config, assets));
    close(store).await;
}

async fn check_keys(kv: &dyn Kv) {
    let port = kv.get(&key("app.port"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!((port.value.as_ref(), port.revision.0), (b"8080".as_slice(), 2));
    assert_eq!((port.written, port.expires), (then(), Some(then() + YEAR)));
    assert_eq!(port.headers.get("Set-By"), Some("hand"));
    let history = kv.history(&key("app.port")).await.unwrap();
    assert_eq!(history.iter().map(|it| it.revision().unwrap().0).collect::<Vec<_>>(), [1, 2]);
    let foreign = kv.get(&key("user:1 é"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(foreign.value, "foreign to NATS");
    assert!(kv.get(&key("gone"), Read::Fresh).await.unwrap().is_none());
    let gone = kv.history(&key("gone")).await.unwrap();
    assert!(matches!(&gone[..], [Change::Put(_), Change::Delete { .. }]), "{gone:?}");
    let count = kv.get(&key("count"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(count.value, "42");
}

async fn check_stream(bus: &dyn Bus) {
    let messages: Vec<_> =
        bus.read_stream(&orders(), ReadStream::all()).try_collect().await.unwrap();
    let texts: Vec<_> = messages.iter().map(|it| it.message.payload.as_ref()).collect();
    assert_eq!(texts, [b"first".as_slice(), b"second"]);
    let mut consumer = bus.consume(consume()).await.unwrap();
    let second = next(&mut consumer).await.unwrap();
    assert_eq!(second.message.payload, "second", "the first was acknowledged");
}

/// A change of the tables without a new version would lock older stores out.
#[tokio::test]
async fn the_tables_are_those_of_the_first_layout() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("store")).await;
    copy(&golden(), &dir.path().join("golden"));
    let tables = |root: &str| -> BTreeMap<String, Vec<String>> {
        let root = dir.path().join(root);
        let databases = files(&root).into_iter().filter(|file| file.ends_with(".db"));
        let tables = databases.map(|file| {
            let bucket = file.split('.').next().unwrap().to_owned();
            let sql = Connection::open(root.join(file)).unwrap();
            let mut statement = sql
                .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
                .unwrap();
            let tables = statement.query_map([], |row| row.get(0)).unwrap();
            (bucket, tables.map(Result::unwrap).collect())
        });
        tables.collect()
    };
    let (now, first) = (tables("store"), tables("golden"));
    assert_eq!(first.len(), 3);
    assert_eq!(now, first);
}
