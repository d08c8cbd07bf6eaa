//! `coverage.yml`: what the HTTP API promises, and that something proves each row of it.

use std::path::Path;

use jetbridge_testkit::coverage::{Coverage, functions};

/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 3] = [("access", 10), ("clients", 11), ("operations", 11)];

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known: Vec<_> = ["src", "tests"].map(|part| functions(&here.join(part))).into();
    Coverage::read(&here.join("tests/coverage.yml"))
        .holds(&ROWS, |proof| known.iter().any(|names| names.contains(proof)));
}
