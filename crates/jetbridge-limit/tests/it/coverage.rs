//! `coverage.yml`: what is promised, and that something proves each row of it.

use std::path::Path;

use jetbridge_testkit::coverage::{Coverage, functions};

/// Crates that limit, and have tests of it.
const CRATES: [&str; 4] = ["jetbridge", "jetbridge-agent", "jetbridge-cli", "jetbridge-limit"];

/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 5] =
    [("accuracy", 11), ("concurrency", 11), ("faults", 17), ("interface", 13), ("page", 7)];

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = CRATES.iter().flat_map(|name| {
        ["src", "tests"].map(|part| functions(&here.join("..").join(name).join(part)))
    });
    let known: Vec<_> = places.collect();
    Coverage::read(&here.join("tests/coverage.yml"))
        .holds(&ROWS, |proof| known.iter().any(|names| names.contains(proof)));
}
