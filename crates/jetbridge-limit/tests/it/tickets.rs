//! Permits that the store counts out while processes compete for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{
    Backend, BucketKind, BucketName, Counters, ErrorKind, Key, Open, Read, StreamName,
};
use jetbridge_limit::{Composite, Limiter, Limits, OnError, Policy};
use jetbridge_nats::{ConnectOptions, NatsBackend};
use jetbridge_testkit::{AckLoss, NatsServer, Proxy, Release, ServerOptions, eventually};
use tokio::time::Instant;

use crate::rig::{Fleet, PROCESSES, open, strict};

const SOON: Duration = Duration::from_secs(30);
/// For an answer of a server that may be killed.
const DEADLINE: Duration = Duration::from_millis(500);
const CALLERS: usize = 4;
const RATE: u32 = 200;
const BURST: u32 = 20;
/// How a value says that its permits are counted out.
const TICKETS: &str = "\"tickets\":";
/// What ends tickets, when it is added to a counter.
const CLOSING: i64 = 1 << 38;
/// What the estimates of the store's time, and permits used late, may come to on a busy machine.
const LATE: Duration = Duration::from_millis(150);

fn policy() -> Policy {
    Policy::per_second(f64::from(RATE)).unwrap().burst(BURST).unwrap()
}

fn api() -> Key {
    Key::parse("api").unwrap()
}

async fn has_tickets(fleet: &Fleet) -> bool {
    let entry = fleet.entry("api").await;
    entry.is_some_and(|it| std::str::from_utf8(&it.value).unwrap().contains(TICKETS))
}

/// What all callers got, and when they began.
struct Crowd {
    limiters: Vec<Limiter>,
    begun: Instant,
    granted: AtomicU64,
    over: AtomicBool,
    /// Its server is killed meanwhile.
    killed: bool,
}

