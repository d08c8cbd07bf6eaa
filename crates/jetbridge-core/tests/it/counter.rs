//! Counters over compare-and-set, while answers are lost: exact, or honest about it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use jetbridge_core::{
    Backend as _, BucketSpec, DeleteOpts, ErrorKind, Headers, IncrementOpts, Kv, KvExt as _,
    MemoryBackend, Open, Outcome, PutOpts, Read, Result, Tasks, WRITERS_HEADER,
};
use jetbridge_testkit::{Fault, Faults, Odds};

use crate::process::Process;
use crate::support::{bucket, key, store};

const START: SystemTime = SystemTime::UNIX_EPOCH;
const SECOND: Duration = Duration::from_secs(1);

async fn behind(faults: &Faults, store: &MemoryBackend) -> Arc<dyn Kv> {
    let store = faults.around(Arc::new(store.clone()));
    store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap()
}

async fn plain(store: &MemoryBackend) -> Arc<dyn Kv> {
    store.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap()
}

async fn number(kv: &Arc<dyn Kv>) -> String {
    let entry = kv.get(&key("n"), Read::Fresh).await.unwrap().unwrap();
    String::from_utf8(entry.value.to_vec()).unwrap()
}

/// Several processes count while a seed breaks their reads and writes. Whatever says that it
/// succeeded counts once, whatever says that it was not applied does not count.
async fn count_under_faults(seed: u64) {
    const PROCESSES: usize = 4;
    const EACH: usize = 100;
    let store = MemoryBackend::new();
    let odds = Odds { ack_lost: 200, before_apply: 100, ..Odds::default() };
    let faults = Faults::seeded(seed, odds).only(&["kv.put", "kv.get"]);
    let kv = behind(&faults, &store).await;
    let processes = (0..PROCESSES).map(|_| {
        let process = Process::on(&kv, START);
        async move {
            let mut sums = Vec::new();
            for _ in 0..EACH {
                match process.increment(&key("n"), 1, IncrementOpts::new()).await {
                    Ok(sum) => sums.push(sum),
                    Err(error) => assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}"),
                }
                tokio::task::yield_now().await;
            }
            sums
        }
    });
    let mut sums: Vec<i64> = join_all(processes).await.concat();
    sums.sort_unstable();
    let counted = i64::try_from(sums.len()).unwrap();
    assert_eq!(sums, (1..=counted).collect::<Vec<_>>(), "seed {seed}: every sum once");
    assert_eq!(number(&plain(&store).await).await, counted.to_string(), "seed {seed}");
    assert!(faults.injected().len() > 100, "seed {seed}: the faults happened");
}

#[tokio::test]
async fn it_is_exact_while_answers_are_lost() {
    for seed in 0..8 {
        count_under_faults(seed).await;
    }
}

/// Eight tasks on as many threads as there are, half of whose handles lose acknowledgements.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_tasks_count_to_4000() {
    const TASKS: u64 = 8;
    const EACH: i64 = 500;
    let (store, tasks) = (MemoryBackend::new(), Tasks::new());
    let odds = Odds { ack_lost: 100, ..Odds::default() };
    let (told, mut sums) = tokio::sync::mpsc::unbounded_channel();
    for task in 0..TASKS {
        let kv = match task % 2 {
            0 => plain(&store).await,
            _ => behind(&Faults::seeded(task, odds).only(&["kv.put"]), &store).await,
        };
        let (process, told) = (Process::on(&kv, START), told.clone());
        tasks.spawn(async move {
            for _ in 0..EACH {
                let opts = IncrementOpts::new().deadline(60 * SECOND);
                told.send(process.increment(&key("n"), 1, opts).await.unwrap()).unwrap();
            }
        });
    }
    drop(told);
    let mut different = BTreeSet::new();
    while let Some(sum) = sums.recv().await {
        assert!(different.insert(sum), "two were told {sum}");
    }
    assert_eq!(different, (1..=4000).collect());
    assert_eq!(number(&plain(&store).await).await, "4000");
    assert_eq!(tasks.stop(SECOND).await, 0);
}

#[tokio::test]
async fn a_write_that_lands_late_counts_once() {
    for before in [None, Some("41")] {
        let (store, _clock) = store();
        let kv = plain(&store).await;
        if let Some(before) = before {
            kv.put(&key("n"), before.into(), PutOpts::new()).await.unwrap();
        }
        let sum = before.map_or(1, |_| 42);
        let late = Process::with_late_write(&kv, START);
        assert_eq!(late.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap(), sum);
        assert_eq!(number(&kv).await, sum.to_string());
        assert_eq!(late.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap(), sum + 1);
    }
}

/// Adds 1 to 5, loses the answer to the write, and does `meanwhile` before anything is read.
async fn interfere(meanwhile: impl AsyncFn(Arc<dyn Kv>)) -> Result<i64> {
    let (store, _clock) = store();
    let kv = plain(&store).await;
    kv.put(&key("n"), "5".into(), PutOpts::new()).await.unwrap();
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let process = Process::on(&behind(&faults, &store).await, START);
    let name = key("n");
    let increment = process.increment(&name, 1, IncrementOpts::new());
    let meddle = async {
        assert_eq!(number(&kv).await, "6", "the write has landed, and its answer is lost");
        meanwhile(Arc::clone(&kv)).await;
    };
    // The increment comes first, and pauses behind the lost answer.
    let (sum, ()) = futures_util::future::join(increment, meddle).await;
    sum
}

