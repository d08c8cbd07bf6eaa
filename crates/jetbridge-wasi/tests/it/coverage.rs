//! `coverage.yml`: what guests are promised, and that something proves each row of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Crates that have tests of guests.
const CRATES: [&str; 2] = ["jetbridge-cli", "jetbridge-wasi"];
/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 3] = [("beyond", 20), ("conformance", 6), ("semantics", 12)];

/// The names of the functions in `folder` and below.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// The parts of the table: rows, and what proves them.
fn table(text: &str) -> BTreeMap<&str, Vec<(&str, Vec<&str>)>> {
    let mut parts: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut part = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ").map(|row| row.split_once(": [")) {
            None => part = line.trim_end_matches(':'),
            Some(row) => {
                let (row, proofs) = row.unwrap_or_else(|| panic!("{line}"));
                let proofs = proofs.trim_end_matches(']').split(", ").collect();
                parts.entry(part).or_default().push((row, proofs));
            }
        }
    }
    parts
}

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("tests/coverage.yml")).unwrap();
    let table = table(&text);
    let rows: Vec<_> = table.iter().map(|(part, rows)| (*part, rows.len())).collect();
    assert_eq!(rows, ROWS);
    let mut known = BTreeSet::new();
    for name in CRATES {
        functions(&here.join("..").join(name).join("tests"), &mut known);
    }
    for (row, proofs) in table.values().flatten() {
        for proof in proofs {
            assert!(known.contains(*proof), "`{row}`: there is no `{proof}`");
        }
    }
}
