//! Users who may do no more than they need, on real servers.
//!
//! What a user lacks fails at once and names the subject; what it has is enough, without the
//! right to ask about the account.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Backend as _, BucketSpec, Change, Error, ErrorKind, IncrementOpts, Key, Kv, Message, Open,
    PutOpts, Read, Scope, Subject, Watch,
};
use jetbridge_nats::NatsBackend;
use jetbridge_testkit::{Release, ServerOptions, eventually};
use tokio::time::timeout;

use crate::store::{GRACE, Store, bucket, key, options_as, put, read};

/// Well below the time-out of a request.
const AT_ONCE: Duration = Duration::from_secs(3);

jetbridge_testkit::on_every_server!(
    who_may_only_get_gets,
    who_reads_a_bucket_gets_lists_and_watches_it,
    who_writes_a_bucket_needs_no_administration,
    a_prefix_is_a_boundary,
    without_flow_control_a_large_watch_says_so,
    the_account_need_not_be_asked,
    what_is_published_and_refused_is_told_by_the_flush,
    the_check_of_the_time_names_what_it_lacks,
);

const READ_ONLY: &str = r#""$JS.API.STREAM.INFO.KV_b", "$JS.API.DIRECT.GET.KV_b.$KV.b.>",
    "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.>", "$JS.API.CONSUMER.DELETE.KV_b.*", "$JS.FC.KV_b.>""#;

/// The administrator `admin` and the user `user`, who may publish to `allowed`.
async fn start(release: Release, allowed: &str) -> (Store, NatsBackend, Arc<dyn Kv>) {
    let users = format!(
        r#"accounts {{ A {{ jetstream: enabled, users: [
            {{ user: admin, password: secret }},
            {{ user: user, password: secret, permissions: {{
                publish: [{allowed}], subscribe: ["_INBOX_user.>"]
            }} }}
        ] }} }}"#
    );
    let options = ServerOptions::new().config(&users);
    let server = jetbridge_testkit::NatsServer::start(release, options).await;
    let admin = NatsBackend::connect(&options_as(&server.url(), "admin")).await.unwrap();
    let user = NatsBackend::connect(&options_as(&server.url(), "user")).await.unwrap();
    let store = Store { server, backend: admin };
    let kv = store.kv(BucketSpec::default()).await;
    for name in ["app1.a", "app1.b", "app2.a"] {
        put(&*kv, name, name).await;
    }
    (store, user, kv)
}

async fn end(store: Store, user: NatsBackend) {
    assert!(user.close(GRACE).await.is_clean());
    store.close().await;
}

async fn at_once<T>(what: impl Future<Output = T>) -> T {
    timeout(AT_ONCE, what).await.unwrap()
}

#[track_caller]
fn names_the_subject(error: &Error, subject: &str) {
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.fact("subject").unwrap().starts_with(subject), "{error:?}");
    assert!(error.hint_text().is_some(), "{error:?}");
}

async fn keys(kv: &dyn Kv, scope: Scope) -> Result<Vec<Key>, Error> {
    let mut keys: Vec<Key> = kv.keys(scope).try_collect().await?;
    keys.sort();
    Ok(keys)
}

