//! The bound of a rate over processes that begin tickets, take some, end them and die in between,
//! each with an idea of the value that may be old.

use proptest::prelude::*;

use super::policy::Policy;
use super::state::{Ask, State, Verdict};
use super::state_tests::{START, densest};
use super::tickets::{CLOSING, Count, Run, Tickets, jump};

const PROCESSES: usize = 4;
const SPAN_MAX: u64 = 20_000_000_000;
/// Long, so that much is jumped over.
const ROUND_TRIP: u64 = 1_000_000_000;

/// What a process does when it is its turn.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// It asks for a permit, as its idea of the value says.
    Ask,
    /// The same, and what it writes begins tickets.
    Begin,
    /// It ends tickets, and writes what follows.
    End,
    /// It ends tickets, and dies.
    EndAndDie,
    /// It hears what the value is.
    Hear,
}

/// Which process, how long after the last step, what it does, how many permits, and how long it
/// would wait.
type Step = (usize, u64, Act, u32, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        8 => Just(Act::Ask),
        2 => Just(Act::Begin),
        1 => Just(Act::End),
        1 => Just(Act::EndAndDie),
        4 => Just(Act::Hear),
    ];
    let pause = prop_oneof![4 => 0..20_000_000u64, 1 => 0..3_000_000_000u64];
    let wait = prop_oneof![Just(0), 0..2_000_000_000u64, Just(u64::MAX)];
    prop::collection::vec((0..PROCESSES, pause, act, 1..6u32, wait), 1..200)
}

/// A value and its revision.
type Value = (u64, State);

/// A store, what each process believes, and what was granted.
struct World {
    policy: Policy,
    now: u64,
    stored: Value,
    sum: i64,
    ideas: [Value; PROCESSES],
    /// What each knew of the counter last: never more than it has.
    sums: [i64; PROCESSES],
    grants: Vec<(u64, u32)>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let value = Value::default();
        let ideas = std::array::from_fn(|_| value.clone());
        let (sum, sums) = (0, [0; PROCESSES]);
        Self { policy, now: START, stored: value, sum, ideas, sums, grants: Vec::new() }
    }

    fn add(&mut self, n: u64) -> i64 {
        self.sum += i64::try_from(n).unwrap();
        self.sum
    }

    /// Writes over what the process believes; false if that is not what is stored.
    fn write(&mut self, process: usize, state: State) -> bool {
        let won = self.ideas[process].0 == self.stored.0;
        if won {
            self.stored = (self.stored.0 + 1, state);
        }
        self.ideas[process] = self.stored.clone();
        won
    }

    fn end(&mut self, process: usize, tickets: Tickets) {
        let sum = self.add(CLOSING.unsigned_abs());
        let (policy, now) = (self.policy, self.now);
        let state = self.ideas[process].1.clone();
        self.write(process, state.without_tickets(&policy, now, tickets.count(sum, 0)));
    }

    fn step(&mut self, (process, pause, act, cost, wait): Step) {
        self.now += pause;
        let ask = Ask { cost: cost.min(self.policy.limit()), wait };
        let tickets = self.ideas[process].1.tickets;
        match (act, tickets) {
            (Act::Hear, _) => self.ideas[process] = self.stored.clone(),
            (Act::End, Some(tickets)) => self.end(process, tickets),
            (Act::EndAndDie, Some(_)) => {
                self.add(CLOSING.unsigned_abs());
                self.ideas[process] = self.stored.clone();
            }
            (Act::Ask | Act::Begin, Some(tickets)) => self.take(process, tickets, ask),
            (Act::Ask | Act::End | Act::EndAndDie, None) => self.reserve(process, ask, false),
            (Act::Begin, None) => self.reserve(process, ask, true),
        }
    }

    fn reserve(&mut self, process: usize, ask: Ask, begins: bool) {
        let mut state = self.ideas[process].1.clone();
        let Verdict::Granted(slot) = state.reserve(&self.policy, self.now, ask) else { return };
        if begins {
            state.at = state.at.max(self.now - self.policy.saved_ns());
            state.tickets = Some(Tickets::new(self.sum, &self.policy, self.now));
        }
        if self.write(process, state) {
            self.grants.push((slot, ask.cost));
        }
    }

    fn take(&mut self, process: usize, tickets: Tickets, ask: Ask) {
        let (cost, at) = (u64::from(ask.cost), self.ideas[process].1.at);
        let Count::Open(known) = tickets.count(self.sum, 0) else {
            // It would find that after it added.
            self.add(cost);
            self.ideas[process] = self.stored.clone();
            if self.stored.1.tickets == Some(tickets) {
                self.end(process, tickets);
            }
            return;
        };
        let known = match tickets.count(self.sums[process], 0) {
            Count::Open(before) => before.min(known),
            Count::Ended(_) | Count::Foreign(_) => 0,
        };
        let next = tickets.next(at, known);
        let Some(jump) = jump(&self.policy, self.now, next, ROUND_TRIP) else {
            return self.end(process, tickets);
        };
        let own = cost + jump;
        self.sums[process] = self.add(own);
        let Count::Open(taken) = tickets.count(self.sum, 0) else { panic!("it was open") };
        let base = tickets.next(at, taken - own);
        let mut run = Run { base, left: own, span: tickets.span };
        run.pass(self.now - self.policy.saved_ns());
        let slot = run.slot(cost).map(|slot| slot.max(self.now));
        assert!(slot.is_some(), "what was jumped over leaves the permits that were asked for");
        let latest = self.now.saturating_add(ask.wait);
        if let Some(slot) = slot.filter(|slot| *slot <= latest) {
            self.grants.push((slot, ask.cost));
            run.take(cost);
        }
        // Others of its callers use what is left and there.
        while run.slot(1).is_some_and(|slot| slot <= self.now) {
            self.grants.push((self.now, 1));
            run.take(1);
        }
    }
}

proptest! {
    #[test]
    fn a_rate_whose_permits_are_counted_out_gives_no_more(
        rate in 1..2000u32, burst in 1..20u32, length in 1..SPAN_MAX, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let mut world = World::new(policy);
        steps.into_iter().for_each(|step| world.step(step));
        world.grants.sort_unstable();
        let most = densest(&world.grants, length);
        prop_assert!(most < length.div_ceil(policy.span) + u64::from(burst));
    }
}

/// Rests of any length leave the burst, whole and at once, whoever asks.
#[test]
fn a_limiter_that_rested_gives_its_burst_at_once() {
    let policy = Policy::per_second(100.0).unwrap().burst(10).unwrap();
    for rest in [100_000_000, 150_000_000, 10_000_000_000, 3_600_000_000_000] {
        let mut world = World::new(policy);
        world.step((0, 0, Act::Begin, 1, 0));
        world.step((0, 0, Act::Ask, 9, 0));
        assert_eq!(world.grants, [(START, 1), (START, 9)]);
        world.step((0, rest, Act::Ask, 1, 0));
        world.step((0, 0, Act::Ask, 9, 0));
        world.step((1, 0, Act::Hear, 1, 0));
        world.step((1, 0, Act::Ask, 9, 0));
        world.step((1, 0, Act::Ask, 1, 0));
        let late: u32 = world.grants.iter().filter(|it| it.0 > START).map(|it| it.1).sum();
        assert_eq!(late, 10, "{rest}: {:?}", world.grants);
    }
}
