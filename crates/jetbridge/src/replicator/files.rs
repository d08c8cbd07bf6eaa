//! The files of an entry of `dbs:`: the one that is named, or those of a directory.

use std::fs;
use std::path::{Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Result};
use jetbridge_sqlite::is_database;
use jetbridge_sqlite::restore::is_draft;

use crate::settings::DatabaseSource;

/// A database.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Where it is below its directory; empty for one that is named.
    pub(super) below: String,
}

/// The files of `source`. Those of `known` are databases without being asked again.
pub(super) fn find(source: &DatabaseSource, known: &[PathBuf]) -> Result<Vec<Found>> {
    match source {
        DatabaseSource::File(path) => Ok(vec![Found { path: path.clone(), below: String::new() }]),
        DatabaseSource::Directory { directory, pattern, recursive, watch } => {
            let mut found = Vec::new();
            let search = Search { pattern, recursive: *recursive, known };
            search.collect(directory, "", &mut found).map_err(|cause| {
                Error::new(ErrorKind::InvalidInput, "sqlite.find")
                    .because("the directory cannot be read")
                    .with("dir", directory.display())
                    .caused_by(cause)
            })?;
            found.sort_by(|a, b| a.path.cmp(&b.path));
            if found.is_empty() && !watch {
                return Err(Error::new(ErrorKind::InvalidInput, "sqlite.find")
                    .because("the directory has no database of that pattern")
                    .with("dir", directory.display())
                    .with("pattern", pattern)
                    .hint("with `watch: true` those that come later are replicated"));
            }
            Ok(found)
        }
    }
}

struct Search<'a> {
    pattern: &'a str,
    recursive: bool,
    known: &'a [PathBuf],
}

impl Search<'_> {
    fn collect(
        &self,
        directory: &Path,
        below: &str,
        found: &mut Vec<Found>,
    ) -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let path = entry.path();
            if path.is_dir() {
                if self.recursive && !name.starts_with('.') {
                    self.collect(&path, &below, found)?;
                }
            } else if matches(self.pattern.as_bytes(), name.as_bytes()) && self.is_database(&path) {
                found.push(Found { path, below });
            }
        }
        Ok(())
    }

    fn is_database(&self, path: &Path) -> bool {
        let sidecar = ["-wal", "-shm", "-journal"];
        if sidecar.iter().any(|suffix| path.to_string_lossy().ends_with(suffix)) {
            return false;
        }
        // What is being restored is on its way to be one, or to be thrown away.
        if path.file_name().is_some_and(|name| is_draft(&name.to_string_lossy())) {
            return false;
        }
        self.known.iter().any(|known| known == path) || is_database(path)
    }
}

/// Whether `name` matches a pattern of `*`, `?` and letters.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((letter, rest)), Some((first, name))) if letter == first => matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_found_by_name_and_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // An empty database of one page of 4 KiB, as the file format has it.
        let head = [b"SQLite format 3\0".as_slice(), &[16, 0, 1, 1, 0, 64, 32, 32]].concat();
        let database = [head.as_slice(), &[0; 4096 - 24]].concat();
        put("b.db", &database);
        put("a.db", &database);
        put("a.db-wal", b"x");
        put("notes.db", b"no database");
        put("other.sqlite", &database);
        put("in/c.db", &database);
        put("d.db.jetbridge-restore-x.db", &database);
        let names = |recursive, pattern: &str| {
            let source = DatabaseSource::Directory {
                directory: dir.path().to_owned(),
                pattern: pattern.to_owned(),
                recursive,
                watch: false,
            };
            find(&source, &[]).map(|found| found.into_iter().map(|it| it.below).collect::<Vec<_>>())
        };
        assert_eq!(names(false, "*.db").unwrap(), ["a.db", "b.db"]);
        assert_eq!(names(true, "*.db").unwrap(), ["a.db", "b.db", "in/c.db"]);
        assert_eq!(names(false, "?.db").unwrap(), ["a.db", "b.db"]);
        assert_eq!(names(false, "o*.sq*").unwrap(), ["other.sqlite"]);
        assert!(names(false, "x*").is_err());
    }
}
