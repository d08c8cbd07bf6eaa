//! The memory of `up` while it is under load.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetbridge_core::Tasks;
use tokio::time::{Instant, interval};

use crate::facts::{self, Memory as Figure};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How much more it may hold in the last fifth of the time than in the second: medians are
/// compared. What is kept of histories, figures and connections has its place in this; a leak of 23
/// KiB a second does not, in half an hour.
const GROWTH_KIB_MAX: u64 = 24 << 10;
/// How much it may hold at all. Objects, restores and what a disk that is full keeps waiting pass
/// through it.
const PEAK_KIB_MAX: u64 = 512 << 10;

/// Samples, each with its time.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    samples: Arc<Mutex<Vec<(Duration, u64)>>>,
    time: Duration,
}

impl Memory {
    /// Looks at process `pid`, until `tasks` stop, in a soak of `time`.
    pub(super) fn follow(pid: u32, time: Duration, tasks: &Tasks) -> Self {
        let this = Self { samples: Arc::default(), time };
        let (memory, begun) = (this.clone(), Instant::now());
        tasks.spawn_until_stop(async move {
            let mut looks = interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                // A process that is gone is missed elsewhere.
                let Ok(kib) = facts::memory_kib(pid, Figure::Now) else { return };
                let mut samples = memory.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push((begun.elapsed(), kib));
            }
        });
        this
    }

    /// The median of a fifth of the time, counted from 0.
    fn fifth(&self, number: u32) -> u64 {
        let (from, to) = (self.time * number / 5, self.time * (number + 1) / 5);
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let within = samples.iter().filter(|(at, _)| (from..to).contains(at));
        let mut kib: Vec<u64> = within.map(|(_, kib)| *kib).collect();
        kib.sort_unstable();
        kib.get(kib.len() / 2).copied().unwrap_or_default()
    }

    fn peak(&self) -> u64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().map(|(_, kib)| *kib).max().unwrap_or_default()
    }

    /// What is over a bound.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let grown = self.fifth(4).saturating_sub(self.fifth(1));
        if grown > GROWTH_KIB_MAX {
            problems.push(format!("it grew by {grown} KiB, {GROWTH_KIB_MAX} are allowed"));
        }
        if self.peak() > PEAK_KIB_MAX {
            problems.push(format!("{} KiB at most, {PEAK_KIB_MAX} are allowed", self.peak()));
        }
        problems
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory, medians of fifths in MiB:")?;
        for number in 0..5 {
            write!(f, " {:.1}", self.fifth(number) as f64 / 1024.0)?;
        }
        write!(f, "; at most {:.1}", self.peak() as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample a second in which the memory grows by so much each.
    fn growing(kib_a_second: u64, seconds: u64) -> Memory {
        let sample = |second| (Duration::from_secs(second), 50 * 1024 + second * kib_a_second);
        let samples = (0..seconds).map(sample).collect();
        Memory { samples: Arc::new(Mutex::new(samples)), time: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_leak_is_told_from_what_stays() {
        assert!(growing(0, 1800).problems().is_empty());
        assert_eq!(growing(24, 1800).problems().len(), 1);
        assert_eq!(growing(1024, 1800).problems().len(), 2);
    }
}
