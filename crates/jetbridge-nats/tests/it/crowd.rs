//! More who follow one stream than it may have consumers: they share one, and each is told what
//! it would be told alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt as _};
use jetbridge_core::{
    AppendOpts, Backend as _, Body, BucketSpec, Change, DeleteOpts, ErrorKind, Key, Kv, Message,
    ObjectChange, ObjectName, ObjectPut, Open, Pattern, PutOpts, ReadStream, Result, Revision,
    Scope, Start, StreamName, Subject, Watch,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{NatsServer, Proxy, Release, ServerOptions, eventually};
use serde_json::json;
use tokio::time::timeout;

use crate::store::{
    GRACE, SOON, Store, away_while_a_deletion_is_forgotten, bucket, connect, forgetful_bucket, key,
    options, options_as, put,
};

jetbridge_testkit::on_every_server!(
    more_watch_than_a_stream_has_consumers,
    a_slow_one_of_many_misses_nothing,
    what_expires_is_told_once_to_each_of_many,
    many_go_on_over_an_outage_of_their_server,
    many_are_told_that_their_bucket_is_gone,
    who_comes_to_a_bucket_made_anew_is_not_told_of_the_one_before,
    who_may_read_a_part_only_reads_it_alone,
    those_who_come_to_a_full_stream_take_nothing_from_the_others,
    more_follow_a_stream_than_it_has_consumers,
    more_watch_objects_than_there_are_consumers,
);

/// Below the number of those who follow.
const CONSUMERS_MAX: usize = 400;
const FOLLOWERS: usize = 500;
/// Beyond these, readers share a consumer.
const ALONE: u64 = 64;
const HISTORY: u8 = 64;

type Changes = BoxStream<'static, Result<Change>>;

/// A bucket `b` whose stream has few consumers.
async fn narrow_bucket(store: &Store) -> Arc<dyn Kv> {
    store
        .make_stream(json!({
            "name": "KV_b", "subjects": ["$KV.b.>"], "max_msgs_per_subject": HISTORY,
            "allow_direct": true, "allow_rollup_hdrs": true, "num_replicas": 1,
            "allow_msg_ttl": true, "max_consumers": CONSUMERS_MAX,
        }))
        .await;
    store.backend.kv(&bucket(), Open::existing()).await.unwrap()
}

async fn next(changes: &mut Changes) -> Change {
    timeout(SOON, changes.next()).await.unwrap().unwrap().unwrap()
}

/// What comes before `CaughtUp`.
async fn caught_up(changes: &mut Changes) -> Vec<Change> {
    let mut before = Vec::new();
    loop {
        match next(changes).await {
            Change::CaughtUp => return before,
            change => before.push(change),
        }
    }
}

async fn all_caught_up(watches: impl IntoIterator<Item = Changes>) -> Vec<Changes> {
    join_all(watches.into_iter().map(|mut changes| async {
        caught_up(&mut changes).await;
        changes
    }))
    .await
}

/// The next that each of `watches` is told is what was written with that revision.
async fn all_are_told(watches: &mut [Changes], revision: Revision) {
    for (n, watch) in watches.iter_mut().enumerate() {
        assert_eq!(next(watch).await.revision(), Some(revision), "watch {n}");
    }
}

/// Watches of everything, begun one after the other.
async fn crowd(kv: &dyn Kv, count: usize) -> Vec<Changes> {
    let mut watches = Vec::new();
    for _ in 0..count {
        let mut changes = kv.watch(Watch::default());
        caught_up(&mut changes).await;
        watches.push(changes);
    }
    watches
}

async fn eventually_shared(store: &Store) {
    eventually("they share a consumer", SOON, async || {
        (store.messages_and_consumers().await.1 <= ALONE + 1).then_some(())
    })
    .await;
}

/// Writes `count` times over keys of 40 prefixes, and says what became of which.
async fn write(kv: &dyn Kv, count: usize) -> Vec<(Key, Revision)> {
    let mut written = Vec::new();
    for n in 0..count {
        let name = key(format!("p{}.k{}", n % 40, n % 7));
        let revision = if n % 5 == 4 {
            kv.delete(&name, DeleteOpts::new()).await.unwrap()
        } else {
            Some(put(kv, name.as_str(), &n.to_string()).await)
        };
        written.extend(revision.map(|revision| (name, revision)));
    }
    written
}

/// The scope of the watch with that number: one of 40 prefixes, some keys, or everything.
fn scope(n: usize) -> Scope {
    match n % 50 {
        prefix @ 0..40 => Scope::prefix(&format!("p{prefix}.")),
        one @ 40..48 => Scope::Many(vec![key(format!("p{one}.k1")), key("p1.k1"), key("p2.k2")]),
        _ => Scope::All,
    }
}

fn revisions(written: &[(Key, Revision)], scope: &Scope) -> Vec<Revision> {
    let meant = written.iter().filter(|(key, _)| scope.contains(key.as_str(), key.as_str()));
    meant.map(|(_, revision)| *revision).collect()
}

/// Every one of `watches` is told of what was written in its scope and of nothing else, in order,
/// but for several keys on servers that have a consumer for each.
async fn are_told(watches: &mut [(Scope, Changes)], written: &[(Key, Revision)]) {
    for (n, (scope, changes)) in watches.iter_mut().enumerate() {
        let expected = revisions(written, scope);
        let mut told = Vec::new();
        while told.len() < expected.len() {
            let change = next(changes).await;
            if let Change::Put(entry) = &change {
                assert_eq!(entry.value.is_empty(), n % 3 == 0, "{n}");
            }
            told.extend(change.revision());
        }
        if matches!(scope, Scope::Many(_)) {
            told.sort();
        }
        assert_eq!(told, expected, "watch {n} of {scope:?}");
    }
}

async fn more_watch_than_a_stream_has_consumers(release: Release) {
    let server = NatsServer::start(release, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    // Hundreds ask again at once when the connection is back: on a busy machine that takes a while.
    let mut options = options(&proxy.url());
    options.request_timeout = SOON;
    let backend = NatsBackend::connect(&options).await.unwrap();
    let store = Store { server, backend };
    let kv = narrow_bucket(&store).await;
    let before = write(&*kv, 100).await;
    let end = before.last().unwrap().1;
    let begun = (0..FOLLOWERS).map(|n| {
        let watch = Watch::current(scope(n));
        let watch = if n % 3 == 0 { watch.keys_only() } else { watch };
        let watch = match n % 4 {
            0 => watch.start(Start::Now),
            1 => watch.start(Start::After(before[50].1)),
            2 => watch.start(Start::After(end)),
            _ => watch,
        };
        kv.watch(watch)
    });
    let begun = all_caught_up(begun).await;
    let mut watches: Vec<_> = begun.into_iter().enumerate().map(|(n, it)| (scope(n), it)).collect();
    let written = write(&*kv, 200).await;
    are_told(&mut watches, &written).await;
    eventually_shared(&store).await;

    // What happens while the connection is gone is told as well.
    proxy.refuse();
    proxy.reset();
    let peer = connect(&store.server).await;
    let theirs = peer.kv(kv.bucket(), Open::existing()).await.unwrap();
    let mut written = write(&*theirs, 200).await;
    proxy.accept();
    written.extend(write(&*kv, 50).await);
    are_told(&mut watches, &written).await;
    assert!(peer.close(GRACE).await.is_clean());

    drop(watches);
    eventually("no consumer is left", SOON, async || {
        (store.messages_and_consumers().await.1 == 0).then_some(())
    })
    .await;
    store.close().await;
}

async fn a_slow_one_of_many_misses_nothing(release: Release) {
    /// More than is kept for those who share.
    const WRITES: usize = 10_000;
    let store = Store::start(release).await;
    let kv = narrow_bucket(&store).await;
    let mut watches = crowd(&*kv, 100).await.split_off(96);
    let others = crowd(&*kv, 90).await;
    eventually_shared(&store).await;
    let mut slow = watches.pop().unwrap();
    let client = store.backend.client();
    for n in 0..WRITES {
        client.publish(format!("$KV.b.k{n}"), Bytes::from_static(b"x")).await.unwrap();
    }
    for watch in &mut watches {
        for n in 0..WRITES {
            assert_eq!(next(watch).await.revision(), Some(Revision(n as u64 + 1)));
        }
    }
    for n in 0..WRITES {
        assert_eq!(next(&mut slow).await.revision(), Some(Revision(n as u64 + 1)), "slow");
    }
    let revision = put(&*kv, "last", "x").await;
    assert_eq!(next(&mut slow).await.revision(), Some(revision));
    eventually_shared(&store).await;
    drop((watches, others, slow));
    store.close().await;
}

async fn what_expires_is_told_once_to_each_of_many(release: Release) {
    let store = Store::start(release).await;
    let kv = narrow_bucket(&store).await;
    let mut watches = crowd(&*kv, 100).await;
    eventually_shared(&store).await;
    let brief = PutOpts::new().ttl(Duration::from_millis(1500));
    let put_brief = kv.put(&key("brief"), Bytes::from_static(b"x"), brief).await.unwrap();
    for watch in &mut watches {
        let told = next(watch).await;
        assert!(matches!(&told, Change::Put(entry) if entry.revision == put_brief.revision));
    }
    for watch in &mut watches {
        let told = next(watch).await;
        assert!(matches!(&told, Change::Delete { key, .. } if key.as_str() == "brief"), "{told:?}");
    }
    let revision = put(&*kv, "behind", "x").await;
    // It was told once.
    all_are_told(&mut watches, revision).await;
    drop(watches);
    store.close().await;
}

async fn many_go_on_over_an_outage_of_their_server(release: Release) {
    let store = Store::start(release).await;
    let kv = narrow_bucket(&store).await;
    let mut watches = crowd(&*kv, 100).await;
    eventually_shared(&store).await;
    for _ in 0..3 {
        store.server.kill();
        store.server.restart().await;
        let revision = put(&*kv, "k", "x").await;
        all_are_told(&mut watches, revision).await;
    }
    drop(watches);
    store.close().await;
}

async fn many_are_told_that_their_bucket_is_gone(release: Release) {
    let store = Store::start(release).await;
    let kv = narrow_bucket(&store).await;
    let mut watches = crowd(&*kv, 100).await;
    eventually_shared(&store).await;
    let deleted = store.ask("$JS.API.STREAM.DELETE.KV_b", serde_json::Value::Null).await;
    assert_eq!(deleted["success"], true, "{deleted}");
    join_all(watches.iter_mut().map(|watch| async {
        let told = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound, "{told:?}");
        assert!(timeout(SOON, watch.next()).await.unwrap().is_none());
    }))
    .await;
    // Whoever comes when it is there again begins anew.
    let kv = narrow_bucket(&store).await;
    let mut watches = crowd(&*kv, 100).await;
    let revision = put(&*kv, "k", "x").await;
    all_are_told(&mut watches, revision).await;
    drop(watches);
    store.close().await;
}

async fn who_comes_to_a_bucket_made_anew_is_not_told_of_the_one_before(release: Release) {
    let store = Store::start(release).await;
    let kv = narrow_bucket(&store).await;
    write(&*kv, 100).await;
    let mut watches = crowd(&*kv, 100).await;
    eventually_shared(&store).await;
    let deleted = store.ask("$JS.API.STREAM.DELETE.KV_b", serde_json::Value::Null).await;
    assert_eq!(deleted["success"], true, "{deleted}");
    // Nobody knows it yet.
    let kv = narrow_bucket(&store).await;
    let mut after = crowd(&*kv, 20).await;
    for n in 1..=110 {
        put(&*kv, "k", "x").await;
        all_are_told(&mut after, Revision(n)).await;
    }
    join_all(watches.iter_mut().map(|watch| async {
        let told = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound, "{told:?}");
    }))
    .await;
    drop((watches, after));
    store.close().await;
}

