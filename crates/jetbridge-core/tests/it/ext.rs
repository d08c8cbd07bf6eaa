//! The conveniences, with many callers at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jetbridge_core::{
    Backend as _, BucketSpec, BusExt as _, CONTENT_TYPE_HEADER, Codec, DeleteOpts, Error,
    ErrorKind, Headers, Json, Key, Kv, KvExt as _, Message, ObjectPut, ObjectsExt as _, Open,
    PutOpts, Read, Result, Revision, Scope, Subject, Subscribe, Update,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::{SOON, bucket, key, kv_with, object, store};

const SECOND: Duration = Duration::from_secs(1);
static KEY_A: LazyLock<Key> = LazyLock::new(|| key("a"));

async fn value(kv: &Arc<dyn Kv>, name: &str) -> Option<Bytes> {
    kv.get(&key(name), Read::Fresh).await.unwrap().map(|entry| entry.value)
}

/// A codec of another name, which writes JSON too.
#[derive(Debug)]
struct Other;

impl Codec for Other {
    fn content_type(&self) -> &'static str {
        "application/other"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        Json.encode(value)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        Json.decode(bytes)
    }
}

#[tokio::test]
async fn typed_values_say_who_wrote_them() {
    let (kv, _clock) = kv_with(|_| {}).await;
    kv.put_as(&Json, &key("a"), &("x", 7), PutOpts::new()).await.unwrap();
    assert_eq!(kv.get_as(&Json, &key("a")).await.unwrap(), Some(("x".to_owned(), 7)));
    assert_eq!(value(&kv, "a").await.unwrap(), r#"["x",7]"#);
    let error = kv.get_as::<(String, i32)>(&Other, &key("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    kv.put(&key("bare"), "7".into(), PutOpts::new()).await.unwrap();
    assert_eq!(kv.get_as(&Other, &key("bare")).await.unwrap(), Some(7));
    let error = kv.get_as::<String>(&Json, &key("bare")).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("key")), (ErrorKind::Corrupt, Some("bare")));
    assert_eq!(kv.get_as::<i32>(&Json, &key("absent")).await.unwrap(), None);
}

#[tokio::test]
async fn no_update_is_lost_among_many() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let writers = (0..32).map(|number| {
        let kv = Arc::clone(&kv);
        async move {
            kv.update_with(&key("list"), SOON, |present| {
                let mut list = present.map_or_else(Vec::new, |entry| entry.value.to_vec());
                list.push(number);
                Ok(Update::put(list))
            })
            .await
            .unwrap()
            .unwrap()
        }
    });
    let revisions = join_all(writers).await;
    let mut list = value(&kv, "list").await.unwrap().to_vec();
    list.sort_unstable();
    assert_eq!(list, (0..32).collect::<Vec<u8>>());
    assert_eq!(revisions.iter().max(), Some(&Revision(32)));
}

#[tokio::test]
async fn an_update_may_delete_keep_or_fail() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let absent = kv.update_with(&key("a"), SOON, |_| Ok(Update::Delete)).await.unwrap();
    assert_eq!(absent, None);
    kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap();
    assert_eq!(kv.update_with(&key("a"), SOON, |_| Ok(Update::Keep)).await.unwrap(), None);
    let refuse = |_: Option<&_>| Err(Error::new(ErrorKind::InvalidInput, "test.refuse"));
    let error = kv.update_with(&key("a"), SOON, refuse).await.unwrap_err();
    assert_eq!(error.operation(), "test.refuse");
    assert_eq!(value(&kv, "a").await.unwrap(), "1");
    assert!(kv.update_with(&key("a"), SOON, |_| Ok(Update::Delete)).await.unwrap().is_some());
    assert_eq!(value(&kv, "a").await, None);
}

#[tokio::test]
async fn an_update_that_always_loses_ends_at_its_deadline() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let rival = Arc::clone(&kv);
    // The rival writes between every read and write of the loop.
    let lose = move |_: Option<&_>| {
        let put = rival.put(&KEY_A, "rival".into(), PutOpts::new());
        futures_util::FutureExt::now_or_never(put).expect("memory answers at once")?;
        Ok(Update::put("mine"))
    };
    let update = kv.update_with(&KEY_A, Duration::from_millis(20), lose);
    let error = tokio::time::timeout(SOON, update).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(value(&kv, "a").await.unwrap(), "rival");
}

#[tokio::test]
async fn replace_is_true_for_everyone_while_the_key_is_there() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let replace = |text: &'static str| kv.replace(&KEY_A, text.into(), PutOpts::new(), SOON);
    assert!(!replace("0").await.unwrap());
    kv.put(&KEY_A, "1".into(), PutOpts::new()).await.unwrap();
    let replaced = join_all((0..64).map(|_| replace("2"))).await;
    assert!(replaced.into_iter().all(|replaced| replaced.unwrap()));
    kv.delete(&KEY_A, DeleteOpts::new()).await.unwrap();
    assert!(!replace("3").await.unwrap());
}

