//! The bytes of a limiter in its bucket: `docs/formats/limits.md`.

use bytes::Bytes;
use jetbridge_core::{Entry, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::clock::nanos;
use crate::policy::{Algorithm, Policy};
use crate::state::State;

/// The version of this layout.
const VERSION: u32 = 1;
/// The same with tickets: whoever does not know them must not go on from `at`.
const VERSION_TICKETS: u32 = 2;

/// The version that says what is needed to read `state`.
fn version(state: &State) -> u32 {
    if state.tickets.is_some() { VERSION_TICKETS } else { VERSION }
}

#[derive(Debug, Deserialize, Serialize)]
struct Record {
    v: u32,
    /// The algorithm: what the state means.
    kind: String,
    /// [`Policy::hash`] of whoever wrote last.
    policy: String,
    state: State,
}

/// The value to write.
pub(crate) fn encode(policy: &Policy, state: State) -> Result<Bytes> {
    let kind = policy.algorithm.as_str().to_owned();
    let record = Record { v: version(&state), kind, policy: policy.hash(), state };
    let failed = |error| Error::new(ErrorKind::Internal, "limit.write").caused_by(error);
    serde_json::to_vec(&record).map(Bytes::from).map_err(failed)
}

/// True for a value whose permits are counted out beside it, under whatever policy.
pub(crate) fn has_tickets(entry: &Entry) -> bool {
    let record = serde_json::from_slice::<Record>(&entry.value);
    record.is_ok_and(|record| record.state.tickets.is_some())
}

/// What was read, under `policy`.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) state: State,
    /// The value was written under another policy.
    pub(crate) converted: bool,
}

/// Reads a value. One of another policy is converted, by every process to the same: a rate keeps
/// its next free slot under another rate; anything else counts as used up when it was written.
pub(crate) fn decode(policy: &Policy, entry: &Entry) -> Result<Decoded> {
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, "limit.read")
            .because(why)
            .with("key", &entry.key)
            .with("revision", entry.revision)
            .hint("delete the key, or use a bucket of its own for limits")
    };
    let record: Record = serde_json::from_slice(&entry.value)
        .map_err(|error| corrupt("the value is not a limiter's").caused_by(error))?;
    if record.v != version(&record.state) {
        return Err(corrupt("a version that this program does not know").with("version", record.v));
    }
    if record.policy == policy.hash() {
        return Ok(Decoded { state: record.state, converted: false });
    }
    let gcra = Algorithm::Gcra;
    let state = if policy.algorithm == gcra && record.kind == gcra.as_str() {
        record.state
    } else {
        // Who has a call under way has it under any policy; and what is counted elsewhere must
        // be ended there before it is used up here.
        let State { held, tickets, .. } = record.state;
        State { held, tickets, ..State::exhausted(policy, nanos(entry.written)) }
    };
    Ok(Decoded { state, converted: true })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jetbridge_core::{Key, Revision};

    use super::*;
    use crate::tickets::Tickets;

    /// One line for each algorithm, as 0.1.0 wrote it.
    const GOLDEN: &str = include_str!("../tests/golden/limits-0.1.0.jsonl");
    const WRITTEN: u64 = 1_750_000_000_000_000_000;

    fn policies() -> [Policy; 5] {
        let window = Duration::from_secs(60);
        let rate = Policy::per_second(100.0).unwrap().burst(20).unwrap();
        [
            rate,
            Policy::fixed_window(10, window).unwrap(),
            Policy::sliding_window(10, window).unwrap(),
            Policy::sliding_log(3, window).unwrap(),
            rate,
        ]
    }

    fn states() -> [State; 5] {
        let at = WRITTEN + 7;
        let tickets = Tickets { first: 5, span: 10_000_000, until: WRITTEN + 600_000_000_000 };
        [
            State { at, ..State::default() },
            State { at: WRITTEN, taken: 4, ..State::default() },
            State { at, taken: 4, before: 9, ..State::default() },
            State { log: vec![WRITTEN, at], ..State::default() },
            State { at, tickets: Some(tickets), ..State::default() },
        ]
    }

    fn entry(value: &str) -> Entry {
        let written = SystemTime::UNIX_EPOCH + Duration::from_nanos(WRITTEN);
        let value = Bytes::copy_from_slice(value.as_bytes());
        Entry::new(Key::parse("api").unwrap(), value, Revision(7), written)
    }

    #[test]
    fn the_golden_values_are_written_and_read_to_the_byte() {
        let mut lines = GOLDEN.lines();
        for (policy, state) in policies().iter().zip(states()) {
            let line = lines.next().unwrap();
            assert_eq!(encode(policy, state.clone()).unwrap(), line);
            let expected = Decoded { state, converted: false };
            assert_eq!(decode(policy, &entry(line)).unwrap(), expected);
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn another_rate_keeps_the_slot_and_another_algorithm_starts_used_up() {
        let [rate, fixed, ..] = policies();
        let line = GOLDEN.lines().next().unwrap();
        let slower = Policy::per_second(1.0).unwrap();
        let converted = decode(&slower, &entry(line)).unwrap();
        assert_eq!(converted, Decoded { state: states()[0].clone(), converted: true });
        let state = State::exhausted(&fixed, WRITTEN);
        let converted = decode(&fixed, &entry(line)).unwrap();
        assert_eq!(converted, Decoded { state, converted: true });
        assert!(!decode(&rate, &entry(line)).unwrap().converted);
    }

    #[test]
    fn foreign_and_newer_values_are_corrupt() {
        let [rate, ..] = policies();
        let line = |index| GOLDEN.lines().nth(index).unwrap();
        let newer = line(0).replace("\"v\":1", "\"v\":3");
        let (less, more) =
            (line(4).replace("\"v\":2", "\"v\":1"), line(0).replace("\"v\":1", "\"v\":2"));
        for value in ["", "1789934512.123456", "{}", &newer, &less, &more] {
            assert_eq!(decode(&rate, &entry(value)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
