//! `coverage.yml`: what is promised, and that something proves each row of it.

use std::collections::BTreeSet;
use std::path::Path;

use jetbridge_testkit::coverage::{Coverage, functions};

use crate::cases;

/// Crates that use templates, and have tests of them.
const CRATES: [&str; 4] = ["jetbridge", "jetbridge-agent", "jetbridge-cli", "jetbridge-template"];

/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 7] = [
    ("language", 50),
    ("merging", 32),
    ("phases", 10),
    ("command", 19),
    ("errors", 24),
    ("first", 30),
    ("silent", 15),
];

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases: BTreeSet<String> = cases::names().into_iter().collect();
    let tests = CRATES.map(|name| functions(&here.join("..").join(name).join("tests")));
    Coverage::read(&here.join("tests/coverage.yml")).holds(&ROWS, |proof| {
        cases.contains(proof) || tests.iter().any(|names| names.contains(proof))
    });
}
