//! The bytes of a limiter in its bucket: `docs/formats/limits.md`.

use bytes::Bytes;
use jetbridge_core::{Entry, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::clock::nanos;
use crate::policy::{Algorithm, Policy};
use crate::state::State;

/// The version this crate writes, and the only one it reads.
const VERSION: u32 = 1;

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
    let record = Record { v: VERSION, kind, policy: policy.hash(), state };
    let failed = |error| Error::new(ErrorKind::Internal, "limit.write").caused_by(error);
    serde_json::to_vec(&record).map(Bytes::from).map_err(failed)
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
    if record.v != VERSION {
        return Err(corrupt("a version that this program does not know").with("version", record.v));
    }
    if record.policy == policy.hash() {
        return Ok(Decoded { state: record.state, converted: false });
    }
    let gcra = Algorithm::Gcra;
    let state = if policy.algorithm == gcra && record.kind == gcra.as_str() {
        record.state
    } else {
        // Who has a call under way has it under any policy.
        let held = record.state.held;
        State { held, ..State::exhausted(policy, nanos(entry.written)) }
    };
    Ok(Decoded { state, converted: true })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jetbridge_core::{Key, Revision};

    use super::*;

    /// One line for each algorithm, as 0.1.0 wrote it.
    const GOLDEN: &str = include_str!("../tests/golden/limits-0.1.0.jsonl");
    const WRITTEN: u64 = 1_750_000_000_000_000_000;

    fn policies() -> [Policy; 4] {
        let window = Duration::from_secs(60);
        [
            Policy::per_second(100.0).unwrap().burst(20).unwrap(),
            Policy::fixed_window(10, window).unwrap(),
            Policy::sliding_window(10, window).unwrap(),
            Policy::sliding_log(3, window).unwrap(),
        ]
    }

    fn states() -> [State; 4] {
        let at = WRITTEN + 7;
        [
            State { at, ..State::default() },
            State { at: WRITTEN, taken: 4, ..State::default() },
            State { at, taken: 4, before: 9, ..State::default() },
            State { log: vec![WRITTEN, at], ..State::default() },
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
        let newer = GOLDEN.lines().next().unwrap().replace("\"v\":1", "\"v\":2");
        for value in ["", "1789934512.123456", "{}", &newer] {
            assert_eq!(decode(&rate, &entry(value)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
