//! Reading a stream in order.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use jetbridge_core::{AppendOpts, ErrorKind, ReadStream};

use super::steps::{Corner, text};
use crate::contract::steps::{all, kind, next, patience, within};
use crate::eventually;

cases! { $ __bus_read = bus::read;
    /// A stream is read from its oldest message to its newest, then the reading ends.
    async fn a_stream_is_read_in_order(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        assert!(all(corner.ours.read_stream(&stream, ReadStream::all())).await.is_empty());
        let before = f.backend.now().await.unwrap();
        corner.append_many("a", 30).await;
        let read = all(corner.theirs.read_stream(&stream, ReadStream::all())).await;
        assert_eq!(read.len(), 30);
        for (at, stored) in read.iter().enumerate() {
            assert_eq!(text(&stored.message), at.to_string());
            assert!(at == 0 || stored.sequence > read[at - 1].sequence);
            let slack = before.error + Duration::from_millis(5);
            assert!(stored.stored + slack >= before.now, "{stored:?} before {before:?}");
        }
    }

    /// Reading begins behind a sequence, and keeps to a filter.
    async fn reading_begins_behind_a_sequence(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let mut sequences = Vec::new();
        for at in 0..10 {
            let tail = if at % 2 == 0 { "even" } else { "odd.x" };
            sequences.push(corner.append(tail, &at.to_string()).await.sequence);
        }
        let texts = async |read: ReadStream| -> Vec<String> {
            let read = all(corner.ours.read_stream(&stream, read)).await;
            read.iter().map(|stored| text(&stored.message)).collect()
        };
        assert_eq!(texts(ReadStream::all().after(sequences[6])).await, ["7", "8", "9"]);
        assert_eq!(texts(ReadStream::all().after(sequences[9])).await, Vec::<String>::new());
        assert_eq!(texts(ReadStream::all().after(sequences[9] + 50)).await, Vec::<String>::new());
        let odd = ReadStream::all().filter(corner.pattern("odd.>"));
        assert_eq!(texts(odd.clone()).await, ["1", "3", "5", "7", "9"]);
        assert_eq!(texts(odd.after(sequences[5])).await, ["7", "9"]);
        let none = ReadStream::all().filter(corner.pattern("none"));
        assert_eq!(texts(none).await, Vec::<String>::new());
    }

    /// Following goes on with what comes later, from any connection.
    async fn following_goes_on(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "0").await;
        let mut read = corner.ours.read_stream(&stream, ReadStream::all().follow());
        let filter = ReadStream::all().filter(corner.pattern("b")).follow();
        let mut filtered = corner.ours.read_stream(&stream, filter);
        assert_eq!(text(&next(&mut read).await.message), "0");
        for at in 1..20 {
            let tail = if at == 10 { "b" } else { "a" };
            let message = corner.message(tail, &at.to_string());
            corner.theirs.append(message, AppendOpts::new()).await.unwrap();
            assert_eq!(text(&next(&mut read).await.message), at.to_string());
        }
        assert_eq!(text(&next(&mut filtered).await.message), "10");
    }

    /// What was removed in between is not read, and no gap stops the reader.
    async fn gaps_are_passed_over(f) {
        let corner = Corner::new(f);
        let stream = corner.stream_with(|spec| spec.max_messages_per_subject = Some(1)).await;
        for at in 0..30 {
            corner.append(&format!("s{}", at % 7), &at.to_string()).await;
        }
        let texts = corner.texts(&stream).await;
        assert_eq!(texts, ["23", "24", "25", "26", "27", "28", "29"]);
        corner.ours.purge_stream(&stream, Some(&corner.pattern("s4"))).await.unwrap();
        assert_eq!(corner.texts(&stream).await, ["23", "24", "26", "27", "28", "29"]);
    }

    /// Thousands of messages are read in order.
    async fn thousands_of_messages_are_read(f) {
        const COUNT: usize = 3000;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        for first in (0..COUNT).step_by(100) {
            let appends = (first..first + 100).map(|at| {
                corner.ours.append(corner.message("a", &at.to_string()), AppendOpts::new())
            });
            try_join_all(appends).await.unwrap();
        }
        let read = all(corner.ours.read_stream(&stream, ReadStream::all())).await;
        assert_eq!(read.len(), COUNT);
        assert!(read.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        let mut read = corner.ours.read_stream(&stream, ReadStream::all().follow());
        for _ in 0..COUNT {
            next(&mut read).await;
        }
    }

    /// Reading leaves no consumer behind, ended or dropped.
    async fn reading_leaves_no_consumer(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a", 10).await;
        for _ in 0..5 {
            corner.texts(&stream).await;
            let mut dropped = corner.theirs.read_stream(&stream, ReadStream::all().follow());
            next(&mut dropped).await;
        }
        eventually("no consumer is left", patience(), async || {
            (corner.ours.stream(&stream).await.unwrap().consumers == 0).then_some(())
        })
        .await;
    }

    /// Following a stream that is deleted ends with the news.
    async fn following_a_deleted_stream_ends(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "0").await;
        let mut read = corner.ours.read_stream(&stream, ReadStream::all().follow());
        next(&mut read).await;
        assert!(corner.theirs.delete_stream(&stream).await.unwrap());
        let end = tokio::time::timeout(Duration::from_secs(60), read.next()).await;
        let end = end.expect("the reading ends").expect("with an error");
        assert_eq!(kind(end), ErrorKind::NotFound);
        let after = within("nothing behind the error", read.next()).await;
        assert!(after.is_none(), "{after:?}");
    }
}
