//! The bounds that a limiter promises, over random schedules, clocks and crashes.

use std::time::Duration;

use proptest::prelude::*;

use super::policy::Policy;
use super::state::{Ask, State, Taken, Verdict};

/// Some day of the store's clock.
pub(super) const START: u64 = 1_750_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// One call: how long after the last one, how many permits, how long it would wait, whether the
/// process ends or the answer is lost after the state was written, and how far the clock of the
/// caller's process is off.
type Step = (u64, u32, u64, bool, i64);

/// How far off a process's idea of the store's time is, at most.
const CLOCK_ERROR: i64 = 400_000_000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop_oneof![0..50_000_000u64, 0..3_000_000_000u64],
        1..8u32,
        prop_oneof![Just(0), 0..2_000_000_000u64, Just(u64::MAX)],
        prop::bool::weighted(0.1),
        -CLOCK_ERROR..CLOCK_ERROR,
    );
    prop::collection::vec(step, 1..120)
}

/// When, by the true clock, how many permits were used.
fn run(policy: &Policy, steps: &[Step], exact_clocks: bool) -> Vec<(u64, u32)> {
    let (mut state, mut time, mut grants) = (State::default(), START, Vec::new());
    for &(pause, cost, wait, crash, off) in steps {
        time += pause;
        let off = if exact_clocks { 0 } else { off };
        let cost = cost.min(policy.limit());
        let before = state.clone();
        match state.reserve(policy, time.saturating_add_signed(off), Ask { cost, wait }) {
            Verdict::Granted(_) if crash => {}
            Verdict::Granted(slot) => grants.push((slot.saturating_add_signed(-off), cost)),
            Verdict::Denied(_) => assert_eq!(state, before, "a denial costs nothing"),
        }
    }
    grants.sort_unstable();
    grants
}