impl Crowd {
    fn of(fleet: &Fleet, policy: Policy) -> Self {
        let (granted, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let limiters = fleet.limiters(policy);
        Self { limiters, begun: Instant::now(), granted, over, killed: false }
    }

    /// Callers of every process take permits while `script` runs.
    async fn during<T>(&self, script: impl Future<Output = T>) -> T {
        let call = async |limiter: &Limiter| {
            while !self.over.load(Ordering::Relaxed) {
                match limiter.acquire().await {
                    Ok(admission) => {
                        assert!(admission.allowed);
                        self.granted.fetch_add(1, Ordering::Relaxed);
                    }
                    // Only a store that was killed says so.
                    Err(error) => {
                        let lost = self.killed && error.kind() == ErrorKind::Unavailable;
                        assert!(lost, "{error:?}");
                    }
                }
            }
        };
        let calls = self.limiters.iter().flat_map(|limiter| (0..CALLERS).map(|_| call(limiter)));
        let script = async {
            let told = script.await;
            self.over.store(true, Ordering::Relaxed);
            told
        };
        self.over.store(false, Ordering::Relaxed);
        tokio::join!(script, join_all(calls)).0
    }

    /// Nobody got more than the rate and `bursts` bursts.
    fn check(&self, bursts: u32) {
        let granted = self.granted.load(Ordering::Relaxed);
        let time = (self.begun.elapsed() + LATE).as_secs_f64();
        let most = time * f64::from(RATE) + f64::from(BURST * bursts) + 1.0;
        assert!(granted as f64 <= most, "{granted} of {most}");
    }

    /// Waits for `many` more.
    async fn more(&self, many: u64) {
        let before = self.granted.load(Ordering::Relaxed);
        eventually("more permits", SOON, async || {
            (self.granted.load(Ordering::Relaxed) >= before + many).then_some(())
        })
        .await;
    }
}

/// A crowd whose permits are counted out, and the counters; `None` on a store that does not count
/// by itself, where none ever are.
async fn counted_out(fleet: &Fleet) -> Option<(Crowd, Arc<dyn Counters>)> {
    let crowd = Crowd::of(fleet, policy());
    let Some(counters) = fleet.counters().await else {
        crowd.during(crowd.more(u64::from(RATE))).await;
        assert!(!has_tickets(fleet).await);
        crowd.check(1);
        return None;
    };
    crowd
        .during(eventually("tickets", SOON, async || has_tickets(fleet).await.then_some(())))
        .await;
    Some((crowd, counters))
}

pub(crate) async fn whoever_competes_is_counted_out_where_the_store_counts(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    let written = fleet.entry("api").await.unwrap().revision;
    let before = counters.value(&api()).await.unwrap();
    crowd.during(crowd.more(u64::from(RATE))).await;
    assert!(counters.value(&api()).await.unwrap() > before, "they are counted");
    let lost: u64 = crowd.limiters[0].metrics().cas_failures;
    crowd.during(crowd.more(u64::from(RATE))).await;
    assert_eq!(fleet.entry("api").await.unwrap().revision, written, "nobody writes the value");
    assert_eq!(crowd.limiters[0].metrics().cas_failures, lost, "nobody loses a race");
    crowd.check(1);
    // Whoever has not been there sees what was counted.
    let seen = crowd.limiters[0].key("other").unwrap().peek().await.unwrap();
    assert_eq!(seen.remaining, BURST);
    let seen = crowd.limiters[0].peek().await.unwrap();
    assert!(seen.reset_after > Duration::ZERO && seen.remaining < BURST, "{seen:?}");
}

pub(crate) async fn a_rest_leaves_the_whole_burst(fleet: &Fleet) {
    let Some((crowd, _)) = counted_out(fleet).await else { return };
    let whole = async || (crowd.limiters[1].peek().await.unwrap().remaining == BURST).then_some(());
    eventually("the burst is there again", SOON, whole).await;
    assert!(crowd.limiters[2].acquire_n_timeout(BURST, Duration::ZERO).await.unwrap().allowed);
    let next = crowd.limiters[3].acquire_n_timeout(BURST, Duration::ZERO).await.unwrap();
    assert!(!next.allowed, "{next:?}");
}

pub(crate) async fn a_denied_try_costs_no_ticket(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    let mut costly = 0;
    for _ in 0..20 {
        for limiter in &crowd.limiters {
            let before = counters.value(&api()).await.unwrap().unwrap();
            let tried = limiter.acquire_n_timeout(BURST, Duration::ZERO).await.unwrap();
            let after = counters.value(&api()).await.unwrap().unwrap();
            let taken = after - before;
            costly += i32::from(!tried.allowed && (1..CLOSING).contains(&taken));
        }
    }
    assert_eq!(costly, 0);
}

pub(crate) async fn several_limiters_that_must_agree_lose_no_ticket(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    let day = Duration::from_secs(86_400);
    let empty = fleet.limits[0].limiter("empty", Policy::fixed_window(1, day * 300).unwrap());
    let empty = empty.unwrap();
    assert!(empty.try_acquire().await.unwrap().allowed);
    let both = Composite::all([crowd.limiters[0].clone(), empty]);
    let before = counters.value(&api()).await.unwrap().unwrap();
    for _ in 0..BURST * 2 {
        assert!(!both.try_acquire().await.unwrap().decision.allowed);
    }
    let taken = counters.value(&api()).await.unwrap().unwrap() - before;
    assert_eq!(taken % CLOSING, 0, "a denial takes no ticket");
    let whole = async || (crowd.limiters[1].peek().await.unwrap().remaining == BURST).then_some(());
    eventually("the burst is there again", SOON, whole).await;
}

pub(crate) async fn a_reset_reaches_everybody(fleet: &Fleet) {
    let Some((crowd, _)) = counted_out(fleet).await else { return };
    let begun = Instant::now();
    crowd
        .during(async {
            for _ in 0..3 {
                crowd.more(u64::from(RATE) / 4).await;
                assert!(fleet.limits[0].reset("api").await.unwrap());
            }
            crowd.more(u64::from(RATE) / 4).await;
        })
        .await;
    assert!(begun.elapsed() < SOON);
    // What was taken and not yet used when it was reset is used beside the new burst.
    crowd.check(1 + 3 * 3);
}

pub(crate) async fn another_policy_ends_tickets(fleet: &Fleet) {
    let Some((crowd, _)) = counted_out(fleet).await else { return };
    let slower = Policy::per_second(f64::from(RATE) / 2.0).unwrap().burst(BURST).unwrap();
    let other = fleet.limits[0].limiter_with("api", slower, strict()).unwrap();
    crowd
        .during(async {
            for _ in 0..5 {
                assert!(other.acquire().await.unwrap().allowed);
                crowd.granted.fetch_add(1, Ordering::Relaxed);
            }
            assert!(other.metrics().policy_mismatches > 0);
            crowd.more(u64::from(RATE) / 2).await;
        })
        .await;
    crowd.check(1);
}

pub(crate) async fn tickets_that_a_dead_process_ended_end(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    crowd
        .during(async {
            counters.fetch_add(&api(), CLOSING).await.unwrap();
            crowd.more(u64::from(RATE) / 2).await;
        })
        .await;
    assert!(!has_tickets(fleet).await, "who finds that writes it down");
    crowd.check(1);
}

pub(crate) async fn a_counter_that_somebody_deleted_is_noticed(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    crowd.during(crowd.more(u64::from(RATE) / 2)).await;
    crowd
        .during(async {
            assert!(counters.remove(&api()).await.unwrap());
            crowd.more(u64::from(RATE) / 2).await;
        })
        .await;
    // As a reset would be.
    crowd.check(3);
}

pub(crate) async fn counters_that_somebody_deleted_are_made_again(fleet: &Fleet) {
    let Some((crowd, counters)) = counted_out(fleet).await else { return };
    let (store, bucket) = (&fleet.stores()[0], counters.bucket());
    let stream = StreamName::parse(format!("CTR_{bucket}")).unwrap();
    crowd
        .during(async {
            let deleted = store.delete_bucket(BucketKind::Kv, bucket).await.unwrap()
                || store.bus().delete_stream(&stream).await.unwrap();
            assert!(deleted);
            crowd.more(u64::from(RATE) / 2).await;
        })
        .await;
    crowd.check(3);
}

pub(crate) async fn nobody_left_ends_tickets(fleet: &Fleet) {
    if counted_out(fleet).await.is_none() {
        return;
    }
    let over = async || (!has_tickets(fleet).await).then_some(());
    eventually("tickets are over when everybody has been idle", SOON, over).await;
    let seen = fleet.limiters(policy())[0].peek().await.unwrap();
    assert_eq!(seen.remaining, BURST);
}

pub(crate) async fn who_may_not_make_a_bucket_begins_no_tickets(fleet: &Fleet) {
    let bucket = BucketName::parse("rate_limits").unwrap();
    let mut limiters = Vec::new();
    for store in fleet.stores() {
        let limits = Limits::open(Arc::clone(store), &bucket, Open::existing()).await.unwrap();
        limiters.push(limits.limiter_with("api", policy(), strict()).unwrap());
    }
    let (granted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let crowd = Crowd { limiters, begun: Instant::now(), granted, over, killed: false };
    crowd.during(crowd.more(u64::from(RATE))).await;
    crowd.check(1);
    assert!(!has_tickets(fleet).await);
    let buckets = fleet.stores()[0].buckets(BucketKind::Kv).await.unwrap();
    assert_eq!(buckets.len(), 1, "{buckets:?}");
}

/// Answers that are lost and a server that is killed cost tickets, and give none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_gives_no_ticket_twice() {
    let server = NatsServer::start(Release::Newest, ServerOptions::default()).await;
    let proxy = Proxy::start(server.address()).await;
    let mut stores: Vec<Arc<dyn Backend>> = Vec::new();
    for _ in 0..PROCESSES {
        let mut options = ConnectOptions::default();
        options.servers = vec![proxy.url()];
        stores.push(Arc::new(NatsBackend::connect(&options).await.unwrap()));
    }
    let mut limiters = Vec::new();
    for store in &stores {
        let opts = strict().deadline(DEADLINE).on_error(OnError::Closed);
        limiters.push(open(Arc::clone(store)).await.limiter_with("api", policy(), opts).unwrap());
    }
    let kv = stores[0].kv(&BucketName::parse("rate_limits").unwrap(), Open::existing()).await;
    let kv = kv.unwrap();
    let given = async || {
        let entry = kv.get(&api(), Read::Fresh).await.ok()??;
        std::str::from_utf8(&entry.value).unwrap().contains(TICKETS).then_some(())
    };
    let (granted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let crowd = Crowd { limiters, begun: Instant::now(), granted, over, killed: true };
    crowd.during(eventually("tickets", SOON, given)).await;
    crowd
        .during(async {
            proxy.lose_acks(AckLoss::Seeded { seed: 7, per_mille: 100 });
            crowd.more(u64::from(RATE)).await;
            for _ in 0..3 {
                server.kill();
                server.restart().await;
                crowd.more(u64::from(RATE) / 4).await;
            }
            proxy.lose_acks(AckLoss::None);
            crowd.more(u64::from(RATE) / 4).await;
        })
        .await;
    assert!(proxy.acks_lost() > 0);
    crowd.check(1);
}
