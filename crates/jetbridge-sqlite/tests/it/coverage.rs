//! `coverage.yml`: what is promised, and that a test proves each row of it.

use std::collections::BTreeSet;
use std::path::Path;

/// Crates that replicate databases, and have tests of it.
const CRATES: [&str; 3] = ["jetbridge-agent", "jetbridge-cli", "jetbridge-sqlite"];
/// How many rows the table has: none gets lost.
const ROWS: usize = 48;

/// The names of the functions, and of what makes some, in `folder` and below.
fn names(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(functions.map(str::to_owned));
            // Rows of a macro: a name, a colon, a literal.
            let rows = text.lines().filter_map(|line| {
                let (name, rest) = line.trim().split_once(": ")?;
                rest.starts_with(|first: char| first == '"' || first.is_ascii_digit())
                    .then(|| name.to_owned())
            });
            found.extend(rows);
        }
    }
}

#[test]
fn every_row_is_proven_by_a_test_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("tests/coverage.yml")).unwrap();
    let mut known = BTreeSet::new();
    for name in CRATES {
        names(&here.join("..").join(name).join("tests"), &mut known);
        names(&here.join("..").join(name).join("src"), &mut known);
    }
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(rows.len(), ROWS);
    for row in rows {
        let (promise, proofs) = row.trim().split_once(": [").expect(row);
        let proofs: Vec<_> = proofs.trim_end_matches(']').split(", ").collect();
        assert!(!proofs.is_empty() && proofs.iter().all(|it| !it.is_empty()), "{promise}: none");
        for proof in proofs {
            assert!(known.contains(proof), "`{promise}`: there is no `{proof}`");
        }
    }
}
