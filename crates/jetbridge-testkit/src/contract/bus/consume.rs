//! Durable consumers: every message until it is settled.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use jetbridge_core::{AppendOpts, ConsumeStart, ErrorKind};
use tokio::time::Instant;

use super::steps::{Corner, acknowledge, consume, deliver, durable, text};
use crate::contract::steps::{kind, within};

/// Short enough to wait for, long enough to settle before it is over.
const SHORT: Duration = Duration::from_secs(1);
/// How long nothing must come to be called nothing.
const QUIET: Duration = Duration::from_millis(300);

cases! { $ __bus_consume = bus::consume;
    /// Messages are delivered in order with what is known of them; acknowledged, they never come
    /// again, to anybody.
    async fn acknowledged_messages_never_come_again(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 5).await;
        let mut consumer = corner.ours.consume(consume(&stream).ack_wait(SHORT)).await.unwrap();
        let stored = corner.stored(&stream).await;
        for (at, stored) in stored.iter().enumerate() {
            let delivery = deliver(&mut consumer).await;
            assert_eq!(text(&delivery.message), at.to_string());
            assert_eq!(delivery.message.subject, corner.subject("a"));
            assert_eq!(delivery.sequence, stored.sequence);
            assert_eq!(delivery.stored, stored.stored);
            assert_eq!(delivery.attempt, 1);
            delivery.ack().await.unwrap();
        }
        drop(consumer);
        let mut again = corner.theirs.consume(consume(&stream).ack_wait(SHORT)).await.unwrap();
        nothing_for(SHORT + QUIET, &mut again).await;
        corner.append("a", "next").await;
        assert_eq!(acknowledge(&mut again, 1).await, ["next"]);
    }

    /// What is not settled comes again after the waiting time, and counts its attempts.
    async fn unsettled_messages_come_again(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut consumer = corner.ours.consume(consume(&stream).ack_wait(SHORT)).await.unwrap();
        for attempt in 1..=3 {
            let start = Instant::now();
            let delivery = deliver(&mut consumer).await;
            assert_eq!((text(&delivery.message), delivery.attempt), ("1".to_owned(), attempt));
            if attempt > 1 {
                assert!(start.elapsed() > SHORT / 2, "after {:?}", start.elapsed());
            }
            if attempt == 3 {
                delivery.ack().await.unwrap();
            }
        }
        nothing_for(SHORT + QUIET, &mut consumer).await;
    }

    /// A negative acknowledgement brings the message again, at once or after its delay.
    async fn refused_messages_come_again_after_the_delay(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        let delivery = deliver(&mut consumer).await;
        delivery.nak(Duration::ZERO).await.unwrap();
        let delivery = deliver(&mut consumer).await;
        assert_eq!(delivery.attempt, 2);
        let delay = Duration::from_millis(700);
        let start = Instant::now();
        delivery.nak(delay).await.unwrap();
        let delivery = deliver(&mut consumer).await;
        assert_eq!(delivery.attempt, 3);
        assert!(start.elapsed() >= delay.mul_f64(0.9), "after {:?}", start.elapsed());
        delivery.ack().await.unwrap();
        corner.append("a", "2").await;
        assert_eq!(acknowledge(&mut consumer, 1).await, ["2"]);
    }

    /// A terminated message never comes again.
    async fn terminated_messages_never_come_again(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 2).await;
        let mut consumer = corner.ours.consume(consume(&stream).ack_wait(SHORT)).await.unwrap();
        deliver(&mut consumer).await.term().await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 1).await, ["1"]);
        nothing_for(SHORT + QUIET, &mut consumer).await;
    }

    /// Saying that one is still at it begins the waiting time anew.
    async fn progress_prolongs_the_waiting_time(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let wait = SHORT * 2;
        let mut consumer = corner.ours.consume(consume(&stream).ack_wait(wait)).await.unwrap();
        let delivery = deliver(&mut consumer).await;
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        let mut last = start;
        while start.elapsed() < wait + SHORT {
            tokio::time::sleep(QUIET).await; // The work that takes its time.
            delivery.in_progress().await.unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        let again = consumer.next().now_or_never();
        // On a machine so busy that a word came too late, another delivery is right.
        assert!(again.is_none() || longest > wait / 2, "{again:?}, longest silence {longest:?}");
        delivery.ack().await.unwrap();
    }

    /// A message is delivered as often as it may be, and then no more.
    async fn attempts_are_limited(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let limited = consume(&stream).deliver_max(3);
        let mut consumer = corner.ours.consume(limited).await.unwrap();
        for attempt in 1..=3 {
            let delivery = deliver(&mut consumer).await;
            assert_eq!(delivery.attempt, attempt);
            delivery.nak(Duration::ZERO).await.unwrap();
        }
        corner.append("a", "2").await;
        let delivery = deliver(&mut consumer).await;
        assert_eq!((text(&delivery.message), delivery.attempt), ("2".to_owned(), 1));
        delivery.ack().await.unwrap();
        nothing_for(QUIET, &mut consumer).await;
    }

    /// No more deliveries are unsettled at once than allowed.
    async fn deliveries_in_flight_are_limited(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 6).await;
        let two = consume(&stream).in_flight_max(2);
        let mut consumer = corner.ours.consume(two).await.unwrap();
        let first = deliver(&mut consumer).await;
        let second = deliver(&mut consumer).await;
        nothing_for(QUIET, &mut consumer).await;
        second.ack().await.unwrap();
        let third = deliver(&mut consumer).await;
        assert_eq!(text(&third.message), "2");
        nothing_for(QUIET, &mut consumer).await;
        first.ack().await.unwrap();
        third.ack().await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 3).await, ["3", "4", "5"]);
    }

    /// Those who use the same durable share its messages: each goes to one.
    async fn a_durable_is_shared(f) {
        const COUNT: usize = 100;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", COUNT).await;
        let shared = || consume(&stream).in_flight_max(10);
        let mut one = corner.ours.consume(shared()).await.unwrap();
        let mut two = corner.theirs.consume(shared()).await.unwrap();
        let mut seen = BTreeSet::new();
        while seen.len() < COUNT {
            let delivery = within("a delivery", async {
                tokio::select! {
                    delivery = one.next() => delivery,
                    delivery = two.next() => delivery,
                }
            })
            .await
            .unwrap()
            .unwrap();
            assert!(seen.insert(text(&delivery.message)), "{delivery:?} came twice");
            delivery.ack().await.unwrap();
        }
        assert_eq!(corner.ours.stream(&stream).await.unwrap().consumers, 1);
    }

    /// A durable keeps its place when nobody reads.
    async fn a_durable_keeps_its_place(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 5).await;
        let one = || consume(&stream).in_flight_max(1).ack_wait(SHORT);
        let mut consumer = corner.ours.consume(one()).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 3).await, ["0", "1", "2"]);
        drop(consumer);
        let mut consumer = corner.theirs.consume(one()).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 2).await, ["3", "4"]);
        let mut other = consume(&stream);
        other.durable = durable("other");
        let mut other = corner.ours.consume(other).await.unwrap();
        assert_eq!(acknowledge(&mut other, 1).await, ["0"], "another has its own place");
    }

    /// A consumer gets the messages of its filter, and begins where it is told.
    async fn a_consumer_begins_and_filters_as_told(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a.x", "1").await;
        corner.append("b", "2").await;
        let mut filtered =
            corner.ours.consume(consume(&stream).filter(corner.pattern("a.*"))).await.unwrap();
        let mut new = consume(&stream).start(ConsumeStart::New);
        new.durable = durable("new");
        let mut new = corner.ours.consume(new).await.unwrap();
        corner.append("b", "3").await;
        corner.append("a.y", "4").await;
        assert_eq!(acknowledge(&mut filtered, 2).await, ["1", "4"]);
        assert_eq!(acknowledge(&mut new, 2).await, ["3", "4"]);
        nothing_for(QUIET, &mut filtered).await;
    }

    /// Draining hands out what had been delivered, then ends; the rest stays for others.
    async fn a_drained_consumer_ends(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 20).await;
        let short = || consume(&stream).ack_wait(SHORT);
        let mut consumer = corner.ours.consume(short()).await.unwrap();
        let mut seen: BTreeSet<String> = acknowledge(&mut consumer, 1).await.into_iter().collect();
        consumer.drain();
        while let Some(delivery) = within("the end", consumer.next()).await {
            let delivery = delivery.unwrap();
            seen.insert(text(&delivery.message));
            delivery.ack().await.unwrap();
        }
        let mut rest = corner.theirs.consume(short()).await.unwrap();
        while seen.len() < 20 {
            seen.extend(acknowledge(&mut rest, 1).await);
        }
        nothing_for(QUIET, &mut rest).await;
    }

    /// A deleted consumer is forgotten with its place.
    async fn a_deleted_consumer_is_forgotten(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 1).await, ["1"]);
        drop(consumer);
        let delete = async || corner.theirs.delete_consumer(&stream, &durable("d")).await.unwrap();
        assert!(delete().await);
        assert!(!delete().await);
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 1).await, ["1"], "from the first again");
        let absent = corner.spec().name.as_str().to_owned() + "-absent";
        let absent = jetbridge_core::StreamName::parse(absent).unwrap();
        assert_eq!(kind(corner.ours.consume(consume(&absent)).await), ErrorKind::NotFound);
    }

    /// A consumer whose stream or durable is deleted ends with the news.
    async fn a_consumer_of_a_deleted_stream_ends(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 1).await, ["1"]);
        assert!(corner.theirs.delete_stream(&stream).await.unwrap());
        let end = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
        let end = end.expect("the consumer ends").expect("with an error");
        assert_eq!(kind(end), ErrorKind::NotFound);
    }

    /// Messages that come while a consumer waits are delivered as they come.
    async fn a_waiting_consumer_is_woken(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        for at in 0..20 {
            let message = corner.message("a", &at.to_string());
            corner.theirs.append(message, AppendOpts::new()).await.unwrap();
            assert_eq!(acknowledge(&mut consumer, 1).await, [at.to_string()]);
        }
    }
}

/// Nothing is delivered for so long. A negative can only be waited for.
async fn nothing_for(quiet: Duration, consumer: &mut jetbridge_core::Consumer) {
    let delivery = tokio::time::timeout(quiet, consumer.next()).await;
    assert!(delivery.is_err(), "{delivery:?}");
}