async fn who_may_read_a_part_only_reads_it_alone(release: Release) {
    let users = r#"accounts { A { jetstream: enabled, users: [
        { user: admin, password: secret },
        { user: user, password: secret, permissions: {
            publish: ["$JS.API.STREAM.INFO.KV_b", "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.app.>",
                "$JS.API.CONSUMER.DELETE.KV_b.*", "$JS.FC.KV_b.>"],
            subscribe: ["_INBOX_user.>"]
        } }
    ] } }"#;
    let server = NatsServer::start(release, ServerOptions::new().config(users)).await;
    let admin = NatsBackend::connect(&options_as(&server.url(), "admin")).await.unwrap();
    let user = NatsBackend::connect(&options_as(&server.url(), "user")).await.unwrap();
    let store = Store { server, backend: admin };
    let kv = store.kv(BucketSpec::default()).await;
    let theirs = user.kv(&bucket(), Open::existing()).await.unwrap();
    let begun = (0..100)
        .map(|_| theirs.watch(Watch::current(Scope::Matching(Pattern::parse("app.>").unwrap()))));
    let mut watches = all_caught_up(begun).await;
    put(&*kv, "other.k", "x").await;
    let revision = put(&*kv, "app.k", "x").await;
    all_are_told(&mut watches, revision).await;
    let nothing_more = join_all(watches.iter_mut().map(StreamExt::next));
    tokio::select! {
        told = nothing_more => panic!("{told:?}"),
        () = eventually("a consumer each", SOON, async || {
            (store.messages_and_consumers().await.1 == 100).then_some(())
        }) => {}
    }
    drop(watches);
    assert!(user.close(GRACE).await.is_clean());
    store.close().await;
}

