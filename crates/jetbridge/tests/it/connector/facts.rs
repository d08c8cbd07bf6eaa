//! The ten facts in which evo's connector breaks its page's promises: each is a case that evo
//! fails.
#![expect(clippy::disallowed_methods, reason = "a test compares with the wall clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::join_all;
use jetbridge::connector::Connector;
use jetbridge::core::{BucketKind, BucketName, ConnectionState, Key, Open, Read};
use jetbridge_testkit::eventually;

use super::place::{ada, evo_settings};
use super::{SOON, cases};

cases! {
    $ ten_facts = facts;

    /// 1. evo: `nats: invalid key`, and `Get` is silently false.
    async fn keys_are_taken_as_printed(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        let keys = [
            "user:1", "session:abc", "http#req#GET#https://example.org/?q=1&r=*", "a b", "é", ".",
            "..", "a..b", "*", ">", "user=3A1", "\0",
        ];
        for key in keys {
            kv.set(key, &key).await.unwrap();
        }
        for key in keys {
            assert_eq!(kv.get(key).await.unwrap(), Some(key.to_owned()));
        }
        assert_eq!(kv.item_count().await.unwrap(), keys.len() as u64);
        assert!(kv.delete("user:1").await.unwrap());
        assert_eq!(kv.get::<String>("user:1").await.unwrap(), None);
        assert_eq!(kv.get::<String>("never").await.unwrap(), None);
        let unnamed = kv.get::<String>("").await.unwrap_err();
        assert_eq!(unnamed.kind(), jetbridge::ErrorKind::InvalidInput);
    }

    /// 2. evo: the bucket is ignored, everything is in `default`.
    async fn a_call_works_in_the_bucket_it_names(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        kv.set("user:1", &ada()).bucket("my-bucket").await.unwrap();
        assert_eq!(kv.get("user:1").bucket("my-bucket").await.unwrap(), Some(ada()));
        assert_eq!(kv.get::<String>("user:1").await.unwrap(), None);

        let bucket = BucketName::parse("my-bucket").unwrap();
        let stored = connector.backend().kv(&bucket, Open::existing()).await.unwrap();
        let key = Key::parse("user:1").unwrap();
        let entry = stored.get(&key, Read::Fresh).await.unwrap().unwrap();
        assert_eq!(entry.value, r#"{"name":"Ada","age":36}"#);
    }

    /// 3. evo: no reconnects, no randomising, 2 s to connect, whatever the page prints.
    async fn the_printed_defaults_hold(place) {
        let settings = evo_settings("");
        let connect = &settings.connect;
        assert_eq!(connect.servers, ["nats://127.0.0.1:4222"]);
        assert_eq!(connect.reconnects_max, Some(5));
        assert_eq!(connect.reconnect_wait, Duration::from_secs(2));
        assert_eq!(connect.connect_timeout, Duration::from_secs(5));
        assert_eq!(settings.drain_timeout, Some(Duration::from_secs(30)));
        assert!(connect.randomize);

        let connector = place.by_settings("").await;
        connector.kv().set("k", &1).await.unwrap();
        let default = BucketName::parse("default").unwrap();
        assert!(connector.backend().bucket(BucketKind::Kv, &default).await.is_ok());

        let named = place.by_settings("NATS.DEFAULT_BUCKET=myapp").await;
        assert_eq!(named.kv().get::<i64>("k").await.unwrap(), None);
    }

    /// 4. evo: one restart of the server, and the connection is closed for ever.
    async fn a_restart_of_the_server_is_survived(place) {
        let connector = place.by_settings("NATS.RECONNECT_WAIT=100ms").await;
        let mut news = connector.subscribe::<u64>("news").await.unwrap();
        connector.kv().set("k", &1).await.unwrap();
        for round in 2..4 {
            place.restart().await;
            eventually("a write after the restart", SOON, async || {
                connector.kv().set("k", &round).await.ok()
            })
            .await;
            assert_eq!(connector.kv().get("k").await.unwrap(), Some(round));
            // The subscription is there again when the store has answered behind it.
            connector.bus().flush().await.unwrap();
            connector.publish("news", &round).await.unwrap();
            let heard = tokio::time::timeout(SOON, news.next()).await.expect("news").unwrap();
            assert_eq!(heard.unwrap().decode().unwrap(), u64::try_from(round).unwrap());
        }
    }

    /// 5. evo: −1 leaves the client's default of 60 attempts.
    async fn minus_one_reconnects_for_ever(place) {
        let settings = evo_settings("NATS.MAX_RECONNECT=-1");
        assert_eq!(settings.connect.reconnects_max, None);
        let pace = "NATS.RECONNECT_WAIT=10ms";
        let patient = place.by_settings(&format!("NATS.MAX_RECONNECT=-1\n{pace}")).await;
        patient.kv().set("k", &1).await.unwrap();
        if place.has_server() {
            let hasty = place.by_settings(&format!("NATS.MAX_RECONNECT=70\n{pace}")).await;
            place.kill();
            // Over 60 attempts of the same pace have passed when this one has given up.
            let mut states = hasty.backend().connection();
            let closed = async { while states.next().await != Some(ConnectionState::Closed) {} };
            tokio::time::timeout(SOON, closed).await.expect("70 attempts are used up");
        }
        place.restart().await;
        eventually("the value after the outage", SOON, async || {
            patient.kv().get::<i64>("k").await.ok().flatten()
        })
        .await;
    }

    /// 6. evo: the drain returns at once, and no handler finishes.
    async fn shutdown_waits_for_handlers(place) {
        let connector = place.connector().await;
        let (begun, finished) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (starting, done) = (Arc::clone(&begun), Arc::clone(&finished));
        let writer = connector.clone();
        let slow = connector.subscribe::<u64>("slow").handle(10, move |message| {
            let (writer, starting, done) = (writer.clone(), Arc::clone(&starting), Arc::clone(&done));
            async move {
                starting.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1500)).await;
                writer.kv().set(format!("done:{}", message.decode()?), &true).await?;
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
        slow.await.unwrap();
        for n in 0..12_u64 {
            connector.publish("slow", &n).await.unwrap();
        }
        eventually("ten handlers at work", SOON, async || {
            (begun.load(Ordering::SeqCst) == 10).then_some(())
        })
        .await;
        let report = connector.shutdown(SOON).await;
        assert_eq!(finished.load(Ordering::SeqCst), 12, "two more had arrived: {report}");
        assert!(report.is_clean() && report.counts.handled == 12, "{report}");
        assert!(report.to_string().starts_with("drained in "), "{report}");
    }

    /// 7. evo: a wildcard subscription never fires.
    async fn wildcards_fire(place) {
        let connector = place.connector().await;
        let mut one = connector.subscribe::<u64>("w.*").await.unwrap();
        let mut all = connector.subscribe::<u64>("w.>").await.unwrap();
        connector.publish("w.a.b", &1).await.unwrap();
        connector.publish("w.a", &2).await.unwrap();
        let message = one.next().await.unwrap().unwrap();
        assert_eq!((message.topic(), message.decode().unwrap()), ("w.a", 2));
        for (topic, value) in [("w.a.b", 1), ("w.a", 2)] {
            let message = all.next().await.unwrap().unwrap();
            assert_eq!((message.topic(), message.decode().unwrap()), (topic, value));
        }
    }

    /// 8. evo: the second member of a group is merged into the first, and both get everything.
    async fn queue_groups_share_within_a_process(place) {
        let connector = place.connector().await;
        let counts: [Arc<AtomicU64>; 3] = Default::default();
        for (count, queue) in counts.iter().zip([Some("g"), Some("g"), None]) {
            let count = Arc::clone(count);
            let mut subscribe = connector.subscribe::<u64>("q.*");
            if let Some(queue) = queue {
                subscribe = subscribe.queue(queue);
            }
            let handle = subscribe.handle(1, move |_message| {
                count.fetch_add(1, Ordering::SeqCst);
                async { Ok(()) }
            });
            handle.await.unwrap();
        }
        for n in 0..40_u64 {
            connector.publish("q.a", &n).await.unwrap();
        }
        let report = connector.shutdown(SOON).await;
        let [a, b, alone] = counts.map(|count| count.load(Ordering::SeqCst));
        assert_eq!((a + b, alone), (40, 40), "{report}");
        assert!(a > 0 && b > 0, "both members work: {a} and {b}");
    }

    /// 9. evo: of 64 concurrent `Replace` of a live key one is true.
    async fn replace_is_true_for_every_live_key(place) {
        let (near, far) = (place.connector().await, place.connector().await);
        near.kv().set("k", &0).await.unwrap();
        let replace = |n: i64| {
            let connector: &Connector = if n % 2 == 0 { &near } else { &far };
            connector.kv().replace("k", &n).into_future()
        };
        let replaced = join_all((1..=64).map(replace)).await;
        assert_eq!(replaced.into_iter().filter(|it| *it.as_ref().unwrap()).count(), 64);
        let last = near.kv().get::<i64>("k").await.unwrap().unwrap();
        assert!((1..=64).contains(&last));

        near.kv().delete("k").await.unwrap();
        assert!(!near.kv().replace("k", &1).await.unwrap());
        assert_eq!(near.kv().get::<i64>("k").await.unwrap(), None);
    }

    /// 10. evo: a TTL is accepted and ignored.
    async fn a_ttl_is_kept(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        let before = SystemTime::now();
        kv.set("short", &1).ttl(Duration::from_millis(300)).await.unwrap();
        kv.set("long", &1).ttl(Duration::from_secs(3600)).await.unwrap();
        kv.set("cleared", &1).ttl(Duration::from_millis(300)).await.unwrap();
        kv.set("cleared", &2).await.unwrap();
        eventually("the short-lived value is gone", SOON, async || {
            kv.get::<i64>("short").await.unwrap().is_none().then_some(())
        })
        .await;
        assert!(before.elapsed().unwrap() >= Duration::from_millis(290), "not before its time");
        assert_eq!(kv.get("long").await.unwrap(), Some(1));
        assert_eq!(kv.get("cleared").await.unwrap(), Some(2));
        assert!(kv.set("short", &3).if_absent().await.unwrap(), "expired is absent");
    }
}
