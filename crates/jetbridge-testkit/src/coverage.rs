//! Tables of what is promised, row by row, and what proves each row: that none is lost, none is
//! empty, and every proof is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Parts by name, each with rows and the names of what proves them.
#[derive(Debug)]
pub struct Coverage(BTreeMap<String, BTreeMap<String, Vec<String>>>);

impl Coverage {
    /// Reads a table: YAML, maps of parts, rows and lists.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self(serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}")))
    }

    /// Holds that the parts have so many rows, and that each row has proofs, all of which
    /// `is_there`.
    ///
    /// # Panics
    /// If that is not so.
    pub fn holds(&self, rows: &[(&str, usize)], is_there: impl Fn(&str) -> bool) {
        let found: BTreeMap<_, _> =
            self.0.iter().map(|(part, rows)| (part.as_str(), rows.len())).collect();
        assert_eq!(found, rows.iter().copied().collect());
        for (row, proofs) in self.0.values().flatten() {
            assert!(!proofs.is_empty(), "nothing proves `{row}`");
            for proof in proofs {
                assert!(is_there(proof), "`{row}`: there is no `{proof}`");
            }
        }
    }
}

/// The names of the functions of the Rust files in `folder` and below; nothing of comments.
///
/// # Panics
/// If one of them cannot be read.
pub fn functions(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{folder:?}: {error}")).path();
        if path.is_dir() {
            found.append(&mut functions(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.append(&mut functions_of(&path));
        }
    }
    found
}

/// The names of the functions of one Rust file; none if there is no such file.
pub fn functions_of(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = code.filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_does_not_hold_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (table, source) = (folder.path().join("t.yml"), folder.path().join("s.rs"));
        fs::write(&source, "fn here() {}\n// fn gone() {}\npub async fn there<T>() {}\n").unwrap();
        let known = functions(folder.path());
        assert_eq!(known.iter().collect::<Vec<_>>(), ["here", "there"]);
        let holds = |text: &str, rows: &[(&str, usize)]| {
            fs::write(&table, text).unwrap();
            let coverage = Coverage::read(&table);
            let check = || coverage.holds(rows, |proof| known.contains(proof));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
        };
        assert!(holds("p: {row: [here, there]}", &[("p", 1)]));
        assert!(!holds("p: {row: [here]}", &[("p", 2)]), "a row is lost");
        assert!(!holds("p: {row: []}", &[("p", 1)]), "nothing proves it");
        assert!(!holds("p: {row: [gone]}", &[("p", 1)]), "its proof is a comment");
    }
}
