//! Messages to whoever listens now.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use jetbridge_core::{
    ErrorKind, GroupName, Headers, Message, Pattern, Received, SUBJECT_BYTES_MAX, Subject,
    Subscribe,
};

use super::steps::{Corner, hear, text};
use crate::contract::steps::{kind, patience, within};
use crate::eventually;

cases! { $ __bus_plain = bus::plain;
    /// Once `subscribe` has returned, every message reaches the listener as it was sent, from
    /// any connection.
    async fn listeners_get_what_is_published(f) {
        let corner = Corner::new(f);
        let mut listener = corner.listen("a").await;
        let mut headers = Headers::new().with("X-Unicode", "grün: 🦀").unwrap();
        headers.append("X-Many", "1").unwrap();
        headers.append("X-Many", "2").unwrap();
        let every: Bytes = (0..=255_u8).collect();
        let message = Message::new(corner.subject("a"), every)
            .headers(headers)
            .reply(corner.subject("answers"));
        for bus in [&corner.ours, &corner.theirs] {
            bus.publish(message.clone()).await.unwrap();
            let heard = hear(&mut listener).await;
            assert_eq!((&heard.subject, &heard.payload), (&message.subject, &message.payload));
            assert_eq!(heard.reply, message.reply);
            assert_eq!(heard.headers.get("X-Unicode"), Some("grün: 🦀"));
            let many: Vec<&str> =
                heard.headers.iter().filter(|it| it.0 == "X-Many").map(|it| it.1).collect();
            assert_eq!(many, ["1", "2"]);
        }
        corner.theirs.publish(corner.message("a", "")).await.unwrap();
        let heard = hear(&mut listener).await;
        assert_eq!((heard.payload, heard.headers, heard.reply), (Bytes::new(), Headers::new(), None));
    }

    /// A pattern hears the subjects that it stands for and no others.
    async fn patterns_select(f) {
        let corner = Corner::new(f);
        let mut exact = corner.listen("a.b").await;
        let mut star = corner.listen("a.*").await;
        let mut middle = corner.listen("*.b").await;
        let mut rest = corner.listen("a.>").await;
        for tail in ["a.b", "a.c", "x.b", "a.b.c", "a", "end.b", "a.end", "a.b"] {
            corner.theirs.publish(corner.message(tail, tail)).await.unwrap();
        }
        for (listener, expected) in [
            (&mut exact, vec!["a.b", "a.b"]),
            (&mut star, vec!["a.b", "a.c", "a.end", "a.b"]),
            (&mut middle, vec!["a.b", "x.b", "end.b", "a.b"]),
            (&mut rest, vec!["a.b", "a.c", "a.b.c", "a.end", "a.b"]),
        ] {
            for tail in expected {
                assert_eq!(text(&hear(listener).await), tail);
            }
        }
    }

    /// What one publisher sends arrives in its order, without a gap, at every listener.
    async fn messages_of_a_publisher_stay_in_order(f) {
        let corner = Corner::new(f);
        let mut listeners = [corner.listen("a").await, corner.listen(">").await];
        for at in 0..1000 {
            corner.theirs.publish(corner.message("a", &at.to_string())).await.unwrap();
        }
        corner.theirs.flush().await.unwrap();
        for listener in &mut listeners {
            for at in 0..1000 {
                assert_eq!(text(&hear(listener).await), at.to_string());
            }
        }
    }

    /// The members of a queue group share the messages: each goes to one. Other groups and
    /// listeners get them all the same.
    async fn a_queue_group_shares(f) {
        const COUNT: usize = 200;
        let corner = Corner::new(f);
        let join = |group: &str| {
            Subscribe::to(corner.pattern("jobs")).group(GroupName::parse(group).unwrap())
        };
        let mut members = vec![];
        for bus in [&corner.ours, &corner.theirs, &corner.ours] {
            members.push(bus.subscribe(join("workers")).await.unwrap());
        }
        let mut other = corner.theirs.subscribe(join("others")).await.unwrap();
        let mut alone = corner.listen("jobs").await;
        for at in 0..COUNT {
            corner.theirs.publish(corner.message("jobs", &at.to_string())).await.unwrap();
        }
        for listener in [&mut other, &mut alone] {
            for at in 0..COUNT {
                assert_eq!(text(&hear(listener).await), at.to_string());
            }
        }
        let mut shared = BTreeSet::new();
        let mut shares = vec![0; members.len()];
        while shared.len() < COUNT {
            let heard = futures_util::future::select_all(
                members.iter_mut().map(|member| Box::pin(member.next())),
            );
            let (heard, at, _) = within("a message for a member", heard).await;
            let Some(Ok(Received::Message(message))) = heard else { panic!("{heard:?}") };
            shares[at] += 1;
            assert!(shared.insert(text(&message)), "{} came twice", text(&message));
        }
        assert!(shares.iter().filter(|share| **share > 0).count() > 1, "not shared: {shares:?}");
        for member in &mut members {
            assert!(member.next().now_or_never().is_none(), "one message too many");
        }
    }

    /// A listener that does not keep up is told how many messages it has lost, and goes on.
    async fn a_full_buffer_reports_what_it_dropped(f) {
        const COUNT: u64 = 1000;
        let corner = Corner::new(f);
        let slow = Subscribe::to(corner.pattern("a")).capacity(10);
        let mut listener = corner.ours.subscribe(slow).await.unwrap();
        for at in 0..COUNT {
            corner.theirs.publish(corner.message("a", &at.to_string())).await.unwrap();
        }
        corner.theirs.flush().await.unwrap();
        let (mut heard, mut dropped) = (0, 0);
        let mut last = None;
        // The messages are on their way: only when all are accounted for is the buffer empty.
        while heard + dropped < COUNT {
            match within("a message", listener.next()).await.unwrap().unwrap() {
                Received::Message(message) => {
                    let at: u64 = text(&message).parse().unwrap();
                    assert!(last.is_none_or(|last| last < at), "{at} after {last:?}");
                    last = Some(at);
                    heard += 1;
                }
                Received::Dropped(count) => dropped += count,
            }
        }
        assert_eq!(heard + dropped, COUNT);
        assert!(heard >= 10, "a buffer of ten held {heard}");
        corner.theirs.publish(corner.message("a", "later")).await.unwrap();
        assert_eq!(text(&hear(&mut listener).await), "later");
    }

    /// Draining delivers what had arrived, then ends; what comes later is not heard.
    async fn a_drained_listener_ends(f) {
        let corner = Corner::new(f);
        let mut listener = corner.listen("a").await;
        for at in 0..10 {
            corner.ours.publish(corner.message("a", &at.to_string())).await.unwrap();
        }
        corner.ours.flush().await.unwrap();
        assert_eq!(text(&hear(&mut listener).await), "0");
        listener.drain();
        let mut expected = 1;
        while let Some(received) = within("the end", listener.next()).await {
            let Received::Message(message) = received.unwrap() else { panic!("dropped") };
            assert_eq!(text(&message), expected.to_string());
            expected += 1;
        }
        assert!(expected <= 10);
    }

    /// A dropped listener is forgotten: those who ask hear that nobody listens.
    async fn a_dropped_listener_is_forgotten(f) {
        let corner = Corner::new(f);
        let listener = corner.listen("a").await;
        drop(listener);
        eventually("nobody listens", patience(), async || {
            let asked =
                corner.theirs.request(corner.message("a", "?"), Duration::from_millis(200)).await;
            asked.is_err_and(|error| error.is_retryable()).then_some(())
        })
        .await;
    }

    /// A message to nobody is no error.
    async fn nobody_need_listen(f) {
        let corner = Corner::new(f);
        corner.ours.publish(corner.message("a", "1")).await.unwrap();
        corner.ours.flush().await.unwrap();
        let mut listener = corner.listen("a").await;
        corner.ours.publish(corner.message("a", "2")).await.unwrap();
        assert_eq!(text(&hear(&mut listener).await), "2", "only from now on");
    }

    /// A message over the limit is refused, and the connection goes on.
    async fn published_messages_have_a_limit(f) {
        let corner = Corner::new(f);
        let limit = f.backend.capabilities().value_bytes_max.min(64 << 20);
        let limit = usize::try_from(limit).unwrap();
        let mut listener = corner.listen("a").await;
        // A plain message may have the room that a value's conditions would take.
        let large = Message::new(corner.subject("a"), vec![1; limit * 2]);
        assert_eq!(kind(corner.ours.publish(large.clone()).await), ErrorKind::LimitExceeded);
        let asked = corner.ours.request(large, Duration::from_secs(5)).await;
        assert_eq!(kind(asked), ErrorKind::LimitExceeded);
        let headers = Headers::new().with("X-Long", &"x".repeat(limit * 2)).unwrap();
        let wordy = corner.message("a", "small").headers(headers);
        assert_eq!(kind(corner.ours.publish(wordy).await), ErrorKind::LimitExceeded);
        let fits = Message::new(corner.subject("a"), vec![2; limit]);
        corner.ours.publish(fits).await.unwrap();
        assert_eq!(hear(&mut listener).await.payload.len(), limit);
    }

    /// The longest subject is a subject.
    async fn the_longest_subject_works(f) {
        let corner = Corner::new(f);
        let longest = SUBJECT_BYTES_MAX - f.prefix_bytes;
        let room = longest - corner.subject("x").as_str().len();
        let long = corner.subject(&format!("x{}", "y".repeat(room)));
        assert_eq!(long.as_str().len(), longest);
        let mut listener = corner.listen("*").await;
        corner.theirs.publish(Message::new(long.clone(), "1")).await.unwrap();
        assert_eq!(hear(&mut listener).await.subject, long);
        let exact = Subscribe::to(Pattern::from(long.clone()));
        let mut exact = corner.ours.subscribe(exact).await.unwrap();
        corner.theirs.publish(Message::new(long.clone(), "2")).await.unwrap();
        assert_eq!(hear(&mut exact).await.subject, long);
        assert!(Subject::parse("z".repeat(SUBJECT_BYTES_MAX + 1)).is_err());
    }
}
