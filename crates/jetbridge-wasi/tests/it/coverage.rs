//! `coverage.yml`: what guests are promised, and that something proves each row of it.

use std::path::Path;

use jetbridge_testkit::coverage::{Coverage, functions};

/// Crates that have tests of guests.
const CRATES: [&str; 2] = ["jetbridge-cli", "jetbridge-wasi"];
/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 3] = [("beyond", 22), ("conformance", 6), ("semantics", 12)];

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = CRATES.map(|name| functions(&here.join("..").join(name).join("tests")));
    Coverage::read(&here.join("tests/coverage.yml"))
        .holds(&ROWS, |proof| tests.iter().any(|names| names.contains(proof)));
}
