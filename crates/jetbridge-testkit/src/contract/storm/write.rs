//! Writes in a storm: what is acknowledged is there, what is refused is not, nothing is doubled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use jetbridge_core::{
    AppendOpts, Backoff, ErrorKind, Expect, IncrementOpts, Kv, Outcome, PutOpts, Read, Scope,
};

use super::{ACKS_LOST, Progress};
use crate::contract::bus::steps::Corner;
use crate::contract::object::steps::{chunked, collect, name, pattern, whole};
use crate::contract::steps::{bytes, key, names, patience};
use crate::eventually;

cases! { $ __storm_write = storm::write;
    /// Increments are counted once each, and nobody is told a sum twice.
    async fn counting_stays_exact(f) {
        const TASKS: usize = 4;
        const ROUNDS: usize = 50;
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let progress = Progress::default();
        f.storm().lose_acks(ACKS_LOST);
        let tasks = (0..TASKS).map(|task| {
            let (kv, progress) = (if task % 2 == 0 { &ours } else { &theirs }, &progress);
            async move {
                let mut sums = Vec::new();
                let mut backoff = Backoff::outage();
                while sums.len() < ROUNDS {
                    let opts = IncrementOpts::new().deadline(patience());
                    match kv.increment(&key("n"), 1, opts).await {
                        Ok(sum) => sums.push(sum),
                        Err(error) => {
                            assert!(error.is_retryable(), "not settled: {error:?}");
                            backoff.wait().await;
                            continue;
                        }
                    }
                    progress.step();
                }
                sums
            }
        });
        let blows = progress.blows(f.storm(), TASKS * ROUNDS);
        let (sums, ()) = join(join_all(tasks), blows).await;
        f.storm().lose_acks(0);
        let different: BTreeSet<i64> = sums.into_iter().flatten().collect();
        let total = i64::try_from(TASKS * ROUNDS).unwrap();
        assert_eq!(different, (1..=total).collect::<BTreeSet<i64>>());
        assert_eq!(settled(&ours, "n").await, Some(total.to_string()));
    }

    /// What was acknowledged is there, what was certainly not applied is not, and what nobody
    /// knows is whole or not there.
    async fn outcomes_are_true(f) {
        const COUNT: usize = 200;
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        let progress = Progress::default();
        f.storm().lose_acks(ACKS_LOST);
        let writes = async {
            let mut outcomes = Vec::new();
            for at in 0..COUNT {
                let kv = if at % 2 == 0 { &ours } else { &theirs };
                let name = format!("k{at:03}");
                let put = kv.put(&key(&name), bytes(&name), PutOpts::create()).await;
                outcomes.push((name, put.map_err(|error| (error.kind(), error.outcome()))));
                progress.step();
            }
            outcomes
        };
        let (outcomes, ()) = join(writes, progress.blows(f.storm(), COUNT)).await;
        f.storm().lose_acks(0);
        assert!(f.storm().acks_lost() > 0, "there was no storm");
        let mut acknowledged = 0;
        for (name, outcome) in outcomes {
            let found = settled(&theirs, &name).await;
            match outcome {
                Ok(_) => {
                    assert_eq!(found.as_ref(), Some(&name), "acknowledged and gone");
                    acknowledged += 1;
                }
                Err((kind, Outcome::NotApplied)) => {
                    assert_eq!(found, None, "{name} is there in spite of {kind:?}");
                }
                Err((_, Outcome::Unknown)) => {
                    assert!(found.is_none() || found.as_ref() == Some(&name), "{found:?}");
                }
            }
        }
        assert!(acknowledged > COUNT / 2, "only {acknowledged} of {COUNT} came through");
    }

    /// A chain of conditional writes, each over the one before, has no gap and no fork.
    async fn conditions_hold(f) {
        const COUNT: usize = 100;
        let kv = f.kv().await;
        let progress = Progress::default();
        f.storm().lose_acks(ACKS_LOST);
        let chain = async {
            let mut done = 0;
            while done < COUNT {
                let Ok(entry) = kv.get(&key("a"), Read::Fresh).await else {
                    Backoff::outage().wait().await;
                    continue;
                };
                let expect = entry.as_ref().map_or(Expect::Absent, |it| Expect::Exactly(it.revision));
                let value = entry.map_or(0, |entry| {
                    String::from_utf8_lossy(&entry.value).parse::<usize>().unwrap()
                });
                // A lost acknowledgement shows here: the write before this one may have landed.
                assert!(value == done || value == done + 1, "{value} after {done}");
                done = value;
                let put = PutOpts::new().expect(expect);
                if kv.put(&key("a"), bytes((value + 1).to_string()), put).await.is_ok() {
                    done += 1;
                }
                progress.step();
            }
        };
        join(chain, progress.blows(f.storm(), COUNT)).await;
        f.storm().lose_acks(0);
    }

    /// A message with an id, sent until it is acknowledged, is kept once.
    async fn ids_are_kept_once(f) {
        const COUNT: usize = 100;
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        let progress = Progress::default();
        f.storm().lose_acks(ACKS_LOST);
        let appends = async {
            for at in 0..COUNT {
                let bus = if at % 2 == 0 { &corner.ours } else { &corner.theirs };
                let text = at.to_string();
                let mut backoff = Backoff::outage();
                while let Err(error) =
                    bus.append(corner.message("a", &text), AppendOpts::new().id(&text)).await
                {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                    backoff.wait().await;
                }
                progress.step();
            }
        };
        join(appends, progress.blows(f.storm(), COUNT)).await;
        f.storm().lose_acks(0);
        assert!(f.storm().acks_lost() > 0, "there was no storm");
        let expected: Vec<String> = (0..COUNT).map(|at| at.to_string()).collect();
        assert_eq!(corner.texts(&stream).await, expected);
    }

    /// An object is there whole if its put says so, and not there if it does not.
    async fn objects_are_whole_or_nothing(f) {
        const COUNT: u64 = 12;
        let objects = f.objects().await;
        let progress = Progress::default();
        f.storm().lose_acks(ACKS_LOST / 10);
        let puts = async {
            let mut put = Vec::new();
            for at in 0..COUNT {
                let data = pattern(700_000, at);
                let done = objects.put(&name(format!("o{at}")), whole(&data), chunked()).await;
                put.push(done.map_err(|error| error.outcome()));
                progress.step();
            }
            put
        };
        let steps = usize::try_from(COUNT).unwrap();
        let (put, ()) = join(puts, progress.blows(f.storm(), steps)).await;
        f.storm().lose_acks(0);
        for (at, done) in (0..COUNT).zip(put) {
            let target = name(format!("o{at}"));
            let found = eventually("the object is read", patience(), async || {
                let found = objects.get(&target, None).await.ok()?;
                let Some(found) = found else { return Some(None) };
                Some(Some(collect(found.body).await.ok()?))
            })
            .await;
            match (found, done) {
                (Some(found), Ok(_) | Err(Outcome::Unknown)) => {
                    crate::contract::object::steps::same(&found, &pattern(700_000, at));
                }
                (None, Err(_)) => {}
                (found, done) => panic!("o{at}: there: {}, {done:?}", found.is_some()),
            }
        }
    }

    /// Listings and reads come right again when the storm is over.
    async fn calm_follows(f) {
        let ours = f.kv().await;
        let theirs = f.peer_kv(&ours).await;
        for round in 0..3 {
            let name = format!("k{round}");
            eventually("a write comes through", patience(), async || {
                ours.put(&key(&name), bytes("1"), PutOpts::new()).await.ok()
            })
            .await;
            if round % 2 == 0 { f.storm().cut().await } else { f.storm().restart().await }
            let found = settled(&theirs, &name).await;
            assert_eq!(found.as_deref(), Some("1"));
        }
        assert_eq!(names(&ours, Scope::All).await.len(), 3);
        tokio::time::timeout(Duration::from_secs(60), f.backend.status())
            .await
            .expect("an answer")
            .unwrap();
    }
}

/// The value of a key once the store answers again.
async fn settled(kv: &Arc<dyn Kv>, name: &str) -> Option<String> {
    let entry = eventually("the key is read", patience(), async || {
        kv.get(&key(name), Read::Fresh).await.ok()
    })
    .await;
    entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}
