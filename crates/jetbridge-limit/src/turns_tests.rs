//! What a rate promises while callers come, wait, go away and move up; and who is first.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::Revision;
use proptest::prelude::*;
use tokio::time::Instant;

use super::holding::Lease;
use super::message::Unused;
use super::policy::Policy;
use super::state::{Ask, State, Taken, Verdict};
use super::turns::{Turn, Turns};
use super::{Decision, Source};

/// Some day of the store's clock.
const START: u64 = 1_750_000_000_000_000_000;

/// What happens next: how long after the last, and a caller that comes for so many permits, or
/// one of those who wait that goes away.
type Step = (u64, u32, Option<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gone = prop::option::weighted(0.4, any::<usize>());
    prop::collection::vec((0..400_000_000u64, 1..4u32, gone), 1..150)
}

/// A process at a store of its own.
struct Process {
    policy: Policy,
    state: State,
    time: u64,
    begun: Instant,
    turns: Turns,
    /// Who waits, in the order of arrival: a number, what it asked for, and its turn.
    waiting: Vec<(usize, u32, Arc<Turn>)>,
    spare: Vec<Unused>,
    /// What was given back and nobody has looked at yet.
    inbox: Vec<Unused>,
    /// When, how many, by whom.
    uses: Vec<(u64, u32, usize)>,
}

impl Process {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::default(),
            time: START,
            begun: Instant::now(),
            turns: Turns::default(),
            waiting: Vec::new(),
            spare: Vec::new(),
            inbox: Vec::new(),
            uses: Vec::new(),
        }
    }

    fn instant(&self, at: u64) -> Instant {
        self.begun + Duration::from_nanos(at - START)
    }

    fn now(&self) -> Instant {
        self.instant(self.time)
    }

    /// Lets time pass: whoever's turn has come uses it, at that time or when it was told.
    fn pass(&mut self, until: u64) {
        loop {
            let due = |turn: &Turn| turn.ready().unwrap().max(self.now());
            let Some(next) = (0..self.waiting.len()).min_by_key(|at| due(&self.waiting[*at].2))
            else {
                break;
            };
            let ready = due(&self.waiting[next].2);
            if ready > self.instant(until) {
                break;
            }
            let (caller, cost, turn) = self.waiting.remove(next);
            let unused = turn.take().unwrap();
            assert!(ready <= unused.expires && unused.taken.cost == cost, "it is good for nothing");
            let at = START + u64::try_from((ready - self.begun).as_nanos()).unwrap();
            self.uses.push((at, cost, caller));
        }
        self.time = until;
    }

    fn come(&mut self, caller: usize, cost: u32) {
        let now = self.now();
        self.spare.retain(|unused| unused.expires >= now);
        self.spare.sort_by_key(|unused| unused.ready);
        let fits = self.spare.iter().position(|unused| unused.taken.cost == cost);
        let unused = match fits {
            Some(index) => self.spare.remove(index),
            None => {
                let ask = Ask { cost, wait: u64::MAX };
                let Verdict::Granted(slot) = self.state.reserve(&self.policy, self.time, ask)
                else {
                    return;
                };
                let waits = slot > self.time;
                self.unused(Taken { cost, slot, after: self.state.at, waits })
            }
        };
        let turn = Arc::new(Turn::new(unused));
        self.turns.add(&turn, now);
        self.waiting.push((caller, cost, turn));
    }

    fn unused(&self, taken: Taken) -> Unused {
        let decision = Decision {
            allowed: true,
            limit: 1,
            remaining: 0,
            retry_after: Duration::ZERO,
            reset_after: Duration::ZERO,
            source: Source::Store,
        };
        Unused {
            taken,
            slots: 0,
            ready: self.instant(taken.slot),
            expires: self.instant(taken.expires(&self.policy)),
            decision,
            token: Revision(1),
            lease: Lease::new(),
        }
    }

    fn go_away(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let (_, _, turn) = self.waiting.remove(which % self.waiting.len());
        self.inbox.push(turn.take().unwrap());
    }

    fn hear(&mut self) {
        for given in std::mem::take(&mut self.inbox) {
            let left = self.turns.move_up(given, self.now());
            self.spare.push(left);
        }
    }
}

fn run(policy: Policy, steps: Vec<Step>, cost_max: u32) -> Process {
    let mut process = Process::new(policy);
    for (caller, (pause, cost, gone)) in steps.into_iter().enumerate() {
        process.pass(process.time + pause);
        // The store has kept the process busy since the last step.
        process.hear();
        match gone {
            Some(which) => process.go_away(which),
            None => process.come(caller, cost.min(cost_max)),
        }
    }
    let end = process.time + 100_000_000_000;
    process.pass(end);
    assert!(process.waiting.is_empty(), "somebody was forgotten");
    process
}

proptest! {
    #[test]
    fn whoever_moves_up_adds_nothing_to_the_rate(
        rate in 2..40u32, burst in 1..6u32, length in 1..20_000_000_000u64, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let uses = run(policy, steps, burst).uses;
        let within = |first: u64| {
            let inside = uses.iter().filter(|(at, ..)| (first..first + length).contains(at));
            inside.map(|(_, cost, _)| u64::from(*cost)).sum::<u64>()
        };
        let most = uses.iter().map(|(first, ..)| within(*first)).max().unwrap_or(0);
        prop_assert!(most < length.div_ceil(policy.span) + u64::from(burst));
    }

    #[test]
    fn nobody_overtakes_who_asked_for_as_many_before(
        rate in 2..40u32, burst in 1..6u32, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let uses = run(policy, steps, burst).uses;
        for (index, (at, cost, caller)) in uses.iter().enumerate() {
            let later = uses[index + 1..].iter().filter(|(_, other, _)| other == cost);
            for (when, _, other) in later {
                prop_assert!(other > caller || when == at, "{caller} at {at} before {other}");
            }
        }
    }

    #[test]
    fn who_goes_away_costs_those_behind_no_time(many in 2..40usize, gone in any::<usize>()) {
        let policy = Policy::per_second(1.0).unwrap();
        let mut process = Process::new(policy);
        (0..many).for_each(|caller| process.come(caller, 1));
        let times = |process: &Process| -> Vec<Instant> {
            process.waiting.iter().map(|(_, _, turn)| turn.ready().unwrap()).collect()
        };
        let before = times(&process);
        // The first one's time has come: it waits for nothing.
        process.waiting.rotate_left(1);
        process.go_away(gone % (many - 1));
        process.hear();
        process.waiting.rotate_right(1);
        prop_assert_eq!(times(&process), &before[..many - 1]);
        prop_assert_eq!(process.spare[0].ready, before[many - 1]);
    }
}
