//! Real processes that count on one key of one store, and must arrive at the exact number.
//!
//! The processes are the running test binary, started again for one of its tests, which is told
//! by a variable which store to count in. Without the variable that test has nothing to do. How a
//! store is opened is the test's affair.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use jetbridge_core::{
    Backend, Backoff, BucketName, BucketSpec, IncrementOpts, Key, Kv, Open, Read,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::contract::storm::Progress;
use crate::{Storm, eventually};

/// How many processes count.
const PROCESSES: usize = 8;
/// How often each of them adds one.
const ROUNDS: usize = 500;
/// How long one addition may take: a store that restarts, and a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a process may take to close.
const GRACE: Duration = Duration::from_secs(20);
/// Tells a process where to count.
const VARIABLE: &str = "JETBRIDGE_TEST_COUNT_IN";
/// What stands before each sum that a process was told.
const SUM: &str = "sum: ";

/// Counts in `backend` from eight processes, each of which runs `test` of this binary; the test
/// has to call [`count_if_told`]. `stores` are where they count, in turn. With a storm, the store
/// is killed and restarted four times in between.
///
/// # Panics
/// If any sum comes twice or is missing, if the number in the end is not 4000, or if a process
/// fails.
pub async fn eight_processes_count_to_4000(
    backend: &dyn Backend,
    test: &str,
    stores: &[String],
    storm: Option<&dyn Storm>,
) {
    let kv = open(backend).await;
    let progress = Progress::default();
    let processes = stores.iter().cycle().take(PROCESSES).map(|store| start(test, store));
    let sums = join_all(processes.map(|process| sums_of(process, &progress)));
    let (sums, ()) = join(sums, kill_and_restart(storm, &progress)).await;
    let sums: Vec<i64> = sums.into_iter().flatten().collect();
    let total = i64::try_from(PROCESSES * ROUNDS).expect("a small number");
    let different: BTreeSet<i64> = sums.iter().copied().collect();
    assert_eq!(sums.len(), different.len(), "two were told the same sum");
    assert_eq!(different, (1..=total).collect::<BTreeSet<i64>>());
    let last =
        eventually("the number is read", PATIENCE, async || kv.get(&key(), Read::Fresh).await.ok())
            .await;
    assert_eq!(last.expect("a number").value, total.to_string());
}

/// What a process does that was started to count, and nothing in any other: `open` opens the
/// store it is told.
///
/// # Panics
/// If the store answers anything but an error that may be retried.
pub async fn count_if_told<B: Backend>(open_store: impl AsyncFnOnce(&str) -> B) {
    #[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
    let Ok(store) = std::env::var(VARIABLE) else { return };
    let backend = open_store(&store).await;
    let kv = open(&backend).await;
    for _ in 0..ROUNDS {
        say(add_one(&*kv).await);
    }
    let report = backend.close(GRACE).await;
    assert!(report.is_clean(), "{report:?}");
}

async fn add_one(kv: &dyn Kv) -> i64 {
    let mut backoff = Backoff::outage();
    loop {
        match kv.increment(&key(), 1, IncrementOpts::new().deadline(PATIENCE)).await {
            Ok(sum) => return sum,
            // An outcome that nobody knows may not be retried, and fails the test.
            Err(error) => assert!(error.is_retryable(), "not settled: {error:?}"),
        }
        backoff.wait().await;
    }
}

/// At once: the parent follows how far its processes are.
#[expect(clippy::print_stdout, reason = "how a child tells its parent")]
fn say(sum: i64) {
    println!("{SUM}{sum}");
}

fn start(test: &str, store: &str) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, store)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this binary starts again")
}

/// The sums that a process was told, once it has ended.
async fn sums_of(mut process: Child, progress: &Progress) -> Vec<i64> {
    let output = process.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(output).lines();
    let mut sums = Vec::new();
    while let Some(line) = lines.next_line().await.expect("lines of text") {
        // The test harness begins the line of the first sum.
        if let Some((_, sum)) = line.split_once(SUM) {
            sums.push(sum.parse().expect("a number"));
            progress.step();
        }
    }
    let ended = process.wait().await.expect("a child");
    assert!(ended.success(), "a process failed after {} sums: {ended}", sums.len());
    sums
}

async fn kill_and_restart(storm: Option<&dyn Storm>, progress: &Progress) {
    const BLOWS: usize = 4;
    let Some(storm) = storm else { return };
    for blow in 1..=BLOWS {
        progress.reaches(PROCESSES * ROUNDS * blow / (BLOWS + 1), PATIENCE * 5).await;
        storm.restart().await;
    }
}

async fn open(backend: &dyn Backend) -> Arc<dyn Kv> {
    let bucket = BucketName::parse("counting").expect("a name");
    backend.kv(&bucket, Open::ensure(BucketSpec::default())).await.expect("a bucket")
}

fn key() -> Key {
    Key::parse("n").expect("a key")
}
