//! Messages beyond the ten facts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use jetbridge::ErrorKind;
use jetbridge::codec::{Cbor, MessagePack};
use jetbridge::connector::{Connector, HandlerError};
use jetbridge::core::Headers;
use jetbridge_testkit::eventually;
use tokio::sync::{Semaphore, mpsc};

use super::place::{User, ada};
use super::{SOON, cases};

cases! {
    $ messages = messages;

    /// With one handler at once, messages are handled in the order they came.
    async fn one_at_a_time_keeps_the_order(place) {
        let connector = place.connector().await;
        let (seen, mut order) = mpsc::unbounded_channel();
        let running = connector.subscribe::<u64>("o").handle(1, move |message| {
            let seen = seen.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(seen.send(message.decode()?)?)
            }
        });
        let running = running.await.unwrap();
        for n in 0..200_u64 {
            connector.publish("o", &n).await.unwrap();
        }
        for n in 0..200 {
            assert_eq!(order.recv().await, Some(n));
        }
        let counts = running.stop(SOON).await;
        assert_eq!((counts.handled, counts.failed), (200, 0));
    }

    /// With more, at most that many run at once, and they do run at once.
    async fn concurrency_is_bounded(place) {
        let connector = place.connector().await;
        let gate = Arc::new(Semaphore::new(0));
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (hold, now, peak) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
        let handle = connector.subscribe::<u64>("b").handle(3, move |_message| {
            let (hold, now, peak) = (Arc::clone(&hold), Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                hold.acquire().await?.forget();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        });
        handle.await.unwrap();
        for n in 0..20_u64 {
            connector.publish("b", &n).await.unwrap();
        }
        eventually("three at work", SOON, async || {
            (running.load(Ordering::SeqCst) == 3).then_some(())
        })
        .await;
        gate.add_permits(20);
        let report = connector.shutdown(SOON).await;
        assert_eq!((report.counts.handled, most.load(Ordering::SeqCst)), (20, 3), "{report}");
    }

    /// A panic ends its own message's handling, and is reported.
    async fn panics_are_contained(place) {
        let connector = place.connector().await;
        let running = connector.subscribe::<u64>("p").handle(2, |message| async move {
            match message.decode()? % 3 {
                0 => panic!("at {}", message.topic()),
                1 => Err("no".into()),
                _ => Ok(()),
            }
        });
        let running = running.await.unwrap();
        for n in 0..30_u64 {
            connector.publish("p", &n).await.unwrap();
        }
        connector.publish_bytes("p", "no number").await.unwrap();
        let report = connector.shutdown(SOON).await;
        assert_eq!(report.counts.to_string(), "10 handled, 11 failed, 10 panicked");
        assert_eq!(running.counts(), report.counts);
    }

    /// The topic prefix goes before topics and patterns and comes off again, unless a call says
    /// otherwise.
    async fn topic_prefixes_apply_and_can_be_bypassed(place) {
        let plain = place.connector().await;
        let shop = place.build(Connector::builder().topic_prefix("shop.")).await;
        let mut inside = shop.subscribe::<u64>("orders.*").await.unwrap();
        let mut outside = plain.subscribe::<u64>("shop.>").await.unwrap();
        let mut bypassing = shop.subscribe::<u64>("internal.*").ignore_prefix().await.unwrap();
        shop.publish("orders.created", &1).await.unwrap();
        shop.publish("internal.topic", &2).ignore_prefix().await.unwrap();

        let message = inside.next().await.unwrap().unwrap();
        assert_eq!(message.topic(), "orders.created");
        assert_eq!(message.subject().as_str(), "shop.orders.created");
        let message = bypassing.next().await.unwrap().unwrap();
        assert_eq!((message.topic(), message.decode().unwrap()), ("internal.topic", 2));
        let message = outside.next().await.unwrap().unwrap();
        assert_eq!(message.topic(), "shop.orders.created");
        let bad = Connector::builder().topic_prefix("a b").build(place.backend().await);
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    /// Programs with different codecs share a topic; evo's bare bytes are read as well.
    async fn mixed_fleets_share_a_topic(place) {
        let json = place.connector().await;
        let pack = place.build(Connector::builder().codec(MessagePack)).await;
        let cbor = place.build(Connector::builder().codec(Cbor)).await;
        let mut heard = json.subscribe::<User>("u").await.unwrap();
        for (writer, content_type) in [
            (&json, "application/json"),
            (&pack, "application/msgpack"),
            (&cbor, "application/cbor"),
        ] {
            writer.publish("u", &ada()).await.unwrap();
            let message = heard.next().await.unwrap().unwrap();
            assert_eq!(message.headers().get("Content-Type"), Some(content_type));
            assert_eq!(message.decode().unwrap(), ada());
        }
        json.publish_bytes("u", r#"{"name":"Ada","age":36}"#).await.unwrap();
        let message = heard.next().await.unwrap().unwrap();
        assert_eq!((message.headers().len(), message.decode().unwrap()), (0, ada()));

        let own = Headers::new().with("Trace", "7").unwrap();
        json.publish("u", &ada()).headers(own).await.unwrap();
        let message = heard.next().await.unwrap().unwrap();
        assert_eq!(message.headers().get("Trace"), Some("7"));
        assert_eq!(message.headers().get("Content-Type"), Some("application/json"));
        json.publish_bytes("u", "no user").await.unwrap();
        let message = heard.next().await.unwrap().unwrap();
        let error = message.decode().unwrap_err();
        assert_eq!((error.kind(), error.fact("subject")), (ErrorKind::Corrupt, Some("u")));
        assert_eq!(message.payload(), "no user");
    }

    /// Answers come back in the asker's codec; a failing or panicking handler is an error at the
    /// asker's, at once.
    async fn requests_are_answered(place) {
        let connector = place.connector().await;
        let asker = place.build(Connector::builder().codec(Cbor)).await;
        let sums = connector.subscribe::<(i64, i64)>("math.add").queue("math");
        let respond = sums.respond(4, |question| async move {
            let (a, b) = question.decode()?;
            match b {
                0 => Err(HandlerError::from("adding nothing\nis no work")),
                7 => panic!("seven"),
                _ => Ok(a + b),
            }
        });
        respond.await.unwrap();
        let answer = asker.request::<i64>("math.add", &(2, 3)).timeout(SOON).await.unwrap();
        assert_eq!(answer.headers().get("Content-Type"), Some("application/cbor"));
        assert_eq!(answer.decode().unwrap(), 5);

        let failed = asker.request::<i64>("math.add", &(2, 0)).timeout(SOON).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Internal, "{failed:?}");
        assert!(failed.to_string().contains("adding nothing is no work"), "{failed}");
        let failed = asker.request::<i64>("math.add", &(2, 7)).timeout(SOON).await.unwrap_err();
        assert!(failed.to_string().contains("panicked: seven"), "{failed}");

        let unsayable = connector.subscribe::<u64>("number").respond(1, |_question| async {
            Ok(std::collections::BTreeMap::from([((1, 2), "no JSON has such keys")]))
        });
        unsayable.await.unwrap();
        let failed = connector.request::<u64>("number", &1).timeout(SOON).await.unwrap_err();
        assert!(failed.to_string().contains("codec.encode"), "{failed}");

        let nobody = asker.request::<i64>("math.sub", &(2, 3)).timeout(SOON);
        let begun = tokio::time::Instant::now();
        assert_eq!(nobody.await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(begun.elapsed() < SOON / 2, "nobody listening is known at once");

        // A message without a reply subject is handled all the same.
        connector.publish("math.add", &(1, 1)).await.unwrap();
        let report = connector.shutdown(SOON).await;
        assert_eq!(report.counts.to_string(), "2 handled, 2 failed, 1 panicked");
    }

    /// By hand, too.
    async fn a_message_can_be_answered_by_hand(place) {
        let connector = place.connector().await;
        let mut questions = connector.subscribe::<u64>("ask").await.unwrap();
        let asking = connector.request::<u64>("ask", &20).timeout(SOON).into_future();
        let answering = async {
            let question = questions.next().await.unwrap().unwrap();
            question.respond(&(question.decode().unwrap() + 1)).await.unwrap();
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer.unwrap().decode().unwrap(), 21);

        connector.publish("ask", &1).await.unwrap();
        let message = questions.next().await.unwrap().unwrap();
        let error = message.respond(&1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    /// A reader that is too slow is told how many messages it lost.
    async fn what_a_slow_reader_loses_is_reported(place) {
        let connector = place.connector().await;
        let mut slow = connector.subscribe::<u64>("fast").capacity(10).await.unwrap();
        for n in 0..100_u64 {
            connector.publish("fast", &n).await.unwrap();
        }
        connector.bus().flush().await.unwrap();
        // A second one on the same connection has seen all: so has the first.
        let mut mark = connector.subscribe::<u64>("mark").await.unwrap();
        connector.publish("mark", &0).await.unwrap();
        mark.next().await.unwrap().unwrap();
        slow.drain();
        let (mut received, mut dropped) = (0, 0);
        while let Some(item) = slow.next().await {
            match item {
                Ok(_message) => received += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
                    dropped += error.fact("dropped").unwrap().parse::<u64>().unwrap();
                }
            }
        }
        assert_eq!(received + dropped, 100);
        assert!(received >= 10 && dropped > 0, "{received} and {dropped}");
    }

    /// At least once: the stream has it, knows duplicates, and a topic without one is an error.
    async fn jetstream_acknowledges_and_deduplicates(place) {
        let connector = place.connector().await;
        connector.create_stream("ORDERS", ["orders.>"]).await.unwrap();
        connector.create_stream("ORDERS", ["orders.>"]).await.unwrap();
        let first = connector.publish("orders.a", &1).jetstream().msg_id("1").await.unwrap();
        assert_eq!((first.stream.as_str(), first.sequence, first.duplicate), ("ORDERS", 1, false));
        let again = connector.publish("orders.a", &1).jetstream().msg_id("1").await.unwrap();
        assert!(again.duplicate);
        let next = connector.publish_bytes("orders.b", "2").jetstream().expect_stream("ORDERS");
        assert_eq!(next.await.unwrap().sequence, 2);

        let stale = connector.publish("orders.a", &3).jetstream().expect_last_sequence(7);
        assert_eq!(stale.await.unwrap_err().kind(), ErrorKind::Conflict);
        let other = connector.publish("orders.a", &3).jetstream().expect_stream("OTHER");
        assert_eq!(other.await.unwrap_err().kind(), ErrorKind::Conflict);
        let lost = connector.publish("nowhere", &1).jetstream();
        assert_eq!(lost.await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// What makes no sense is refused when it is awaited.
    async fn nonsense_is_refused(place) {
        let connector = place.connector().await;
        let none = connector.subscribe::<u64>("t").handle(0, |_| async { Ok(()) });
        assert_eq!(none.await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let wild = connector.publish("t.*", &1).await.unwrap_err();
        assert_eq!(wild.kind(), ErrorKind::InvalidInput);
        let queue = connector.subscribe::<u64>("t").queue("two words").await.unwrap_err();
        assert_eq!(queue.kind(), ErrorKind::InvalidInput);
        let timeout = Duration::from_millis(1);
        let subject = connector.request::<u64>("", &1).timeout(timeout).await.unwrap_err();
        assert_eq!(subject.kind(), ErrorKind::InvalidInput);
    }
}
