//! A store that is shared by prefixes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jetbridge_core::wrap::Prefixed;
use jetbridge_core::{
    Backend as _, BucketSpec, BusExt as _, Change, ErrorKind, Key, KvExt as _, Link, MemoryBackend,
    Message, ObjectPut, ObjectsExt as _, Open, Pattern, PutOpts, Read, ReadStream, Received, Scope,
    StreamName, StreamSpec, Subject, Subscribe, Watch,
};
use jetbridge_testkit::Fixture;

use crate::support::{bucket, key, next, object};

fn prefixed(store: &Arc<MemoryBackend>, prefix: &str) -> Prefixed {
    let subject = Subject::parse(prefix).unwrap();
    let store = Arc::clone(store);
    Prefixed::new(store).keys(&format!("{prefix}.")).unwrap().subjects(subject)
}

async fn open() -> Fixture {
    let backend = Arc::new(prefixed(&Arc::new(MemoryBackend::new()), "app"));
    Fixture::new(Arc::clone(&backend) as _, backend, ()).prefix_bytes("app.".len())
}

jetbridge_testkit::contract!(open);

#[tokio::test]
async fn what_is_outside_is_not_seen() {
    let store = Arc::new(MemoryBackend::new());
    let (ours, theirs) = (prefixed(&store, "a"), prefixed(&store, "b"));
    let open = Open::ensure(BucketSpec::default());
    let ours = ours.kv(&bucket("k"), open.clone()).await.unwrap();
    let theirs = theirs.kv(&bucket("k"), open.clone()).await.unwrap();
    let all = store.kv(&bucket("k"), open).await.unwrap();
    let mut watch = ours.watch(Watch::current(Scope::All));
    theirs.put(&key("x"), "theirs".into(), PutOpts::new()).await.unwrap();
    all.put(&key("a."), "nameless".into(), PutOpts::new()).await.unwrap();
    ours.put(&key("x"), "ours".into(), PutOpts::new()).await.unwrap();

    assert_eq!(ours.get(&key("x"), Read::Fresh).await.unwrap().unwrap().value, "ours");
    let keys: Vec<Key> = ours.keys(Scope::All).try_collect().await.unwrap();
    assert_eq!(keys, [key("x")]);
    assert_eq!(ours.page(Scope::All, None, 9).await.unwrap().keys, [key("x")]);
    assert_eq!(next(&mut watch).await, Change::CaughtUp);
    assert_eq!(next(&mut watch).await.key(), Some(&key("x")));
    let pattern = Scope::Matching(Pattern::parse("*").unwrap());
    assert_eq!(ours.purge(pattern).await.unwrap(), 1);
    assert_eq!(all.count(Scope::All).await.unwrap(), 2);
    let long = Key::parse("x".repeat(1023)).unwrap();
    let error = ours.get(&long, Read::Fresh).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_link_leads_to_the_object_of_the_same_prefix() {
    let store = Arc::new(MemoryBackend::new());
    let open = Open::ensure(BucketSpec::default());
    let ours = prefixed(&store, "a").objects(&bucket("o"), open.clone()).await.unwrap();
    ours.put_bytes(&object("x"), "1", ObjectPut::new()).await.unwrap();
    let link = Link::object(bucket("o"), object("x"));
    assert_eq!(ours.link(&object("l"), link.clone()).await.unwrap().link, Some(link.clone()));
    assert_eq!(ours.info(&object("l")).await.unwrap().unwrap().link, Some(link));
    assert_eq!(ours.get_bytes(&object("l"), 9).await.unwrap().unwrap(), "1");
    let all = store.objects(&bucket("o"), open).await.unwrap();
    assert_eq!(all.get_bytes(&object("a.x"), 9).await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn subjects_are_prefixed_and_answers_find_their_way() {
    let store = Arc::new(MemoryBackend::new());
    let (ours, all) = (prefixed(&store, "a").bus(), store.bus());
    let mut asked = ours.subscribe(Subscribe::to(Pattern::parse("q.*").unwrap())).await.unwrap();
    let mut seen = all.subscribe(Subscribe::to(Pattern::parse("a.>").unwrap())).await.unwrap();
    let question = Message::new(Subject::parse("q.1").unwrap(), "?");
    let answer = ours.request(question, Duration::from_secs(10));
    let responder = async {
        let Received::Message(question) = next(&mut asked).await else { panic!("a question") };
        assert_eq!(question.subject.as_str(), "q.1");
        ours.reply(&question, "!".into()).await.unwrap();
    };
    let (answer, ()) = futures_util::future::join(answer, responder).await;
    assert_eq!(answer.unwrap().payload, "!");
    let Received::Message(question) = next(&mut seen).await else { panic!("a question") };
    assert_eq!(question.subject.as_str(), "a.q.1");
}

#[tokio::test]
async fn a_stream_shows_its_subjects_without_the_prefix() {
    let store = Arc::new(MemoryBackend::new());
    let (ours, all) = (prefixed(&store, "a").bus(), store.bus());
    let name = StreamName::parse("S").unwrap();
    let subjects = vec![Pattern::parse("s.>").unwrap()];
    let info = ours.create_stream(&StreamSpec::new(name.clone(), subjects.clone())).await.unwrap();
    assert_eq!(info.spec.subjects, subjects);
    let kept = all.stream(&name).await.unwrap().spec.subjects;
    assert_eq!(kept, [Pattern::parse("a.s.>").unwrap()]);
    let message = Message::new(Subject::parse("s.1").unwrap(), "1");
    ours.append(message.clone(), Default::default()).await.unwrap();
    let read: Vec<_> = ours.read_stream(&name, ReadStream::all()).try_collect().await.unwrap();
    assert_eq!(read[0].message, message);
    assert_eq!(ours.purge_stream(&name, None).await.unwrap(), 1);
}
