//! `coverage.yml`: what the foundation promises, and that something proves each row of it.

use std::path::{Path, PathBuf};

use jetbridge_testkit::coverage::{Coverage, functions_of};

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
    Coverage::read(&here.join("tests/coverage.yml")).holds(&ROWS, |proof| {
        let (file, test) = find(proof).unwrap_or_else(|| panic!("what is `{proof}`?"));
        functions_of(&file).contains(test)
    });
}