async fn who_may_only_get_gets(release: Release) {
    let (store, user, _) = start(release, r#""$JS.API.DIRECT.GET.KV_b.$KV.b.app1.>""#).await;
    let kv = at_once(user.kv(&bucket(), Open::existing())).await.unwrap();
    let entry = at_once(kv.get(&key("app1.a"), Read::MaybeStale)).await.unwrap().unwrap();
    assert_eq!(entry.value, "app1.a");
    assert_eq!(at_once(kv.get(&key("app1.z"), Read::MaybeStale)).await.unwrap(), None);
    let many = [key("app1.b"), key("app1.z"), key("app1.a")];
    let found = at_once(kv.get_many(&many, Read::MaybeStale)).await.unwrap().entries;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    // Whether a copy's answer is the last one it may not find out, so it is told, never misled.
    let fresh = at_once(kv.get(&key("app1.a"), Read::Fresh)).await.unwrap_err();
    names_the_subject(&fresh, "$JS.API.STREAM.MSG.GET.KV_b");
    let other = at_once(kv.get(&key("app2.a"), Read::MaybeStale)).await.unwrap_err();
    names_the_subject(&other, "$JS.API.DIRECT.GET.KV_b.$KV.b.app2.a");
    let writing = at_once(kv.put(&key("app1.a"), Bytes::new(), PutOpts::new())).await.unwrap_err();
    names_the_subject(&writing, "$KV.b.app1.a");
    let listing = at_once(keys(&*kv, Scope::All)).await.unwrap_err();
    names_the_subject(&listing, "$JS.API.CONSUMER.CREATE.KV_b.");
    end(store, user).await;
}

async fn who_reads_a_bucket_gets_lists_and_watches_it(release: Release) {
    let (store, user, admins) = start(release, READ_ONLY).await;
    let kv = user.kv(&bucket(), Open::existing()).await.unwrap();
    assert_eq!(read(&*kv, "app1.a").await.as_deref(), Some("app1.a"), "fresh: it is the only copy");
    assert_eq!(at_once(kv.get(&key("absent"), Read::Fresh)).await.unwrap(), None);
    let all = ["app1.a", "app1.b", "app2.a"].map(key);
    assert_eq!(keys(&*kv, Scope::All).await.unwrap(), all);
    assert_eq!(keys(&*kv, Scope::prefix("app1.")).await.unwrap(), all[..2]);
    assert_eq!(keys(&*kv, Scope::Many(all[1..].to_vec())).await.unwrap(), all[1..]);
    assert_eq!(kv.get_many(&all, Read::Fresh).await.unwrap().entries.iter().flatten().count(), 3);
    assert_eq!(kv.page(Scope::All, None, 2).await.unwrap().keys.len(), 2);
    assert_eq!(kv.history(&all[0]).await.unwrap().len(), 1);
    let mut watching = kv.watch(Watch::default());
    while watching.next().await.unwrap().unwrap() != Change::CaughtUp {}
    let revision = put(&*admins, "new", "1").await;
    let change = watching.next().await.unwrap().unwrap();
    assert_eq!(change.revision(), Some(revision));
    let writing = at_once(kv.put(&key("a"), Bytes::new(), PutOpts::new())).await.unwrap_err();
    names_the_subject(&writing, "$KV.b.a");
    let purging = at_once(kv.purge(Scope::One(key("a")))).await.unwrap_err();
    names_the_subject(&purging, "$JS.API.STREAM.PURGE.KV_b");
    drop(watching);
    end(store, user).await;
}

async fn who_writes_a_bucket_needs_no_administration(release: Release) {
    let (store, user, _) = start(release, &format!(r#"{READ_ONLY}, "$KV.b.>""#)).await;
    let kv = user.kv(&bucket(), Open::ensure(BucketSpec::default())).await.unwrap();
    put(&*kv, "a", "1").await;
    kv.put(&key("b"), Bytes::from_static(b"1"), PutOpts::create()).await.unwrap();
    let brief = PutOpts::new().ttl(Duration::from_secs(60));
    kv.put(&key("c"), Bytes::from_static(b"1"), brief).await.unwrap();
    assert_eq!(kv.increment(&key("n"), 2, IncrementOpts::new()).await.unwrap(), 2);
    assert!(kv.delete(&key("a"), jetbridge_core::DeleteOpts::new()).await.unwrap().is_some());
    kv.put(&key("a"), Bytes::from_static(b"2"), PutOpts::create()).await.unwrap();
    assert_eq!(read(&*kv, "a").await.as_deref(), Some("2"));
    let deleting = at_once(user.delete_bucket(jetbridge_core::BucketKind::Kv, &bucket())).await;
    names_the_subject(&deleting.unwrap_err(), "$JS.API.STREAM.DELETE.KV_b");
    end(store, user).await;
}

async fn a_prefix_is_a_boundary(release: Release) {
    let allowed = r#""$JS.API.DIRECT.GET.KV_b.$KV.b.app1.>", "$KV.b.app1.>",
        "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.app1.>", "$JS.API.CONSUMER.DELETE.KV_b.*",
        "$JS.FC.KV_b.>""#;
    let (store, user, _) = start(release, allowed).await;
    let kv = user.kv(&bucket(), Open::existing()).await.unwrap();
    put(&*kv, "app1.c", "1").await;
    let inside = keys(&*kv, Scope::Matching("app1.>".parse().unwrap())).await.unwrap();
    assert_eq!(inside.len(), 3, "{inside:?}");
    let both = Scope::Many(vec![key("app1.a"), key("app1.b")]);
    assert_eq!(keys(&*kv, both).await.unwrap().len(), 2, "two filters, each allowed");
    let outside = at_once(keys(&*kv, Scope::All)).await.unwrap_err();
    names_the_subject(&outside, "$JS.API.CONSUMER.CREATE.KV_b.");
    let writing = at_once(kv.put(&key("app2.a"), Bytes::new(), PutOpts::new())).await.unwrap_err();
    names_the_subject(&writing, "$KV.b.app2.a");
    end(store, user).await;
}

/// The defect: without the right to answer flow control a large read hangs for ever, and nothing
/// says why.
async fn without_flow_control_a_large_watch_says_so(release: Release) {
    let allowed = READ_ONLY.replace(r#", "$JS.FC.KV_b.>""#, "");
    let (store, user, admins) = start(release, &allowed).await;
    let value = Bytes::from(vec![b'x'; 64 * 1024]);
    let puts = (0..160).map(|n| {
        let (admins, value) = (Arc::clone(&admins), value.clone());
        async move { admins.put(&key(format!("k{n}")), value, PutOpts::new()).await.unwrap() }
    });
    futures_util::future::join_all(puts).await;
    let kv = user.kv(&bucket(), Open::existing()).await.unwrap();
    let watching = kv.watch(Watch::default());
    let ended = watching.try_for_each(|_change| std::future::ready(Ok(())));
    let error = timeout(Duration::from_secs(20), ended).await.unwrap().unwrap_err();
    names_the_subject(&error, "$JS.FC.KV_b.");
    end(store, user).await;
}

async fn the_account_need_not_be_asked(release: Release) {
    let allowed = r#""$JS.API.STREAM.>", "$KV.>", "$JS.API.DIRECT.GET.>""#;
    let (store, user, _) = start(release, allowed).await;
    let name = jetbridge_core::BucketName::parse("own").unwrap();
    let kv = user.kv(&name, Open::ensure(BucketSpec::default())).await.unwrap();
    put(&*kv, "a", "1").await;
    assert_eq!(read(&*kv, "a").await.as_deref(), Some("1"));
    let checks = user.diagnose().await;
    let jetstream = checks.iter().find(|check| check.name == "jetstream").unwrap();
    assert_eq!(jetstream.verdict, jetbridge_core::Verdict::Warns, "{checks:?}");
    user.status().await.unwrap();
    end(store, user).await;
}

/// The defect: a message that may not be published is dropped, and nobody is told.
async fn what_is_published_and_refused_is_told_by_the_flush(release: Release) {
    let (store, user, _) = start(release, r#""allowed.>", "_INBOX_user.>""#).await;
    let (bus, other) = (user.bus(), user.bus());
    let message = |subject: &str| Message::new(Subject::parse(subject).unwrap(), "x");
    let mut told = 0;
    for round in 1..=30 {
        bus.publish(message("denied.a")).await.unwrap();
        bus.publish(message("allowed.b")).await.unwrap();
        bus.publish(message("denied.b")).await.unwrap();
        // On a machine that stands still, a flush may come before the client tells.
        eventually("the refusals are told", AT_ONCE, async || {
            let refused = at_once(bus.flush()).await.err()?;
            names_the_subject(&refused, "denied.");
            assert_eq!(refused.outcome(), jetbridge_core::Outcome::NotApplied);
            told += refused.fact("messages").unwrap().parse::<u64>().unwrap();
            (told == 2 * round).then_some(())
        })
        .await;
        bus.publish(message("allowed.a")).await.unwrap();
        at_once(bus.flush()).await.unwrap();
    }
    // It may have been this handle's message: better told twice than never.
    assert!(at_once(other.flush()).await.is_err());
    at_once(user.bus().flush()).await.unwrap();
    end(store, user).await;
}

async fn the_check_of_the_time_names_what_it_lacks(release: Release) {
    let (store, user, _) = start(release, r#""$JS.API.INFO""#).await;
    let checks = at_once(user.diagnose()).await;
    let clock = checks.iter().find(|check| check.name == "clock").unwrap();
    assert_eq!(clock.verdict, jetbridge_core::Verdict::Warns, "{checks:?}");
    assert!(clock.detail.contains("`$JS.API.STREAM.CREATE.JETBRIDGE_CLOCK_"), "{checks:?}");
    assert!(clock.hint.is_some(), "{checks:?}");
    end(store, user).await;
}
