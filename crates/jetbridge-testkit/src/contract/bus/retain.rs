//! When messages go: limits, age, work queues, interest.

use std::time::Duration;

use jetbridge_core::{AppendOpts, ConsumerName, Discard, ErrorKind, Message, Retention};

use super::steps::{Corner, acknowledge, consume};
use crate::contract::steps::{kind, patience};
use crate::eventually;

cases! { $ __bus_retain = bus::retain;
    /// At a limit the oldest messages go, or the new one is refused.
    async fn a_full_stream_discards_as_told(f) {
        let old = Corner::new(f);
        let stream = old.stream_with(|spec| spec.max_messages = Some(3)).await;
        old.append_many("a", 5).await;
        assert_eq!(old.texts(&stream).await, ["2", "3", "4"]);

        let new = Corner::new(f);
        let stream = new
            .stream_with(|spec| {
                spec.max_messages = Some(3);
                spec.discard = Discard::New;
            })
            .await;
        new.append_many("a", 3).await;
        let refused = new.ours.append(new.message("a", "4"), AppendOpts::new()).await;
        assert_eq!(kind(refused), ErrorKind::LimitExceeded);
        assert_eq!(new.texts(&stream).await, ["0", "1", "2"]);
        new.ours.purge_stream(&stream, None).await.unwrap();
        new.append("a", "again").await;
    }

    /// A stream keeps so many messages of each subject, and so many bytes.
    async fn limits_hold_for_subjects_and_bytes(f) {
        let subjects = Corner::new(f);
        let stream = subjects.stream_with(|spec| spec.max_messages_per_subject = Some(2)).await;
        subjects.append_many("a", 4).await;
        subjects.append_many("b", 1).await;
        assert_eq!(subjects.texts(&stream).await, ["2", "3", "0"]);

        let bytes = Corner::new(f);
        let stream = bytes.stream_with(|spec| spec.max_bytes = Some(20_000)).await;
        for _ in 0..10 {
            let message = Message::new(bytes.subject("a"), vec![1; 4000]);
            bytes.ours.append(message, AppendOpts::new()).await.unwrap();
        }
        let info = bytes.ours.stream(&stream).await.unwrap();
        assert!(info.bytes <= 20_000 && (3..=5).contains(&info.messages), "{info:?}");
        assert_eq!(info.last_sequence - info.first_sequence + 1, info.messages);
    }

    /// Old messages go when their age is reached.
    async fn old_messages_go(f) {
        let corner = Corner::new(f);
        let stream = corner.stream_with(|spec| spec.max_age = Some(Duration::from_secs(1))).await;
        corner.append("a", "1").await;
        eventually("the message goes", patience(), async || {
            corner.stored(&stream).await.is_empty().then_some(())
        })
        .await;
        corner.append("a", "2").await;
    }

    /// What a work queue's consumer has acknowledged is gone from the stream.
    async fn a_work_queue_empties(f) {
        let corner = Corner::new(f);
        let stream = corner.stream_with(|spec| spec.retention = Retention::WorkQueue).await;
        corner.append_many("a", 5).await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 3).await, ["0", "1", "2"]);
        eventually("three are gone", patience(), async || {
            (corner.theirs.stream(&stream).await.unwrap().messages == 2).then_some(())
        })
        .await;
        assert_eq!(acknowledge(&mut consumer, 2).await, ["3", "4"]);
        eventually("all are gone", patience(), async || {
            (corner.theirs.stream(&stream).await.unwrap().messages == 0).then_some(())
        })
        .await;
    }

    /// Under interest a message stays until every consumer has it, and is not kept for nobody.
    async fn interest_keeps_for_all_consumers(f) {
        let corner = Corner::new(f);
        let stream = corner.stream_with(|spec| spec.retention = Retention::Interest).await;
        corner.append("a", "for nobody").await;
        let of = async |name: &str| {
            let mut consume = consume(&stream);
            consume.durable = ConsumerName::parse(name).unwrap();
            corner.ours.consume(consume).await.unwrap()
        };
        let (mut one, mut two) = (of("one").await, of("two").await);
        corner.append("a", "1").await;
        assert_eq!(acknowledge(&mut one, 1).await, ["1"]);
        assert_eq!(corner.theirs.stream(&stream).await.unwrap().messages, 1);
        assert_eq!(acknowledge(&mut two, 1).await, ["1"]);
        eventually("all have it", patience(), async || {
            (corner.theirs.stream(&stream).await.unwrap().messages == 0).then_some(())
        })
        .await;
    }
}
