//! Messages that a stream keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use jetbridge_core::{AppendOpts, ErrorKind, Headers, Message, Pattern, StreamName, StreamSpec};

use super::steps::{Corner, hear, text};
use crate::contract::steps::{kind, patience};
use crate::eventually;

cases! { $ __bus_append = bus::append;
    /// An appended message is in the stream when `append` returns, as it was sent, and those who
    /// listen hear it too.
    async fn appended_messages_are_kept(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let mut listener = corner.listen("a").await;
        let headers = Headers::new().with("X-Who", "me").unwrap();
        let message = corner.message("a", "1").headers(headers);
        let first = corner.ours.append(message.clone(), AppendOpts::new()).await.unwrap();
        assert_eq!((&first.stream, first.duplicate), (&stream, false));
        let second = corner.theirs.append(corner.message("b", ""), AppendOpts::new()).await.unwrap();
        assert!(second.sequence > first.sequence);
        let stored = corner.stored(&stream).await;
        assert_eq!(stored.len(), 2);
        assert_eq!(stored[0].sequence, first.sequence);
        assert_eq!(stored[0].message, message);
        assert_eq!(stored[1].message, corner.message("b", ""));
        assert_eq!(text(&hear(&mut listener).await), "1");
    }

    /// What is under way at once is kept once each, and every acknowledgement names the place of its
    /// own message. Which comes first is nobody's promise.
    async fn appends_that_are_under_way_are_kept_where_they_are_said_to_be(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let sent: Vec<String> = (0..400).map(|at| at.to_string()).collect();
        let kept = stream::iter(&sent)
            .map(|text| corner.ours.append(corner.message("a", text), AppendOpts::new()))
            .buffered(128)
            .map(Result::unwrap)
            .collect::<Vec<_>>()
            .await;
        let mut said: Vec<_> = kept.iter().map(|kept| kept.sequence).zip(sent).collect();
        said.sort();
        let texts: Vec<String> = said.into_iter().map(|(_, text)| text).collect();
        assert_eq!(corner.texts(&stream).await, texts);
    }

    /// A published message is kept too; only nobody is told.
    async fn published_messages_are_kept(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        for at in 0..20 {
            corner.ours.publish(corner.message("a", &at.to_string())).await.unwrap();
        }
        corner.ours.flush().await.unwrap();
        let expected: Vec<String> = (0..20).map(|at| at.to_string()).collect();
        eventually("the messages are kept", patience(), async || {
            (corner.texts(&stream).await == expected).then_some(())
        })
        .await;
    }

    /// What no stream keeps is not found.
    async fn a_subject_without_a_stream_is_not_found(f) {
        let corner = Corner::new(f);
        let append = corner.ours.append(corner.message("a", "1"), AppendOpts::new()).await;
        assert_eq!(kind(append), ErrorKind::NotFound);
    }

    /// A message id is kept once, whoever sends it again.
    async fn ids_are_deduplicated(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let opts = || AppendOpts::new().id("the id");
        let first = corner.ours.append(corner.message("a", "1"), opts()).await.unwrap();
        assert!(!first.duplicate);
        for bus in [&corner.ours, &corner.theirs] {
            let again = bus.append(corner.message("a", "1"), opts()).await.unwrap();
            assert!(again.duplicate, "{again:?}");
            assert!(again.sequence == 0 || again.sequence == first.sequence, "{again:?}");
        }
        let other = corner.ours.append(corner.message("a", "2"), AppendOpts::new().id("another"));
        assert!(!other.await.unwrap().duplicate);
        assert_eq!(corner.texts(&stream).await, ["1", "2"]);
    }

    /// Behind the window an id is a new one.
    async fn ids_are_forgotten_behind_the_window(f) {
        let corner = Corner::new(f);
        let window = Duration::from_millis(500);
        let stream = corner.stream_with(|spec| spec.duplicate_window = Some(window)).await;
        let append = async || {
            let opts = AppendOpts::new().id("the id");
            corner.ours.append(corner.message("a", "1"), opts).await.unwrap()
        };
        assert!(!append().await.duplicate);
        eventually("the id is forgotten", patience(), async || {
            (!append().await.duplicate).then_some(())
        })
        .await;
        assert_eq!(corner.texts(&stream).await, ["1", "1"]);
    }

    /// An append may demand what the last message on its subject is.
    async fn an_expected_sequence_is_checked(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let over = async |sequence| {
            let opts = AppendOpts::new().expect_last_on_subject(sequence);
            corner.ours.append(corner.message("a", "x"), opts).await
        };
        let first = over(0).await.unwrap().sequence;
        assert_eq!(kind(over(0).await), ErrorKind::Conflict);
        corner.append("b", "another subject").await;
        let second = over(first).await.unwrap().sequence;
        assert_eq!(kind(over(first).await), ErrorKind::Conflict);
        assert_eq!(kind(over(second + 100).await), ErrorKind::Conflict);
        assert_eq!(corner.stored(&stream).await.len(), 3);
        let race = join_all((0..6).map(|_| over(second))).await;
        assert_eq!(race.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{race:?}");
    }

    /// An append may demand which stream keeps it.
    async fn an_expected_stream_is_checked(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let into = async |name| {
            corner.ours.append(corner.message("a", "1"), AppendOpts::new().stream(name)).await
        };
        assert_eq!(into(stream.clone()).await.unwrap().stream, stream);
        let other = StreamName::parse("ANOTHER").unwrap();
        assert_eq!(kind(into(other).await), ErrorKind::Conflict);
        assert_eq!(corner.stored(&stream).await.len(), 1);
    }

    /// A message over the store's limit, or over the stream's, is refused.
    async fn messages_have_a_limit(f) {
        let corner = Corner::new(f);
        let stream = corner.stream_with(|spec| spec.max_message_bytes = Some(1000)).await;
        let append = async |size| {
            let message = Message::new(corner.subject("a"), vec![1; size]);
            corner.ours.append(message, AppendOpts::new()).await
        };
        append(900).await.unwrap();
        assert_eq!(kind(append(1001).await), ErrorKind::LimitExceeded);
        let limit = f.backend.capabilities().value_bytes_max.min(64 << 20);
        let over = append(usize::try_from(limit).unwrap() + 1).await;
        assert_eq!(kind(over), ErrorKind::LimitExceeded);
        let headers = Headers::new().with("X-Long", &"x".repeat(2000)).unwrap();
        let wordy = corner.message("a", "small").headers(headers);
        let wordy = corner.ours.append(wordy, AppendOpts::new()).await;
        assert_eq!(kind(wordy), ErrorKind::LimitExceeded);
        assert_eq!(corner.stored(&stream).await.len(), 1);
    }

    /// Several who append at once all succeed, each at a place of its own.
    async fn concurrent_appends_are_all_kept(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let appends = (0..160).map(|at| {
            let bus = if at % 2 == 0 { &corner.ours } else { &corner.theirs };
            bus.append(corner.message("a", &at.to_string()), AppendOpts::new())
        });
        let sequences: BTreeSet<u64> = join_all(appends)
            .await
            .into_iter()
            .map(|appended| appended.unwrap().sequence)
            .collect();
        assert_eq!(sequences.len(), 160);
        let texts: BTreeSet<String> = corner.texts(&stream).await.into_iter().collect();
        assert_eq!(texts.len(), 160);
    }

    /// Appends whose callers give up are kept once or not at all, and block nobody.
    async fn abandoned_appends_are_kept_once_at_most(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        for at in 0..100_u64 {
            let append = corner.ours.append(corner.message("a", &at.to_string()), AppendOpts::new());
            drop(tokio::time::timeout(Duration::from_micros(at * 10), append).await);
        }
        corner.append("a", "last").await;
        let texts = corner.texts(&stream).await;
        let different: BTreeSet<&String> = texts.iter().collect();
        assert_eq!(different.len(), texts.len(), "one is kept twice");
        assert_eq!(texts.last().map(String::as_str), Some("last"));
    }

    /// A stream keeps the subjects of its patterns, and another stream the others.
    async fn streams_divide_the_subjects(f) {
        let corner = Corner::new(f);
        let make = async |name: &str, patterns: &[&str]| {
            let patterns: Vec<Pattern> = patterns.iter().map(|it| corner.pattern(it)).collect();
            let name = StreamName::parse(format!("{}-{name}", corner.spec().name)).unwrap();
            corner.ours.create_stream(&StreamSpec::new(name, patterns)).await.unwrap().spec.name
        };
        let orders = make("orders", &["orders.*", "returns.>"]).await;
        let others = make("others", &["others"]).await;
        for (tail, expected) in
            [("orders.1", &orders), ("returns.a.b", &orders), ("others", &others)]
        {
            assert_eq!(&corner.append(tail, tail).await.stream, expected);
        }
        let neither = corner.message("orders.1.2", "x");
        assert_eq!(kind(corner.ours.append(neither, AppendOpts::new()).await), ErrorKind::NotFound);
        assert_eq!(corner.texts(&orders).await, ["orders.1", "returns.a.b"]);
    }
}