async fn those_who_come_to_a_full_stream_take_nothing_from_the_others(release: Release) {
    let store = Store::start(release).await;
    store
        .make_stream(json!({
            "name": "KV_b", "subjects": ["$KV.b.>"], "allow_direct": true,
            "allow_rollup_hdrs": true, "max_consumers": ALONE,
        }))
        .await;
    let kv = store.backend.kv(&bucket(), Open::existing()).await.unwrap();
    let mut watches = crowd(&*kv, usize::try_from(ALONE).unwrap()).await;
    let mut more: Vec<_> = (0..10).map(|_| kv.watch(Watch::default())).collect();
    let come = join_all(more.iter_mut().map(|watch| watch.next()));
    let told = async {
        // More often than a consumer gives a sign of life.
        for _ in 0..30 {
            let revision = put(&*kv, "k", "x").await;
            for told in join_all(watches.iter_mut().map(next)).await {
                assert_eq!(told.revision(), Some(revision));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let mut told = std::pin::pin!(told);
    tokio::select! {
        () = &mut told => {}
        come = come => {
            // Whoever gets in when a consumer is replaced is told as well.
            for error in come.into_iter().flatten().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
            }
            told.await;
        }
    }
    drop(more);
    store.close().await;
}

async fn more_follow_a_stream_than_it_has_consumers(release: Release) {
    let store = Store::start(release).await;
    store
        .make_stream(json!({"name": "S", "subjects": ["s.>"], "max_consumers": CONSUMERS_MAX}))
        .await;
    let bus = store.backend.bus();
    let name = StreamName::parse("S").unwrap();
    let append = async |subject: &str| {
        let message = Message::new(Subject::parse(subject).unwrap(), "x");
        bus.append(message, AppendOpts::new()).await.unwrap();
    };
    for _ in 0..20 {
        append("s.1").await;
        append("s.2").await;
    }
    let follow = |n: usize| {
        let filter = Pattern::parse(format!("s.{}", n % 4)).unwrap();
        bus.read_stream(&name, ReadStream::all().filter(filter).follow())
    };
    let mut reading: Vec<_> = (0..FOLLOWERS).map(follow).collect();
    let read = join_all(reading.iter_mut().enumerate().map(|(n, it)| async move {
        let count = if matches!(n % 4, 1 | 2) { 20 } else { 0 };
        timeout(SOON, it.take(count).try_collect::<Vec<_>>()).await.unwrap().unwrap()
    }));
    for (n, read) in read.await.iter().enumerate() {
        let sequences: HashSet<u64> = read.iter().map(|it| it.sequence).collect();
        assert_eq!(sequences.len(), read.len());
        assert!(sequences.iter().all(|it| *it % 2 == n as u64 % 2), "{n}: {sequences:?}");
    }
    for subject in ["s.0", "s.1", "s.2", "s.3"] {
        append(subject).await;
    }
    let told = join_all(reading.iter_mut().map(|it| timeout(SOON, it.next()))).await;
    for (n, told) in told.into_iter().enumerate() {
        let told = told.unwrap().unwrap().unwrap();
        assert_eq!(told.sequence, 41 + n as u64 % 4);
    }
    drop(reading);
    store.close().await;
}

async fn more_watch_objects_than_there_are_consumers(release: Release) {
    let store = Store::start(release).await;
    store
        .make_stream(json!({
            "name": "OBJ_b", "subjects": ["$O.b.C.>", "$O.b.M.>"], "discard": "new",
            "allow_direct": true, "allow_rollup_hdrs": true, "max_consumers": CONSUMERS_MAX,
        }))
        .await;
    let objects = store.backend.objects(&bucket(), Open::existing()).await.unwrap();
    let watches = (0..FOLLOWERS).map(|_| objects.watch(Scope::All, Start::Current));
    let mut watches = join_all(watches.map(|mut it| async {
        timeout(SOON, it.next()).await.unwrap().unwrap().unwrap();
        it
    }))
    .await;
    for name in ["a", "b", "c"] {
        let body: Body = Box::pin(stream::iter([Ok(Bytes::from(vec![b'x'; 200_000]))]));
        let name = ObjectName::parse(name).unwrap();
        objects.put(&name, body, ObjectPut::default()).await.unwrap();
    }
    for watch in &mut watches {
        for name in ["a", "b", "c"] {
            let told = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
            assert!(matches!(&told, ObjectChange::Put(info) if info.name.as_str() == name));
        }
    }
    drop(watches);
    store.close().await;
}

/// Many whose connection was gone for longer than deletions are remembered are told so, as one
/// alone is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_were_away_too_long_end() {
    let (store, proxy) = Store::start_behind_proxy(Release::Newest).await;
    let kv = forgetful_bucket(&store).await;
    put(&*kv, "a", "1").await;
    let mut watches = crowd(&*kv, 100).await;
    eventually_shared(&store).await;
    away_while_a_deletion_is_forgotten(&store, &proxy, &*kv).await;
    join_all(watches.iter_mut().map(|watch| async {
        let told = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Unavailable, "{told:?}");
    }))
    .await;
    store.close().await;
}

