//! How many permits a process takes ahead while no other one is met: none, until its callers
//! prove to come again and again; then what they use while the next write is under way.
//!
//! Pure. Such permits are taken only from what is there at the moment, never from the future, and
//! at most half of it. So whatever becomes of them, a limiter that rests for burst / rate has its
//! whole burst again, and who comes meanwhile finds the other half.

use std::time::Duration;

use tokio::time::Instant;

/// So many writes must follow each other closely before anything is taken ahead: a few calls in a
/// row are no demand.
const PROOFS: u32 = 16;
/// Most permits that one write takes ahead.
const BLOCK_MAX: u32 = 1_024;
/// Writes follow each other closely within so many round trips, and the time below.
const CLOSE_TRIPS: u32 = 4;
const CLOSE: Duration = Duration::from_millis(2);
/// The block doubles while writes follow each other within so many round trips, and the time
/// below: then half of it did not last as long as the next write takes, with some to spare.
const SHORT_TRIPS: u32 = 2;
const SHORT: Duration = Duration::from_micros(500);
/// What nobody takes for so many round trips, and the time below, is put back.
const IDLE_TRIPS: u32 = 4;
const IDLE: Duration = Duration::from_millis(5);

/// How closely the writes of one limiter follow each other in this process.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    proofs: u32,
    block: u32,
}

impl Pace {
    /// Permits were wanted and written at `now`, by a store with this round trip.
    pub(crate) fn wrote(&mut self, now: Instant, trip: Duration) {
        let since = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        let within = |trips: u32, time: Duration| since.is_some_and(|it| it <= trip * trips + time);
        if !within(CLOSE_TRIPS, CLOSE) {
            (self.proofs, self.block) = (0, self.block / 2);
        } else if self.proofs < PROOFS {
            self.proofs += 1;
        } else if within(SHORT_TRIPS, SHORT) {
            self.block = (self.block * 2).clamp(1, BLOCK_MAX);
        }
    }

    /// Nobody wants any more.
    pub(crate) fn rested(&mut self) {
        *self = Self::default();
    }

    /// How many permits a write takes ahead.
    pub(crate) fn block(&self) -> u32 {
        self.block
    }

    /// How long permits lie before they are put back.
    pub(crate) fn idle(trip: Duration) -> Duration {
        trip * IDLE_TRIPS + IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_micros(100);

    #[test]
    fn only_who_comes_again_and_again_takes_ahead_and_no_more_than_it_uses() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut write = |pace: &mut Pace, pause: Duration| {
            now += pause;
            pace.wrote(now, TRIP);
        };
        for _ in 0..=PROOFS {
            assert_eq!(pace.block(), 0);
            write(&mut pace, TRIP);
        }
        for block in [1, 2, 4, 8] {
            write(&mut pace, TRIP);
            assert_eq!(pace.block(), block);
        }
        write(&mut pace, SHORT * 2);
        assert_eq!(pace.block(), 8, "half of it lasts long enough");
        write(&mut pace, CLOSE * 2);
        assert_eq!(pace.block(), 4, "nobody was in a hurry");
        pace.rested();
        assert_eq!(pace.block(), 0);
    }
}
