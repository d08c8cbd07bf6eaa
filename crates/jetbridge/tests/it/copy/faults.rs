//! A copy over servers that die, messages that go, and clocks that differ.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jetbridge::copy::{Copy, CopyReport, Step};
use jetbridge::core::{
    AppendOpts, Backend, ErrorKind, Message, ObjectPut, Open, Pattern, PutOpts, Result, StreamName,
    StreamSpec, Subject, body_of,
};
use jetbridge::core::{Clock, ManualClock, MemoryBackend, SystemClock};
use jetbridge_testkit::{Release, eventually};
use tokio::sync::Notify;

use super::{GRACE, Pair, append, bucket, key, kv, messages, object, value};

const MESSAGES: u32 = 4000;

impl Pair {
    /// One run over the stream; the server dies, and comes back, when so many messages are there.
    async fn run_over_a_death(&self, after: u64) -> Result<CopyReport> {
        let (seen, die) = (AtomicU64::new(0), Notify::new());
        let tell = |step: Step| {
            if seen.fetch_add(step.items, Ordering::Relaxed) + step.items == after {
                die.notify_one();
            }
        };
        let copy = self.copy();
        let parts = copy.parts().await?;
        let server = self._server.as_ref().unwrap();
        let death = async {
            die.notified().await;
            server.kill();
            server.restart().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            report = copy.run(&parts[0], &tell) => report,
            () = death => unreachable!("it goes on for ever"),
        }
    }
}

/// What is in a stream when the server dies is there once and in order, whatever became of the
/// messages under way.
async fn a_server_that_dies_loses_and_doubles_no_message(release: Release) {
    let pair = Pair::local_to_nats(release).await;
    append(&pair.from, 0..MESSAGES).await;
    for after in [300, 700, 1500, 400, 900] {
        if let Ok(report) = pair.run_over_a_death(after).await {
            assert!(report.is_complete(), "{report:?}");
        }
    }
    let report = eventually("the copy ends", Duration::from_secs(60), async || {
        let copy = pair.copy();
        let parts = copy.parts().await.unwrap();
        copy.run(&parts[0], &|_step| {}).await.ok()
    })
    .await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(messages(&pair.to).await, messages(&pair.from).await);
    pair.close().await;
}

jetbridge_testkit::on_every_server!(a_server_that_dies_loses_and_doubles_no_message);

/// A source that forgets while it is copied is no foreign stream, and nothing is copied twice.
#[tokio::test]
async fn what_the_source_forgets_meanwhile_is_no_fault() {
    let clock = ManualClock::new(SystemClock.now());
    let from: Arc<dyn Backend> = Arc::new(MemoryBackend::with_clock(Arc::new(clock.clone())));
    let to: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let subject = || Subject::parse("orders.1").unwrap();
    let mut spec = StreamSpec::new(
        StreamName::parse("ORDERS").unwrap(),
        vec![Pattern::parse("orders.>").unwrap()],
    );
    spec.max_age = Some(Duration::from_secs(60));
    from.bus().create_stream(&spec).await.unwrap();
    for number in 0..20 {
        let message = Message::new(subject(), format!("{number}"));
        from.bus().append(message, AppendOpts::new()).await.unwrap();
        clock.advance(Duration::from_secs(2));
    }
    let copy = Copy::new(Arc::clone(&from), Arc::clone(&to));
    let parts = copy.parts().await.unwrap();
    // Half of them are too old by the time the last is copied.
    let forgets = |_step: Step| clock.advance(Duration::from_secs(2));
    let report = copy.run(&parts[0], &forgets).await.unwrap();
    assert!(report.copied >= 10, "{report:?}");
    let message = Message::new(subject(), "later");
    from.bus().append(message, AppendOpts::new()).await.unwrap();
    let report = copy.run(&parts[0], &|_step| {}).await.unwrap();
    assert_eq!((report.copied, report.is_complete()), (1, true), "{report:?}");
    let there = messages(&to).await;
    let texts: HashSet<&Bytes> = there.iter().map(|message| &message.payload).collect();
    assert_eq!(texts.len(), there.len(), "nothing came twice");
    for store in [from, to] {
        assert!(store.close(GRACE).await.is_clean());
    }
}