/// The most permits in any half-open time of this length.
pub(super) fn densest(grants: &[(u64, u32)], length: u64) -> u64 {
    let within = |first: u64| {
        let inside = grants.iter().filter(|(at, _)| (first..first + length).contains(at));
        inside.map(|(_, cost)| u64::from(*cost)).sum()
    };
    grants.iter().map(|(first, _)| within(*first)).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn a_rate_gives_at_most_rate_times_time_and_burst(
        rate in 1..200u32, burst in 1..20u32, length in 1..20_000_000_000u64, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let most = densest(&run(&policy, &steps, true), length);
        prop_assert!(most < length.div_ceil(policy.span) + u64::from(burst));
    }

    #[test]
    fn an_error_of_the_clocks_gives_the_rate_of_that_error_and_no_more(
        rate in 1..200u32, burst in 1..20u32, length in 1..20_000_000_000u64, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let most = densest(&run(&policy, &steps, false), length);
        let error = 2 * CLOCK_ERROR.unsigned_abs();
        prop_assert!(most <= (length + error).div_ceil(policy.span) + u64::from(burst));
    }

    #[test]
    fn permits_that_are_kept_for_later_add_to_no_more_than_the_burst(
        rate in 1..200u32, burst in 1..20u32, length in 1..20_000_000_000u64, steps in steps(),
        late in prop::collection::vec(0.0..=1.0, 120),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let (mut state, mut time, mut uses) = (State::default(), START, Vec::new());
        for ((pause, cost, wait, ahead, _), late) in steps.into_iter().zip(late) {
            time += pause;
            let cost = if ahead { 1 } else { cost.min(burst) };
            let slot = if ahead {
                state.reserve_ahead(&policy, time, time + wait.min(1_000_000_000))
            } else {
                match state.reserve(&policy, time, Ask { cost, wait }) {
                    Verdict::Granted(slot) => Some(slot),
                    Verdict::Denied(_) => None,
                }
            };
            let Some(slot) = slot else { continue };
            let expires = Taken { cost, slot, after: state.at, waits: false }.expires(&policy);
            prop_assert!(expires >= slot);
            let later = Duration::from_nanos(expires - slot).mul_f64(late);
            uses.push((slot + u64::try_from(later.as_nanos()).unwrap(), cost));
        }
        uses.sort_unstable();
        prop_assert!(densest(&uses, length) < length.div_ceil(policy.span) + u64::from(burst));
    }

    /// What is taken ahead of what is there leaves a rested limiter whole, whatever became of it.
    #[test]
    fn permits_taken_of_what_is_there_leave_the_whole_burst_after_a_rest(
        rate in 1..200u32, burst in 2..20u32, steps in steps(),
    ) {
        let policy = Policy::per_second(f64::from(rate)).unwrap().burst(burst).unwrap();
        let (mut state, mut time) = (State::default(), START);
        for (pause, cost, _, _, _) in steps {
            time += pause;
            state.reserve(&policy, time, Ask { cost: 1, wait: 0 });
            let mut arrival = time;
            for _ in 0..cost.min(state.remaining(&policy, time) / 2) {
                let slot = state.reserve_ahead(&policy, time, arrival);
                prop_assert_eq!(slot, Some(time), "it can be used at once");
                arrival += policy.span;
            }
        }
        time += policy.span * u64::from(burst);
        prop_assert_eq!(state.remaining(&policy, time), burst);
    }

    #[test]
    fn refunds_of_one_process_come_back_whole_in_any_order(
        many in 1..30usize, order in prop::collection::vec(any::<u32>(), 30),
    ) {
        let policy = Policy::per_second(1.0).unwrap().burst(40).unwrap();
        let mut state = State { at: START, ..State::default() };
        let mut owed = Vec::new();
        for _ in 0..many {
            let verdict = state.reserve(&policy, START + 1, Ask { cost: 1, wait: u64::MAX });
            let Verdict::Granted(slot) = verdict else { panic!("denied") };
            owed.push(Taken { cost: 1, slot, after: state.at, waits: false });
        }
        let mut refunds: Vec<_> = owed.into_iter().zip(order).collect();
        refunds.sort_unstable_by_key(|(_, order)| *order);
        let mut owed: Vec<Taken> = Vec::new();
        for (refund, _) in refunds {
            owed.push(refund);
            owed.sort_unstable_by_key(|taken| std::cmp::Reverse(taken.after));
            owed.retain(|taken| !state.refund(&policy, *taken));
        }
        prop_assert_eq!((state.at, owed.len()), (START, 0));
    }

    #[test]
    fn a_log_holds_any_window(limit in 1..20u32, window in 1..5_000u64, steps in steps()) {
        let window = Duration::from_millis(window);
        let policy = Policy::sliding_log(limit, window).unwrap();
        let most = densest(&run(&policy, &steps, true), policy.span);
        prop_assert!(most <= u64::from(limit));
    }

    #[test]
    fn a_fixed_window_holds_its_windows(
        limit in 1..20u32, window in 1..5_000u64, steps in steps(),
    ) {
        let policy = Policy::fixed_window(limit, Duration::from_millis(window)).unwrap();
        let mut windows = std::collections::BTreeMap::<u64, u32>::new();
        for (at, cost) in run(&policy, &steps, true) {
            *windows.entry(at / policy.span).or_default() += cost;
        }
        prop_assert!(windows.values().all(|taken| *taken <= limit), "{windows:?}");
    }

    #[test]
    fn a_sliding_window_weighs_the_one_before(
        limit in 1..20u32, window in 1..5_000u64, steps in steps(),
    ) {
        let policy = Policy::sliding_window(limit, Duration::from_millis(window)).unwrap();
        let grants = run(&policy, &steps, true);
        let count = |from: u64, to: u64| -> u128 {
            let inside = grants.iter().filter(|(at, _)| (from..=to).contains(at));
            inside.map(|(_, cost)| u128::from(*cost)).sum()
        };
        for (at, _) in &grants {
            let start = at - at % policy.span;
            let view = u128::from(start + policy.span - at);
            let weight = count(start - policy.span, start - 1) * view;
            let most = (u128::from(limit) - count(start, *at)) * u128::from(policy.span);
            prop_assert!(weight <= most);
        }
    }

    #[test]
    fn a_denial_names_the_time_from_which_it_is_none(
        kind in 0..4u8, limit in 1..20u32, steps in steps(), cost in 1..20u32,
    ) {
        let window = Duration::from_millis(700);
        let policy = match kind {
            0 => Policy::per_period(limit, window).unwrap().burst(limit).unwrap(),
            1 => Policy::fixed_window(limit, window).unwrap(),
            2 => Policy::sliding_window(limit, window).unwrap(),
            _ => Policy::sliding_log(limit, window).unwrap(),
        };
        let (mut state, mut time) = (State::default(), START);
        for (pause, cost, wait, _, _) in steps {
            time += pause;
            let cost = cost.min(limit);
            state.reserve(&policy, time, Ask { cost, wait });
        }
        let ask = Ask { cost: cost.min(limit), wait: 0 };
        let remaining = state.remaining(&policy, time);
        match state.clone().reserve(&policy, time, ask) {
            Verdict::Granted(at) => {
                prop_assert_eq!(at, time);
                prop_assert!(remaining >= ask.cost);
            }
            Verdict::Denied(at) => {
                prop_assert!(remaining < ask.cost, "{remaining} of {ask:?} {state:?}");
                prop_assert!(at > time);
                prop_assert_eq!(
                    state.clone().reserve(&policy, at, ask),
                    Verdict::Granted(at)
                );
                let early = state.clone().reserve(&policy, at - 1, ask);
                prop_assert_eq!(early, Verdict::Denied(at));
            }
        }
        let full = state.full_at(&policy).max(time);
        prop_assert_eq!(state.remaining(&policy, full), limit);
    }
}

