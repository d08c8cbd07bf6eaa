//! `coverage.yml`: what is promised, and that something proves each row of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Crates that limit, and have tests of it.
const CRATES: [&str; 4] = ["jetbridge", "jetbridge-agent", "jetbridge-cli", "jetbridge-limit"];

/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 5] =
    [("accuracy", 11), ("concurrency", 11), ("faults", 16), ("interface", 13), ("page", 7)];

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

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("tests/coverage.yml")).unwrap();
    let table: BTreeMap<String, BTreeMap<String, Vec<String>>> =
        serde_saphyr::from_str(&text).unwrap();
    let rows: Vec<_> = table.iter().map(|(part, rows)| (part.as_str(), rows.len())).collect();
    assert_eq!(rows, ROWS);
    let mut known = BTreeSet::new();
    for name in CRATES {
        for part in ["src", "tests"] {
            functions(&here.join("..").join(name).join(part), &mut known);
        }
    }
    for (row, proofs) in table.values().flatten() {
        assert!(!proofs.is_empty(), "nothing proves `{row}`");
        for proof in proofs {
            assert!(known.contains(proof), "`{row}`: there is no `{proof}`");
        }
    }
}
