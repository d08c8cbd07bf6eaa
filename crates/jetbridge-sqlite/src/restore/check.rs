//! What SQLite itself says about a restored database.

use std::path::PathBuf;

use jetbridge_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};

use super::OPERATION;
use super::source::blocking;
use crate::probe::immutable;

/// What SQLite is to check.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "SQLite has these checks")]
pub enum Integrity {
    /// Nothing: checksums were right.
    #[default]
    None,
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

impl Integrity {
    /// `none`, `quick` or `full`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

pub(super) async fn run(path: PathBuf, integrity: Integrity) -> Result<()> {
    let pragma = match integrity {
        Integrity::None => return Ok(()),
        Integrity::Quick => "PRAGMA quick_check",
        Integrity::Full => "PRAGMA integrity_check",
    };
    blocking(move || {
        // Immutable: neither locks nor a WAL beside a file that nobody else knows of.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let said = Connection::open_with_flags(immutable(&path), flags).and_then(|connection| {
            let mut statement = connection.prepare(pragma)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        });
        let failed = || {
            Error::new(ErrorKind::Corrupt, OPERATION)
                .because("post-restore integrity check failed: nothing was written")
        };
        match said {
            Ok(lines) if lines == ["ok"] => Ok(()),
            Ok(lines) => Err(failed().with("first", lines.first().cloned().unwrap_or_default())),
            Err(cause) => Err(failed().caused_by(cause)),
        }
    })
    .await
}
