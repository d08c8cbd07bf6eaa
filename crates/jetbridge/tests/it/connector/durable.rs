//! Durable consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use jetbridge::connector::{Connector, HandlerError};
use jetbridge::core::ConsumeStart;
use jetbridge_testkit::eventually;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{SOON, cases};

const MOMENT: Duration = Duration::from_millis(50);

async fn orders(connector: &Connector, numbers: std::ops::Range<u64>) {
    connector.create_stream("ORDERS", ["orders.>"]).await.unwrap();
    for n in numbers {
        connector.publish("orders.created", &n).jetstream().await.unwrap();
    }
}

cases! {
    $ durable = durable;

    /// What a handler returns settles its message: done, again, never again.
    async fn a_handler_s_result_settles_its_message(place) {
        let connector = place.connector().await;
        orders(&connector, 0..6).await;
        let (seen, mut events) = mpsc::unbounded_channel();
        let consume = connector.consume::<u64>("ORDERS", "worker").retry(MOMENT, MOMENT);
        let running = consume.handle(1, move |message| {
            let seen = seen.clone();
            async move {
                let (n, delivery) = (message.decode()?, *message.delivery().ok_or("no delivery")?);
                seen.send((n, delivery.attempt))?;
                match (n, delivery.attempt) {
                    (1, 1 | 2) => Err("not yet".into()),
                    (2, _) => Err(HandlerError::terminal("never")),
                    (3, 1) => panic!("once"),
                    (4, 1) => Err(HandlerError::from("soon").retry_after(Duration::ZERO)),
                    _ => Ok(()),
                }
            }
        });
        let running = running.await.unwrap();
        let mut attempts = [0; 6];
        while attempts != [1, 3, 1, 2, 2, 1] {
            let event = tokio::time::timeout(SOON, events.recv()).await;
            let (n, attempt) = event.unwrap_or_else(|_| panic!("{attempts:?}")).unwrap();
            let n = usize::try_from(n).unwrap();
            attempts[n] += 1;
            assert_eq!(attempts[n], attempt, "message {n}");
        }
        let counts = running.stop(SOON).await;
        assert_eq!(counts.to_string(), "5 handled, 4 failed, 1 panicked");
        assert!(events.try_recv().is_err(), "nothing comes that was settled");
    }

    /// The consumer goes on where it was, whoever takes over.
    async fn a_consumer_goes_on_where_it_was(place) {
        let (first, second) = (place.connector().await, place.connector().await);
        orders(&first, 0..10).await;
        let wait = Duration::from_secs(1);
        let consume = first.consume::<u64>("ORDERS", "worker").ack_wait(wait);
        let mut deliveries = consume.await.unwrap();
        for n in 0..4_u64 {
            let delivery = deliveries.next().await.unwrap().unwrap();
            assert_eq!(delivery.message.decode().unwrap(), n);
            delivery.ack().await.unwrap();
        }
        drop(deliveries);
        let mut rest = Vec::new();
        let consume = second.consume::<u64>("ORDERS", "worker").ack_wait(wait);
        let mut deliveries = consume.await.unwrap();
        while rest.len() < 6 {
            let delivery = tokio::time::timeout(SOON, deliveries.next()).await;
            let delivery = delivery.unwrap_or_else(|_| panic!("{rest:?}")).unwrap().unwrap();
            rest.push(delivery.message.decode().unwrap());
            delivery.ack().await.unwrap();
        }
        rest.sort_unstable();
        assert_eq!(rest, [4, 5, 6, 7, 8, 9]);
    }

    /// A delivery that is settled by hand: later, never, still at it.
    async fn deliveries_are_settled_by_hand(place) {
        let connector = place.connector().await;
        orders(&connector, 0..3).await;
        let wait = Duration::from_millis(1500);
        let consume = connector.consume::<u64>("ORDERS", "hand").ack_wait(wait).in_flight_max(1);
        let mut deliveries = consume.await.unwrap();
        let mut next = async || {
            let delivery = tokio::time::timeout(SOON, deliveries.next()).await;
            let delivery = delivery.expect("a delivery").unwrap().unwrap();
            let info = *delivery.message.delivery().unwrap();
            (delivery, info.sequence, info.attempt)
        };
        let (delivery, sequence, attempt) = next().await;
        assert_eq!((sequence, attempt), (1, 1));
        let begun = Instant::now();
        delivery.nak(Duration::from_millis(300)).await.unwrap();
        let (delivery, sequence, attempt) = next().await;
        assert_eq!((sequence, attempt), (1, 2));
        assert!(begun.elapsed() >= Duration::from_millis(290), "the delay is kept");
        delivery.term().await.unwrap();

        let (delivery, sequence, _) = next().await;
        assert_eq!(sequence, 2);
        for _ in 0..4 {
            tokio::time::sleep(wait / 2).await;
            delivery.in_progress().await.unwrap();
        }
        delivery.ack().await.unwrap();
        let (unsettled, sequence, attempt) = next().await;
        assert_eq!((sequence, attempt), (3, 1), "two ack waits passed without a redelivery");
        drop(unsettled);
        let (delivery, sequence, attempt) = next().await;
        assert_eq!((sequence, attempt), (3, 2), "what is dropped comes again");
        delivery.ack().await.unwrap();
    }

    /// A handler that works for longer than the ack wait keeps its message.
    async fn a_slow_handler_keeps_its_message(place) {
        let connector = place.connector().await;
        orders(&connector, 0..2).await;
        let wait = Duration::from_millis(1000);
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let consume = connector.consume::<u64>("ORDERS", "slow").ack_wait(wait);
        let running = consume.handle(2, move |_message| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(wait * 3).await;
                Ok(())
            }
        });
        let running = running.await.unwrap();
        eventually("both are handled", SOON, async || {
            (running.counts().handled == 2).then_some(())
        })
        .await;
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    /// Filter and start: only some of the messages, only those from now on.
    async fn a_consumer_takes_what_it_asked_for(place) {
        let connector = place.build(Connector::builder().topic_prefix("shop.")).await;
        connector.create_stream("ALL", ["a.>", "b.>"]).await.unwrap();
        for topic in ["a.1", "b.1"] {
            connector.publish(topic, &0).jetstream().await.unwrap();
        }
        let consume = connector.consume::<u64>("ALL", "new-a").filter("a.*");
        let mut news = consume.start(ConsumeStart::New).await.unwrap();
        let mut olds = connector.consume::<u64>("ALL", "old-b").filter("b.*").await.unwrap();
        for topic in ["b.2", "a.2"] {
            connector.publish(topic, &0).jetstream().await.unwrap();
        }
        let delivery = news.next().await.unwrap().unwrap();
        assert_eq!(delivery.message.topic(), "a.2");
        assert_eq!(delivery.message.subject().as_str(), "shop.a.2");
        for topic in ["b.1", "b.2"] {
            let delivery = olds.next().await.unwrap().unwrap();
            assert_eq!(delivery.message.topic(), topic);
            delivery.ack().await.unwrap();
        }
        let whole = connector.consume::<u64>("ALL", "whole").filter("shop.a.1").ignore_prefix();
        let delivery = whole.await.unwrap().next().await.unwrap().unwrap();
        assert_eq!(delivery.message.topic(), "shop.a.1");
    }

    /// Two processes share a consumer's messages, and a restart of the server loses none.
    async fn a_restart_loses_no_message(place) {
        let (near, far) = (place.connector().await, place.connector().await);
        orders(&near, 0..100).await;
        let (seen, mut numbers) = mpsc::unbounded_channel();
        for connector in [&near, &far] {
            let seen = seen.clone();
            let consume = connector.consume::<u64>("ORDERS", "both");
            let consume = consume.ack_wait(Duration::from_secs(2)).retry(MOMENT, MOMENT);
            let handle = consume.handle(2, move |message| {
                let seen = seen.clone();
                async move { Ok(seen.send(message.decode()?)?) }
            });
            handle.await.unwrap();
        }
        let mut handled = std::collections::BTreeSet::new();
        while handled.len() < 20 {
            handled.insert(numbers.recv().await.unwrap());
        }
        place.restart().await;
        eventually("publishing works again", SOON, async || {
            near.publish("orders.created", &100).jetstream().msg_id("100").await.ok()
        })
        .await;
        while handled.len() < 101 {
            let number = tokio::time::timeout(SOON, numbers.recv()).await;
            handled.insert(number.unwrap_or_else(|_| panic!("{} of 101", handled.len())).unwrap());
        }
    }
}