mod slow {
    use jetbridge_testkit::NatsCluster;

    use super::*;
    use crate::store::{ask, make_stream, options};

    const KEYS: usize = 40;
    const WRITES: usize = 400;
    /// Longer than a cluster takes to elect a leader, on a machine that does something else too.
    const ELECTED_WITHIN: Duration = Duration::from_secs(60);

    /// Writes until it is acknowledged; what came of it when it was not, the history knows.
    async fn surely_put(kv: &dyn Kv, name: &str) {
        eventually("a put is acknowledged", ELECTED_WITHIN, async || {
            kv.put(&key(name), Bytes::from_static(b"x"), PutOpts::new()).await.ok()
        })
        .await;
    }

    /// Everything that a watch is told, up to the key `end`.
    async fn all_told(mut changes: Changes) -> Vec<Revision> {
        let mut told = Vec::new();
        loop {
            let change = timeout(ELECTED_WITHIN, changes.next()).await.unwrap().unwrap().unwrap();
            told.extend(change.revision());
            if matches!(&change, Change::Put(entry) if entry.key.as_str() == "end") {
                return told;
            }
        }
    }

    /// Leaders step down and die; the servers that a consumer is on are not always up to date.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_follow_three_copies_over_changes_of_leaders() {
        let cluster = NatsCluster::start(Release::Newest, 3).await;
        let mut options = options("");
        options.servers = cluster.nodes().iter().map(NatsServer::url).collect();
        let backend = NatsBackend::connect(&options).await.unwrap();
        make_stream(
            &backend,
            json!({
                "name": "KV_b", "subjects": ["$KV.b.>"], "max_msgs_per_subject": HISTORY,
                "allow_direct": true, "allow_rollup_hdrs": true, "num_replicas": 3,
                "max_consumers": CONSUMERS_MAX,
            }),
        )
        .await;
        let kv = backend.kv(&bucket(), Open::existing()).await.unwrap();
        let watches = crowd(&*kv, 200).await;
        eventually("they share a consumer", SOON, async || {
            let info = ask(&backend, "$JS.API.STREAM.INFO.KV_b", serde_json::Value::Null).await;
            (info["state"]["consumer_count"].as_u64()? <= ALONE + 1).then_some(())
        })
        .await;
        let told = join_all(watches.into_iter().map(all_told));
        let happening = async {
            for n in 0..WRITES {
                if n % 100 == 50 {
                    let leader = eventually("a leader", ELECTED_WITHIN, async || {
                        cluster.leader("KV_b").await
                    })
                    .await;
                    match n / 100 % 2 {
                        0 => cluster.step_down("KV_b").await,
                        _ => {
                            cluster.nodes()[leader].kill();
                            cluster.nodes()[leader].restart().await;
                        }
                    }
                }
                surely_put(&*kv, &format!("k{}", n % KEYS)).await;
            }
            surely_put(&*kv, "end").await;
        };
        let (told, ()) = tokio::join!(told, happening);
        let history = kv.watch(Watch::default().start(Start::History));
        let history = all_told(history).await;
        assert!(history.len() > WRITES, "{}", history.len());
        for (n, told) in told.iter().enumerate() {
            assert_eq!(*told, history, "watch {n}");
        }
        drop(kv);
        assert!(backend.close(GRACE).await.is_clean());
    }
}