#[test]
fn an_idle_limiter_gives_its_burst_at_once_and_then_its_rate() {
    let policy = Policy::per_second(10.0).unwrap().burst(3).unwrap();
    let mut state = State::default();
    let mut slots = Vec::new();
    for _ in 0..5 {
        let ask = Ask { cost: 1, wait: u64::MAX };
        let Verdict::Granted(at) = state.reserve(&policy, START, ask) else { panic!("denied") };
        slots.push((at - START) / 1_000_000);
    }
    assert_eq!(slots, [0, 0, 0, 100, 200]);
}

#[test]
fn a_store_clock_set_back_by_a_day_blocks_nobody_for_a_day() {
    let policy = Policy::per_second(10.0).unwrap();
    let mut state = State { at: START + 86_400_000_000_000, ..State::default() };
    let ask = Ask { cost: 1, wait: 0 };
    assert_eq!(state.reserve(&policy, START, ask), Verdict::Granted(START));
    assert!(matches!(state.reserve(&policy, START, ask), Verdict::Denied(_)));
}

#[test]
fn a_log_whose_waiter_was_refunded_gives_nothing_twice() {
    let policy = Policy::sliding_log(5, Duration::from_secs(60)).unwrap();
    let mut state = State::default();
    let ask = |cost| Ask { cost, wait: u64::MAX };
    assert_eq!(state.reserve(&policy, START, ask(5)), Verdict::Granted(START));
    let now = START + 10 * SECOND;
    let Verdict::Granted(slot) = state.reserve(&policy, now, ask(1)) else { panic!("it waits") };
    assert!(slot > now);
    assert!(state.refund(&policy, Taken { cost: 1, slot, after: state.at, waits: true }));
    assert_eq!(state.remaining(&policy, now), 0);
}

#[test]
fn a_window_that_is_used_up_is_remembered_though_the_next_was_refunded() {
    let policy = Policy::fixed_window(100, Duration::from_secs(60)).unwrap();
    let mut state = State::default();
    let ask = |cost| Ask { cost, wait: u64::MAX };
    assert_eq!(state.reserve(&policy, START, ask(100)), Verdict::Granted(START));
    let now = START + SECOND;
    let Verdict::Granted(slot) = state.reserve(&policy, now, ask(1)) else { panic!("it waits") };
    assert!(state.refund(&policy, Taken { cost: 1, slot, after: state.at, waits: true }));
    assert!(slot > now && state.full_at(&policy) >= slot);
}
