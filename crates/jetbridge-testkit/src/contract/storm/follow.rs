//! Watches, subscriptions and consumers in a storm: they go on where they were.

use std::collections::BTreeSet;

use futures_util::future::join;
use futures_util::{FutureExt as _, StreamExt as _};
use jetbridge_core::{
    AppendOpts, Backoff, Change, ConnectionState, PutOpts, ReadStream, Received, Start,
};

use super::Progress;
use crate::contract::bus::steps::{Corner, consume, text};
use crate::contract::steps::{Watching, bytes, fill, key, patience, within};
use crate::eventually;

cases! { $ __storm_follow = storm::follow;
    /// A watch tells the last change of every key, and does not tell the bucket again.
    async fn watches_go_on_without_a_replay(f) {
        const PRESENT: usize = 400;
        const CHANGED: usize = 40;
        let kv = f.kv().await;
        fill(&kv, "old", PRESENT).await;
        let mut watching = Watching::from(&kv, Start::Current);
        assert_eq!(watching.initial().await.len(), PRESENT);
        let theirs = f.peer_kv(&kv).await;
        let progress = Progress::default();
        let writes = async {
            for at in 0..CHANGED {
                let mut backoff = Backoff::outage();
                let name = key(format!("new{at}"));
                while theirs.put(&name, bytes("1"), PutOpts::new()).await.is_err() {
                    backoff.wait().await;
                }
                progress.step();
            }
        };
        join(writes, progress.blows(f.storm(), CHANGED)).await;
        let mut missing: BTreeSet<String> = (0..CHANGED).map(|at| format!("new{at}")).collect();
        let mut told = 0;
        while !missing.is_empty() {
            let Change::Put(entry) = watching.next().await else { panic!("not a value") };
            missing.remove(entry.key.as_str());
            told += 1;
        }
        assert!(told < PRESENT, "{told} changes told of {CHANGED}: the bucket was replayed");
    }

    /// A reader of a stream gets every message once, in order.
    async fn readers_miss_nothing(f) {
        const COUNT: usize = 60;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let progress = Progress::default();
        let mut read = corner.ours.read_stream(&stream, ReadStream::all().follow());
        let appends = async {
            for at in 0..COUNT {
                append(&corner, at).await;
                progress.step();
            }
        };
        join(appends, progress.blows(f.storm(), COUNT)).await;
        for at in 0..COUNT {
            let stored = within("a message", read.next()).await.unwrap().unwrap();
            assert_eq!(text(&stored.message), at.to_string());
        }
    }

    /// A durable consumer gets every message, also those that came in the storm.
    async fn consumers_miss_nothing(f) {
        const COUNT: usize = 60;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let progress = Progress::default();
        let short = consume(&stream).ack_wait(std::time::Duration::from_secs(2));
        let mut consumer = corner.ours.consume(short).await.unwrap();
        let appends = async {
            for at in 0..COUNT {
                append(&corner, at).await;
                progress.step();
            }
        };
        let consumption = async {
            let mut missing: BTreeSet<String> = (0..COUNT).map(|at| at.to_string()).collect();
            while !missing.is_empty() {
                let delivery = within("a delivery", consumer.next()).await.unwrap().unwrap();
                let seen = text(&delivery.message);
                // An acknowledgement that fails brings the message again.
                if delivery.ack().await.is_ok() {
                    missing.remove(&seen);
                }
            }
        };
        let blows = progress.blows(f.storm(), COUNT);
        join(join(appends, consumption), blows).await;
    }

    /// A listener hears again what is published after the storm.
    async fn listeners_hear_again(f) {
        let corner = Corner::new(f);
        let mut listener = corner.listen("a").await;
        for round in 0..3 {
            if round % 2 == 0 { f.storm().cut().await } else { f.storm().restart().await }
            let said = round.to_string();
            eventually("a message is heard", patience(), async || {
                corner.theirs.publish(corner.message("a", &said)).await.ok()?;
                let soon = std::time::Duration::from_millis(200);
                match tokio::time::timeout(soon, listener.next()).await {
                    Ok(Some(Ok(Received::Message(message)))) if text(&message) == said => Some(()),
                    Ok(None) => panic!("the subscription has ended"),
                    _other => None,
                }
            })
            .await;
        }
    }

    /// Whoever watches the connection is told in the end that it is there again.
    async fn the_state_is_told_again(f) {
        let mut states = f.backend.connection();
        let mut last = within("the state", states.next()).await;
        assert_eq!(last, Some(ConnectionState::Connected));
        f.storm().restart().await;
        eventually("the store answers", patience(), async || f.backend.status().await.ok()).await;
        eventually("the last word is that it is there", patience(), async || {
            while let Some(state) = states.next().now_or_never() {
                last = state;
            }
            (last == Some(ConnectionState::Connected)).then_some(())
        })
        .await;
    }
}

async fn append(corner: &Corner, at: usize) {
    let text = at.to_string();
    let mut backoff = Backoff::outage();
    loop {
        let opts = AppendOpts::new().id(&text);
        match corner.theirs.append(corner.message("a", &text), opts).await {
            Ok(_) => return,
            Err(_outage) => backoff.wait().await,
        }
    }
}