/// Whose write is younger is told by each store's own clock, however far they are apart.
#[tokio::test]
async fn clocks_that_differ_make_nothing_younger() {
    for (source, destination) in [(0, 7200), (7200, 0)] {
        let real = SystemClock.now();
        let store = |ahead: u64| -> (ManualClock, Arc<dyn Backend>) {
            let clock = ManualClock::new(real + Duration::from_secs(ahead));
            (clock.clone(), Arc::new(MemoryBackend::with_clock(Arc::new(clock))))
        };
        let ((one, from), (other, to)) = (store(source), store(destination));
        let pass = || {
            one.advance(Duration::from_secs(60));
            other.advance(Duration::from_secs(60));
        };
        let put = async |store: &Arc<dyn Backend>, name: &str, text: &'static str| {
            kv(store, "settings").await.put(&key(name), text.into(), PutOpts::new()).await.unwrap();
            let files = store.objects(&bucket("files"), Open::ensure(Default::default())).await;
            files.unwrap().put(&object(name), body_of(text), ObjectPut::new()).await.unwrap();
        };
        put(&from, "newer here", "old").await;
        put(&from, "newer there", "old").await;
        pass();
        put(&to, "newer here", "between").await;
        pass();
        put(&from, "newer here", "new").await;
        put(&to, "newer there", "new").await;
        let copy = Copy::new(Arc::clone(&from), Arc::clone(&to));
        for part in copy.parts().await.unwrap() {
            let report = copy.run(&part, &|_step| {}).await.unwrap();
            assert_eq!((report.copied, report.kept), (1, 1), "{} {report:?}", part.kind());
        }
        for name in ["newer here", "newer there"] {
            assert_eq!(value(&to, "settings", name).await.unwrap(), "new", "{name}");
        }
        for store in [from, to] {
            assert!(store.close(GRACE).await.is_clean());
        }
    }
}

/// What a copy wrote is no application's write: it gives way to the source, whose write may be
/// older by the clocks if it came while the copy was on its way.
#[tokio::test]
async fn what_a_copy_wrote_late_gives_way_to_the_source() {
    let real = SystemClock.now();
    let clock = ManualClock::new(real);
    let from: Arc<dyn Backend> = Arc::new(MemoryBackend::with_clock(Arc::new(clock.clone())));
    let to: Arc<dyn Backend> = Arc::new(MemoryBackend::with_clock(Arc::new(clock.clone())));
    let put = async |store: &Arc<dyn Backend>, text: &'static str| {
        kv(store, "settings").await.put(&key("a"), text.into(), PutOpts::new()).await.unwrap();
        let files = store.objects(&bucket("files"), Open::ensure(Default::default())).await;
        files.unwrap().put(&object("a"), body_of(text), ObjectPut::new()).await.unwrap();
    };
    let copy = Copy::new(Arc::clone(&from), Arc::clone(&to));
    let run = async || {
        let mut reports = super::reports(&copy).await;
        ["kv settings", "object files"].map(|part| reports.remove(part).unwrap())
    };
    put(&from, "read").await;
    clock.advance(Duration::from_secs(60));
    assert!(run().await.iter().all(CopyReport::is_complete));
    clock.set(real + Duration::from_secs(30));
    put(&from, "meanwhile").await;
    clock.set(real + Duration::from_secs(90));
    assert!(run().await.iter().all(CopyReport::is_complete));
    assert_eq!(value(&to, "settings", "a").await.unwrap(), "meanwhile");
    put(&to, "of an application").await;
    assert!(run().await.iter().all(|report| (report.copied, report.kept) == (0, 1)));
    for store in [from, to] {
        assert!(store.close(GRACE).await.is_clean());
    }
}

/// A message that the destination will not take ends the copy; what is behind it does not pass it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_refused_is_not_passed_by_later_ones() {
    let pair = Pair::local_to_nats(Release::Newest).await;
    append(&pair.from, 0..5).await;
    let large = Message::new(Subject::parse("orders.9").unwrap(), vec![0; 3 << 20]);
    pair.from.bus().append(large, AppendOpts::new()).await.unwrap();
    append(&pair.from, 6..40).await;
    for _run in 0..2 {
        let copy = pair.copy();
        let parts = copy.parts().await.unwrap();
        let error = copy.run(&parts[0], &|_step| {}).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
        assert_eq!(messages(&pair.to).await.len(), 5);
    }
    pair.close().await;
}