#[tokio::test]
async fn who_sets_or_deletes_it_meanwhile_leaves_the_outcome_unknown() {
    let set = interfere(async |kv: Arc<dyn Kv>| {
        kv.put(&key("n"), "100".into(), PutOpts::new()).await.unwrap();
    });
    assert_eq!(set.await.unwrap_err().outcome(), Outcome::Unknown);
    let delete = interfere(async |kv: Arc<dyn Kv>| {
        kv.delete(&key("n"), DeleteOpts::new()).await.unwrap();
    });
    assert_eq!(delete.await.unwrap_err().outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn who_adds_or_renews_it_meanwhile_does_not() {
    let add = interfere(async |kv: Arc<dyn Kv>| {
        let other = Process::on(&kv, START);
        assert_eq!(other.increment(&key("n"), 10, IncrementOpts::new()).await.unwrap(), 16);
    });
    assert_eq!(add.await.unwrap(), 6);
    let renew = interfere(async |kv: Arc<dyn Kv>| {
        assert!(kv.expire(&key("n"), Some(3600 * SECOND)).await.unwrap());
    });
    assert_eq!(renew.await.unwrap(), 6);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_in_time() {
    let store = MemoryBackend::new();
    let odds = Odds { before_apply: 1000, ..Odds::default() };
    let faults = Faults::seeded(1, odds).only(&["kv.put"]);
    let process = Process::on(&behind(&faults, &store).await, START);
    let opts = IncrementOpts::new().deadline(SECOND / 20);
    let error = process.increment(&key("n"), 1, opts).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(plain(&store).await.get(&key("n"), Read::Fresh).await.unwrap().is_none());
    assert!(faults.seen() > 1, "it was tried again");

    let odds = Odds { ack_lost: 1000, ..Odds::default() };
    let faults = Faults::seeded(1, odds).only(&["kv.get"]);
    let process = Process::on(&behind(&faults, &store).await, START);
    let error = process.increment(&key("n"), 1, opts).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
}

#[tokio::test]
async fn what_is_unclear_is_found_out_though_the_deadline_has_passed() {
    let store = MemoryBackend::new();
    let faults = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let process = Process::on(&behind(&faults, &store).await, START);
    let opts = IncrementOpts::new().deadline(Duration::ZERO);
    assert_eq!(process.increment(&key("n"), 1, opts).await.unwrap(), 1);

    // Reads fail for a while: the first is that of the counter, the others those of the outcome.
    let fails = (1..4).map(|read| (read, Fault::BeforeApply));
    let reads = Faults::script(fails).only(&["kv.get"]);
    let lost = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let kv = reads.around(lost.around(Arc::new(store.clone())));
    let kv = kv.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    assert_eq!(Process::on(&kv, START).increment(&key("n"), 1, opts).await.unwrap(), 2);
    assert_eq!((reads.injected().len(), lost.injected().len()), (3, 1));
    assert_eq!(number(&plain(&store).await).await, "2");
}

#[tokio::test]
async fn what_cannot_be_found_out_is_given_up_in_time() {
    let store = MemoryBackend::new();
    let reads = Faults::script((1..8_000).map(|read| (read, Fault::BeforeApply)));
    let lost = Faults::script([(0, Fault::AckLost)]).only(&["kv.put"]);
    let kv = reads.only(&["kv.get"]).around(lost.around(Arc::new(store.clone())));
    let kv = kv.kv(&bucket("b"), Open::ensure(BucketSpec::default())).await.unwrap();
    let process = Process::on(&kv, START);
    let began = std::time::Instant::now();
    let opts = IncrementOpts::new().deadline(SECOND / 10).settling(SECOND / 2);
    let error = process.increment(&key("n"), 1, opts).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    assert!(began.elapsed() >= SECOND * 6 / 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_store_that_does_not_answer_once_is_asked_again() {
    let store = MemoryBackend::new();
    let faults = Faults::script([(0, Fault::BeforeApply)]).only(&["kv.get"]);
    let process = Process::on(&behind(&faults, &store).await, START);
    assert_eq!(process.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap(), 1);
    assert_eq!(faults.injected().len(), 1);
}

#[tokio::test]
async fn expiry_and_headers_are_kept() {
    let (store, clock) = store();
    let kv = plain(&store).await;
    let headers = Headers::new().with("X", "1").unwrap();
    let opts = PutOpts::new().ttl(10 * SECOND).headers(headers);
    let written = kv.put(&key("n"), "1".into(), opts).await.unwrap().at.unwrap();
    clock.advance(4 * SECOND);
    let process = Process::on(&kv, written + 4 * SECOND);
    assert_eq!(process.increment(&key("n"), 1, IncrementOpts::new()).await.unwrap(), 2);
    let entry = kv.get(&key("n"), Read::Fresh).await.unwrap().unwrap();
    assert_eq!(entry.expires, Some(written + 10 * SECOND));
    assert_eq!(entry.headers.get("X"), Some("1"));
    assert!(entry.headers.get(WRITERS_HEADER).is_some());
}
