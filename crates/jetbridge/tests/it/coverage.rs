//! `coverage.yml`: what the foundation promises, and that something proves each row of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many rows each part of the table has: none gets lost.
const ROWS: [(&str, usize); 11] = [
    ("bad input", 16),
    ("command", 14),
    ("core", 16),
    ("counting", 3),
    ("evo facts", 10),
    ("evo page", 36),
    ("evo wishes", 18),
    ("local", 8),
    ("nats", 53),
    ("settings", 4),
    ("up", 9),
];

/// What the first word of a proof stands for, in `crates`.
const PLACES: [(&str, &str); 8] = [
    ("agent", "jetbridge-agent"),
    ("cli", "jetbridge-cli"),
    ("core", "jetbridge-core"),
    ("evo", "jetbridge/tests/it/connector"),
    ("facade", "jetbridge"),
    ("local", "jetbridge-local"),
    ("nats", "jetbridge-nats"),
    ("testkit", "jetbridge-testkit"),
];

/// The file that a proof is in, and the name of its test.
fn find(proof: &str) -> Option<(PathBuf, &str)> {
    let (place, rest) = proof.split_once(' ')?;
    let (module, test) = rest.split_once("::")?;
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if place == "contract" {
        return Some((crates.join(format!("jetbridge-testkit/src/contract/{module}.rs")), test));
    }
    let (_, directory) = PLACES.iter().find(|(word, _)| *word == place)?;
    let below = if place == "evo" || module.starts_with("src/") { "" } else { "tests/it/" };
    Some((crates.join(directory).join(format!("{below}{module}.rs")), test))
}

#[test]
fn every_row_is_proven_by_something_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("tests/coverage.yml")).unwrap();
    let table: BTreeMap<String, BTreeMap<String, Vec<String>>> =
        serde_saphyr::from_str(&text).unwrap();
    let rows: Vec<_> = table.iter().map(|(part, rows)| (part.as_str(), rows.len())).collect();
    assert_eq!(rows, ROWS);
    for (row, proofs) in table.values().flatten() {
        assert!(!proofs.is_empty(), "nothing proves `{row}`");
        for proof in proofs {
            let (file, test) = find(proof).unwrap_or_else(|| panic!("`{row}`: what is `{proof}`?"));
            let source = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(source.contains(&format!("fn {test}(")), "`{row}`: there is no `{proof}`");
        }
    }
}
