//! The settings as a whole: every key of every dialect, every error with its exact text.

mod calls;
mod contexts;
mod errors;
mod guide;
mod keys;
mod logins;
mod secrets;
mod stores;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jetbridge_core::Result;
use tempfile::TempDir;

use super::*;

/// The shape of a user's seed, not the seed of anybody.
const SEED: &str = "SUAAVWRZG6M5FA5VRRGWSCIHKTOJC7EWNIT4JV3FTOIPO4OBFR5WA7X5TE";
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const CREDS: &str = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n";

/// Files that settings can name, in a directory that is also the home.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("app.creds", CREDS),
            ("user.nk", SEED),
            ("ca.pem", PEM),
            ("ca2.pem", PEM),
            ("client.pem", PEM),
            ("client.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n"),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `text` with `DIR` replaced by the directory.
    fn fill(&self, text: &str) -> String {
        text.replace("DIR", &self.directory.path().display().to_string())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        std::fs::write(path, self.fill(text)).unwrap();
    }

    fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        let home = self.directory.path().display().to_string();
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), self.fill(value)));
        std::iter::once(("HOME".to_owned(), home)).chain(pairs).collect()
    }

    /// Reads a YAML map written in `dialect`.
    fn yaml(&self, dialect: Dialect, yaml: &str) -> Result<NatsSettings> {
        let root = parse_yaml("app.yml", &self.fill(yaml))?;
        read(dialect, &[Source::new(dialect, root.entries())], &self.environment(&[]))
    }

    /// The error of a YAML map written in `dialect`: its message and its hint, with `DIR` for the
    /// directory.
    fn error(&self, dialect: Dialect, yaml: &str) -> (String, String) {
        self.error_of(self.yaml(dialect, yaml))
    }

    fn error_of<T: std::fmt::Debug>(&self, result: Result<T>) -> (String, String) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), jetbridge_core::ErrorKind::InvalidInput);
        let directory = self.directory.path().display().to_string();
        let message = error.message().unwrap_or_default().replace(&directory, "DIR");
        (message, error.hint_text().unwrap_or_default().replace(&directory, "DIR"))
    }
}

/// A map of settings with one key, as YAML.
fn one(key: &str, value: &str) -> String {
    let mut yaml = String::new();
    write!(yaml, "{key}: {value}").unwrap();
    yaml
}
