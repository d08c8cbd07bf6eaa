//! Shutting down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use jetbridge::ErrorKind;
use jetbridge::connector::Connector;
use jetbridge_testkit::eventually;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::{SOON, cases};

/// A signal reaches every connector of the process that waits for one.
static SIGNALS: Mutex<()> = Mutex::const_new(());

cases! {
    $ ends = ends;

    /// What misses the deadline is given up, counted and named in the report.
    async fn what_misses_the_deadline_is_reported(place) {
        let connector = place.connector().await;
        let begun = Arc::new(AtomicU64::new(0));
        let starting = Arc::clone(&begun);
        let stuck = connector.subscribe::<u64>("stuck").handle(2, move |_message| {
            starting.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        });
        let running = stuck.await.unwrap();
        for n in 0..7_u64 {
            connector.publish("stuck", &n).await.unwrap();
        }
        connector.bus().flush().await.unwrap();
        eventually("two are at work", SOON, async || {
            (begun.load(Ordering::SeqCst) == 2).then_some(())
        })
        .await;
        let before = Instant::now();
        let report = connector.shutdown(Duration::from_secs(1)).await;
        assert!(before.elapsed() < Duration::from_secs(5), "{report}");
        assert_eq!((report.counts.abandoned, report.counts.undelivered), (2, 5), "{report}");
        assert!(!report.is_clean());
        assert!(report.to_string().starts_with("cut short in "), "{report}");
        assert_eq!(running.counts(), report.counts);
        assert_eq!(begun.load(Ordering::SeqCst), 2, "nothing is begun at the end");
    }

    /// Streams end behind what had arrived, and nothing new begins.
    async fn streams_end_and_nothing_new_begins(place) {
        let connector = place.connector().await;
        let mut messages = connector.subscribe::<u64>("t").await.unwrap();
        for n in 0..5_u64 {
            connector.publish("t", &n).await.unwrap();
        }
        connector.bus().flush().await.unwrap();
        let first = messages.next().await.unwrap().unwrap();
        assert_eq!(first.decode().unwrap(), 0);
        messages.drain();
        let mut rest = Vec::new();
        while let Some(message) = messages.next().await {
            rest.push(message.unwrap().decode().unwrap());
        }
        assert_eq!(rest, [1, 2, 3, 4]);

        let mut open = connector.subscribe::<u64>("t").await.unwrap();
        let report = connector.shutdown(Duration::MAX).await;
        assert!(report.is_clean(), "{report}");
        assert!(open.next().await.is_none());
        let error = connector.subscribe::<u64>("t").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(connector.shutdown(SOON).await.to_string(), report.to_string());
    }

    /// SIGTERM drains under the drain timeout; a second signal cuts it short.
    async fn signals_drain_and_cut_short(place) {
        let _alone = SIGNALS.lock().await;
        for signals in [1, 2] {
            let timeout = if signals == 1 { SOON } else { 10 * SOON };
            let builder = Connector::builder().drain_timeout(timeout);
            let connector = place.build_anew(builder).await;
            let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (starting, gate) = (Arc::clone(&begun), Arc::clone(&go));
            let handle = connector.subscribe::<u64>("t").handle(1, move |_message| {
                let (starting, gate) = (Arc::clone(&starting), Arc::clone(&gate));
                async move {
                    starting.notify_one();
                    gate.notified().await;
                    Ok(())
                }
            });
            handle.await.unwrap();
            connector.publish("t", &1).await.unwrap();
            begun.notified().await;

            let mut ending = std::pin::pin!(connector.shutdown_on_signal());
            assert!(futures_util::poll!(&mut ending).is_pending(), "listens, and waits");
            kill_process(getpid(), Signal::TERM).unwrap();
            let drained = tokio::time::timeout(Duration::from_millis(300), &mut ending).await;
            assert!(drained.is_err(), "the handler is waited for");
            if signals == 1 {
                go.notify_one();
            } else {
                kill_process(getpid(), Signal::INT).unwrap();
            }
            let report = tokio::time::timeout(SOON, ending).await.expect("an end").unwrap();
            assert_eq!(report.is_clean(), signals == 1, "{report}");
            assert_eq!(report.counts.handled + report.counts.abandoned, 1, "{report}");
        }
    }
}
