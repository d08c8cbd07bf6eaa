//! `coverage.yml`: what is promised, and that a test proves each row of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jetbridge_testkit::coverage::{Coverage, functions};

/// Crates that replicate databases, and have tests of it.
const CRATES: [&str; 3] = ["jetbridge-agent", "jetbridge-cli", "jetbridge-sqlite"];
/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 4] = [("capture", 12), ("hole", 7), ("store", 15), ("bad input", 17)];
/// Tables of tests that macros make, below `tests/it`.
const TABLES: [&str; 2] = ["capture/hole.rs", "capture/shapes.rs"];

/// The tests that the rows of a macro make: a name, a colon, a literal.
fn made_by_macros(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(": ")?;
        rest.starts_with(|first: char| first == '"' || first.is_ascii_digit()).then_some(name)
    });
    rows.map(str::to_owned).collect()
}

#[test]
fn every_row_is_proven_by_a_test_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = CRATES.iter().flat_map(|name| {
        ["src", "tests"].map(|part| functions(&here.join("..").join(name).join(part)))
    });
    let tables = TABLES.iter().map(|table| made_by_macros(&here.join("tests/it").join(table)));
    let known: Vec<_> = places.chain(tables).collect();
    Coverage::read(&here.join("tests/coverage.yml"))
        .holds(&ROWS, |proof| known.iter().any(|names| names.contains(proof)));
}
