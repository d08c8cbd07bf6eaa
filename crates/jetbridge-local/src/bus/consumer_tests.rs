//! Durable consumers, shared by handles that behave like processes.

use std::time::Instant;

use jetbridge_core::{ConsumeStart, Delivery, Retention};

use super::tests::{Process, append, message, name, pattern, spec, two};
use super::*;
use crate::child::DEADLINE;

/// Long enough not to pass by chance, short enough to wait for.
const ACK_WAIT: Duration = Duration::from_millis(300);

fn consume(durable: &str) -> Consume {
    Consume::new(name("S"), ConsumerName::parse(durable).unwrap())
}

async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(DEADLINE, consumer.next()).await;
    next.expect("a delivery in time").expect("no end").unwrap()
}

/// Nothing comes, for half as long as something that should not come would take.
async fn nothing(consumer: &mut Consumer) {
    let next = tokio::time::timeout(ACK_WAIT / 2, consumer.next()).await;
    assert!(next.is_err(), "{next:?}");
}

async fn started(retention: Retention) -> (tempfile::TempDir, Process, Process) {
    let (dir, one, other) = two().await;
    let mut wanted = spec("S", &["s.>"]);
    wanted.retention = retention;
    one.bus.create_stream(&wanted).await.unwrap();
    (dir, one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_goes_to_one_of_those_who_share() {
    let (_dir, one, other) = started(Retention::Limits).await;
    for number in 0..100 {
        append(&one.bus, "s.a", number).await;
    }
    let mut shares = Vec::new();
    for bus in [&one.bus, &other.bus, &other.bus] {
        shares.push(bus.consume(consume("c")).await.unwrap());
    }
    let mut seen = Vec::new();
    for turn in 0..100 {
        let delivery = next(&mut shares[turn % 3]).await;
        assert_eq!(delivery.attempt, 1);
        seen.push(delivery.sequence);
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, (1..=100).collect::<Vec<_>>(), "in order, whoever asks");
    // Another durable has all of them for itself.
    let mut alone = other.bus.consume(consume("d")).await.unwrap();
    assert_eq!(next(&mut alone).await.sequence, 1);
    assert_eq!(one.bus.stream(&name("S")).await.unwrap().consumers, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_consumer_is_woken_by_other_processes() {
    let (_dir, one, other) = started(Retention::Limits).await;
    let mut waiting = one.bus.consume(consume("c").in_flight_max(1)).await.unwrap();
    for round in 1..=20 {
        let (delivery, _) = tokio::join!(next(&mut waiting), append(&other.bus, "s.a", round));
        assert_eq!(delivery.sequence, round);
        // One in flight is the most: the next comes when somebody settles this one.
        append(&other.bus, "s.a", round).await;
        delivery.nak(Duration::ZERO).await.unwrap();
        let again = next(&mut waiting).await;
        assert_eq!((again.sequence, again.attempt), (round, 2));
        again.ack().await.unwrap();
        assert_eq!(other.bus.purge_stream(&name("S"), None).await.unwrap(), round + 1);
        other.bus.delete_consumer(&name("S"), &ConsumerName::parse("c").unwrap()).await.unwrap();
        let gone = tokio::time::timeout(DEADLINE, waiting.next()).await.unwrap();
        assert_eq!(gone.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
        other.bus.delete_stream(&name("S")).await.unwrap();
        other.bus.create_stream(&spec("S", &["s.>"])).await.unwrap();
        for number in 0..round {
            append(&other.bus, "s.a", number).await;
        }
        let new = consume("c").in_flight_max(1).start(ConsumeStart::New);
        waiting = one.bus.consume(new).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_comes_again_until_it_has_come_often_enough() {
    let (_dir, one, other) = started(Retention::Limits).await;
    append(&one.bus, "s.a", "x").await;
    let limited = consume("c").ack_wait(ACK_WAIT).deliver_max(2);
    let mut first = one.bus.consume(limited.clone()).await.unwrap();
    let mut second = other.bus.consume(limited).await.unwrap();
    let begun = Instant::now();
    let dropped = next(&mut first).await;
    assert_eq!(dropped.attempt, 1);
    let again = next(&mut second).await;
    assert_eq!((again.sequence, again.attempt), (1, 2));
    assert!(begun.elapsed() >= ACK_WAIT, "{:?}", begun.elapsed());
    // A late word about the first attempt changes nothing for the second.
    dropped.nak(Duration::ZERO).await.unwrap();
    nothing(&mut first).await;
    drop(again);
    tokio::time::sleep(ACK_WAIT).await; // what is tested is that nothing happens
    nothing(&mut second).await;
    append(&one.bus, "s.a", "next").await;
    assert_eq!(next(&mut second).await.sequence, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_progress_gives_more_time_and_term_gives_up() {
    let (_dir, one, _other) = started(Retention::Limits).await;
    append(&one.bus, "s.a", 1).await;
    append(&one.bus, "s.a", 2).await;
    let mut consumer = one.bus.consume(consume("c").ack_wait(ACK_WAIT)).await.unwrap();
    let delivery = next(&mut consumer).await;
    next(&mut consumer).await.term().await.unwrap();
    for _ in 0..4 {
        nothing(&mut consumer).await;
        delivery.in_progress().await.unwrap();
    }
    drop(delivery);
    let again = next(&mut consumer).await;
    assert_eq!((again.sequence, again.attempt), (1, 2));
    again.ack().await.unwrap();
    nothing(&mut consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_kept_and_filters_hold() {
    let (_dir, one, other) = started(Retention::Limits).await;
    for subject in ["s.a", "s.b", "s.a"] {
        append(&one.bus, subject, "").await;
    }
    let only = consume("c").filter(pattern("s.b"));
    let mut consumer = other.bus.consume(only).await.unwrap();
    let begun = Instant::now();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.sequence, 2);
    delivery.nak(ACK_WAIT).await.unwrap();
    let again = next(&mut consumer).await;
    assert!(begun.elapsed() >= ACK_WAIT && again.sequence == 2, "{:?}", begun.elapsed());
    let error = one.bus.consume(consume("c")).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("differs")), (ErrorKind::AlreadyExists, Some("filter")));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_so_many_are_in_flight_over_all_who_share() {
    let (_dir, one, other) = started(Retention::Limits).await;
    for number in 0..4 {
        append(&one.bus, "s.a", number).await;
    }
    let bounded = consume("c").in_flight_max(3);
    let mut first = one.bus.consume(bounded.clone()).await.unwrap();
    let mut second = other.bus.consume(bounded).await.unwrap();
    let held = [next(&mut first).await, next(&mut second).await, next(&mut second).await];
    nothing(&mut first).await;
    let [one, two, three] = held;
    let (fourth, settled) = tokio::join!(next(&mut first), two.ack());
    settled.unwrap();
    assert_eq!(fourth.sequence, 4);
    for delivery in [one, three, fourth] {
        delivery.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_queue_keeps_what_is_not_done_and_only_that() {
    let (_dir, one, other) = started(Retention::WorkQueue).await;
    append(&one.bus, "s.a", 1).await;
    append(&one.bus, "s.b", 2).await;
    let part = consume("a").filter(pattern("s.a"));
    let mut consumer = one.bus.consume(part).await.unwrap();
    for refused in [consume("b"), consume("b").filter(pattern("s.*"))] {
        let error = other.bus.consume(refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    other.bus.consume(consume("b").filter(pattern("s.b"))).await.unwrap();
    next(&mut consumer).await.ack().await.unwrap();
    let info = other.bus.stream(&name("S")).await.unwrap();
    assert_eq!((info.messages, info.first_sequence), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_by_interest_keeps_what_somebody_still_needs() {
    let (_dir, one, other) = started(Retention::Interest).await;
    assert_eq!(append(&one.bus, "s.a", "nobody wants it").await, 1);
    assert_eq!(one.bus.stream(&name("S")).await.unwrap().messages, 0);
    let mut all = one.bus.consume(consume("all")).await.unwrap();
    let mut some = other.bus.consume(consume("some").filter(pattern("s.b"))).await.unwrap();
    append(&other.bus, "s.a", 2).await;
    append(&other.bus, "s.b", 3).await;
    for _ in 0..2 {
        next(&mut all).await.ack().await.unwrap();
    }
    let held = |info: StreamInfo| (info.messages, info.first_sequence);
    assert_eq!(held(one.bus.stream(&name("S")).await.unwrap()), (1, 3));
    next(&mut some).await.term().await.unwrap();
    assert_eq!(one.bus.stream(&name("S")).await.unwrap().messages, 0);
    // What only a consumer that is deleted needed goes with it.
    append(&other.bus, "s.b", 4).await;
    next(&mut all).await.ack().await.unwrap();
    let some = ConsumerName::parse("some").unwrap();
    assert!(one.bus.delete_consumer(&name("S"), &some).await.unwrap());
    assert!(!one.bus.delete_consumer(&name("S"), &some).await.unwrap());
    assert_eq!(one.bus.stream(&name("S")).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_the_stream_and_leaves_the_rest_to_others() {
    let (_dir, one, other) = started(Retention::Limits).await;
    append(&one.bus, "s.a", 1).await;
    append(&one.bus, "s.a", 2).await;
    let mut leaving = one.bus.consume(consume("c")).await.unwrap();
    next(&mut leaving).await.ack().await.unwrap();
    leaving.drain();
    assert!(leaving.next().await.is_none());
    let mut staying = other.bus.consume(consume("c")).await.unwrap();
    assert_eq!(next(&mut staying).await.sequence, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_no_longer_in_flight() {
    let (_dir, one, other) = started(Retention::Limits).await;
    append(&one.bus, "s.a", 1).await;
    let mut consumer = other.bus.consume(consume("c").in_flight_max(1)).await.unwrap();
    let removed = next(&mut consumer).await;
    one.bus.purge_stream(&name("S"), None).await.unwrap();
    one.bus.publish(message("s.a", 2)).await.unwrap();
    assert_eq!(next(&mut consumer).await.sequence, 2);
    removed.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_deliver_is_refused() {
    let (_dir, one, _other) = started(Retention::Limits).await;
    let zeros = [
        consume("c").ack_wait(Duration::ZERO),
        consume("c").deliver_max(0),
        consume("c").in_flight_max(0),
    ];
    for refused in zeros {
        let error = one.bus.consume(refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let missing = Consume::new(name("T"), ConsumerName::parse("c").unwrap());
    assert_eq!(one.bus.consume(missing).await.unwrap_err().kind(), ErrorKind::NotFound);
}
