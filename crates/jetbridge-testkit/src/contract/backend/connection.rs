//! The connection: what it can do, how it does, what time it is there, and how it ends.

use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{
    Clock as _, ConnectionState, ErrorKind, Message, PutOpts, Read, Scope, Subject, Subscribe,
    Support, SystemClock, Verdict, Watch,
};
use tokio::time::Instant;

use crate::contract::bus::steps::{Corner, consume};
use crate::contract::steps::{bytes, key, kind, put, within};

/// How long a close in these cases may take; what hangs takes for ever.
const GRACE: Duration = Duration::from_secs(10);

cases! { $ __backend_connection = backend::connection;
    /// What a connection can do is possible, and the same on every connection to a store.
    async fn capabilities_make_sense(f) {
        let ours = f.backend.capabilities();
        assert_eq!(ours, f.peer.capabilities());
        assert!(ours.value_bytes_max >= 1000, "{ours:?}");
        assert!(ours.replicas_max >= 1, "{ours:?}");
        assert_ne!(ours.counters, Support::No, "counters can be had over keys");
        assert!(!f.backend.to_string().is_empty());
    }

    /// A store says who it is and how long it takes to say so.
    async fn a_store_tells_its_status(f) {
        let status = f.backend.status().await.unwrap();
        assert!(!status.backend.is_empty() && !status.version.is_empty(), "{status:?}");
        assert!(!status.location.is_empty(), "{status:?}");
        assert!(status.round_trip < GRACE, "{status:?}");
    }

    /// Nothing fails on a store that works; what there is to say is said in words.
    async fn a_healthy_store_passes_its_checks(f) {
        let checks = within("the checks", f.backend.diagnose()).await;
        assert!(!checks.is_empty());
        for check in checks {
            assert_ne!(check.verdict, Verdict::Fails, "{check:?}");
            assert!(!check.name.is_empty() && !check.detail.is_empty(), "{check:?}");
        }
    }

    /// The store's time is this machine's, where they are one, within the error it admits; and it
    /// does not go backwards.
    async fn the_time_is_right_within_its_error(f) {
        let slack = Duration::from_millis(5);
        let mut last = None;
        for _ in 0..5 {
            let before = SystemClock.now();
            let told = f.backend.now().await.unwrap();
            let after = SystemClock.now();
            assert!(told.now + told.error + slack >= before, "{told:?} at {before:?}");
            assert!(told.now <= after + told.error + slack, "{told:?} at {after:?}");
            assert!(told.error < Duration::from_secs(5), "{told:?}");
            let backwards = last.is_some_and(|last| told.now + told.error + slack < last);
            assert!(!backwards, "{told:?} after {last:?}");
            last = Some(told.now);
        }
        assert!(f.backend.clock().now().is_some());
        assert!(!f.backend.clock().is_stale());
    }

    /// A connection is connected until it is closed, and says so.
    async fn the_state_of_the_connection_is_told(f) {
        let mut states = f.backend.connection();
        let now = within("the state", states.next()).await;
        assert_eq!(now, Some(ConnectionState::Connected));
        let mut other = f.backend.connection();
        assert_eq!(within("the state", other.next()).await, Some(ConnectionState::Connected));
        f.backend.close(GRACE).await;
        for states in [&mut states, &mut other] {
            within("the end", async {
                while let Some(state) = states.next().await {
                    if state == ConnectionState::Closed {
                        return;
                    }
                }
                panic!("the states end without the last one");
            })
            .await;
        }
    }

    /// Closing joins everything that runs, in time, whatever is still open.
    async fn closing_joins_everything(f) {
        let kv = f.kv().await;
        put(&kv, "a", "1").await;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut watch = kv.watch(Watch::current(Scope::All));
        assert!(within("a change", watch.next()).await.unwrap().is_ok());
        let objects = f.objects().await;
        let object_watch = objects.watch(Scope::All, jetbridge_core::Start::Current);
        let subscription = corner.listen("x").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert!(within("a delivery", consumer.next()).await.unwrap().is_ok());
        let follow = jetbridge_core::ReadStream::all().follow();
        let mut reading = corner.ours.read_stream(&stream, follow);
        assert!(within("a message", reading.next()).await.unwrap().is_ok());
        let start = Instant::now();
        let report = f.backend.close(GRACE).await;
        assert!(report.is_clean(), "{report:?}");
        assert!(start.elapsed() <= GRACE, "after {:?}", start.elapsed());
        drop((watch, object_watch, subscription, consumer, reading));
    }

    /// What was open ends when the connection is closed; nothing hangs.
    async fn what_was_open_ends(f) {
        let kv = f.kv().await;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let mut watch = kv.watch(Watch::current(Scope::All));
        let mut subscription = corner.listen("x").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        let follow = jetbridge_core::ReadStream::all().follow();
        let mut reading = corner.ours.read_stream(&stream, follow);
        assert!(within("the first change", watch.next()).await.unwrap().is_ok());
        f.backend.close(GRACE).await;
        within("the end of the watch", async { while let Some(Ok(_)) = watch.next().await {} }).await;
        within("the end of the subscription", async {
            while let Some(Ok(_)) = subscription.next().await {}
        })
        .await;
        within("the end of the consumer", async { while let Some(Ok(_)) = consumer.next().await {} })
            .await;
        within("the end of the reading", async { while let Some(Ok(_)) = reading.next().await {} })
            .await;
    }

    /// A closed connection does nothing any more, and says so at once; closing it again is fine.
    async fn a_closed_connection_is_unavailable(f) {
        let kv = f.kv().await;
        let bus = f.backend.bus();
        put(&kv, "a", "1").await;
        assert!(f.backend.close(GRACE).await.is_clean());
        let start = Instant::now();
        let get = within("get", kv.get(&key("a"), Read::Fresh)).await;
        assert_eq!(kind(get), ErrorKind::Unavailable);
        let put = within("put", kv.put(&key("a"), bytes("2"), PutOpts::new())).await;
        assert_eq!(kind(put), ErrorKind::Unavailable);
        let subject = Subject::parse("t.closed").unwrap();
        let publish = within("publish", bus.publish(Message::new(subject.clone(), "1"))).await;
        assert_eq!(kind(publish), ErrorKind::Unavailable);
        let subscribe = within("subscribe", bus.subscribe(Subscribe::to(subject.into()))).await;
        assert_eq!(kind(subscribe), ErrorKind::Unavailable);
        let open = f.backend.kv(kv.bucket(), jetbridge_core::Open::existing());
        assert_eq!(kind(within("open", open).await), ErrorKind::Unavailable);
        assert!(start.elapsed() < GRACE, "after {:?}", start.elapsed());
        assert!(f.backend.close(GRACE).await.is_clean());
    }

    /// Closing one connection leaves the other alone.
    async fn closing_one_leaves_the_other(f) {
        if std::sync::Arc::ptr_eq(&f.backend, &f.peer) {
            // There is no other: the store must not pretend to be shared.
            assert!(!f.backend.capabilities().shared);
            return;
        }
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        put(&ours, "a", "1").await;
        assert!(f.backend.close(GRACE).await.is_clean());
        assert_eq!(crate::contract::steps::read(&theirs, "a").await.as_deref(), Some("1"));
        put(&theirs, "a", "2").await;
        assert_eq!(crate::contract::steps::read(&theirs, "a").await.as_deref(), Some("2"));
    }
}