#[tokio::test]
async fn expire_sets_and_clears_a_ttl_and_keeps_the_rest() {
    let (kv, clock) = kv_with(|_| {}).await;
    let headers = Headers::new().with("X", "1").unwrap();
    kv.put(&KEY_A, "1".into(), PutOpts::new().headers(headers.clone())).await.unwrap();
    assert!(kv.expire(&KEY_A, Some(10 * SECOND)).await.unwrap());
    clock.advance(4 * SECOND);
    let entry = kv.get(&KEY_A, Read::Fresh).await.unwrap().unwrap();
    let now = entry.written + 4 * SECOND;
    assert_eq!((entry.ttl(now), &entry.headers), (Some(6 * SECOND), &headers));
    let (bytes, expires) = kv.get_with_expiration(&KEY_A).await.unwrap().unwrap();
    assert_eq!((bytes, expires), (Bytes::from("1"), entry.expires));

    assert!(kv.expire(&KEY_A, None).await.unwrap());
    clock.advance(100 * SECOND);
    let entry = kv.get(&KEY_A, Read::Fresh).await.unwrap().unwrap();
    assert_eq!((entry.expires, entry.headers), (None, headers));
    assert!(!kv.expire(&key("absent"), None).await.unwrap());
}

#[tokio::test]
async fn of_many_who_want_an_absent_key_one_makes_it() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let made = AtomicUsize::new(0);
    let want = || {
        kv.get_or_insert_with(&KEY_A, PutOpts::new(), || async {
            made.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok("made".into())
        })
    };
    for found in join_all((0..16).map(|_| want())).await {
        assert_eq!(found.unwrap(), "made");
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn whoever_makes_a_key_too_late_takes_the_one_that_is_there() {
    let (kv, _clock) = kv_with(|_| {}).await;
    let found = kv.get_or_insert_with(&KEY_A, PutOpts::new(), || async {
        // Another process, which the flight knows nothing of.
        kv.put(&KEY_A, "theirs".into(), PutOpts::new()).await?;
        Ok("ours".into())
    });
    assert_eq!(found.await.unwrap(), "theirs");
    let name = key("b");
    let failed = kv.get_or_insert_with(&name, PutOpts::new(), || async {
        Err(Error::new(ErrorKind::Unavailable, "test.make"))
    });
    assert_eq!(failed.await.unwrap_err().operation(), "test.make");
    let second = kv.get_or_insert_with(&name, PutOpts::new(), || async { Ok("b".into()) });
    assert_eq!(second.await.unwrap(), "b");
}

#[tokio::test]
async fn counting_and_clearing() {
    let (kv, _clock) = kv_with(|_| {}).await;
    assert_eq!(kv.increment_by(&key("n.a"), 5).await.unwrap(), 5);
    assert_eq!(kv.decrement_by(&key("n.a"), 7).await.unwrap(), -2);
    let error = kv.decrement_by(&key("n.a"), i64::MIN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    kv.increment_by(&key("n.b"), 1).await.unwrap();
    kv.increment_by(&key("m"), 1).await.unwrap();
    assert_eq!(kv.count(Scope::All).await.unwrap(), 3);
    assert_eq!(kv.clear(Scope::prefix("n.")).await.unwrap(), 2);
    assert_eq!(kv.count(Scope::All).await.unwrap(), 1);
}

#[tokio::test]
async fn whole_objects_within_a_limit() {
    let (store, _clock) = store();
    let objects = store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let name = object("a");
    assert_eq!(objects.get_bytes(&name, 9).await.unwrap(), None);
    let long = "0123456789".repeat(50_000);
    let source = std::io::Cursor::new(long.clone());
    let info = objects.put_reader(&name, source, ObjectPut::new()).await.unwrap();
    assert_eq!(info.size, 500_000);
    let mut copy = Vec::new();
    assert_eq!(objects.get_to(&name, &mut copy).await.unwrap(), Some(info));
    assert_eq!(copy, long.as_bytes());
    assert_eq!(objects.get_bytes(&name, 500_000).await.unwrap().unwrap(), long);
    let error = objects.get_bytes(&name, 499_999).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    objects.put_bytes(&name, "", ObjectPut::new()).await.unwrap();
    assert_eq!(objects.get_bytes(&name, 0).await.unwrap().unwrap(), "");
}

#[tokio::test]
async fn a_source_that_fails_leaves_nothing_behind() {
    let (store, _clock) = store();
    let objects = store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let broken = tokio::io::AsyncReadExt::chain(&b"begin"[..], Broken);
    let error = objects.put_reader(&object("a"), broken, ObjectPut::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(objects.info(&object("a")).await.unwrap(), None);
}

struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        _buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("broken")))
    }
}

#[tokio::test]
async fn questions_and_answers_are_typed() {
    let (store, _clock) = store();
    let bus = store.bus();
    let subject = Subject::parse("add").unwrap();
    let mut asked = bus.subscribe(Subscribe::to(subject.clone().into())).await.unwrap();
    let responder = async {
        let item = crate::support::next(&mut asked).await;
        let jetbridge_core::Received::Message(question) = item else { panic!("a question") };
        assert_eq!(question.headers.get(CONTENT_TYPE_HEADER), Some("application/json"));
        let (a, b): (i32, i32) = question.decode(&Json).unwrap();
        bus.reply(&question, Json.encode(&(a + b)).unwrap()).await.unwrap();
    };
    let sum = bus.request_as::<_, i32>(&Json, subject.clone(), &(2, 3), SOON);
    let (sum, ()) = futures_util::future::join(sum, responder).await;
    assert_eq!(sum.unwrap(), 5);
    let error = bus.reply(&Message::new(subject, ""), "".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
