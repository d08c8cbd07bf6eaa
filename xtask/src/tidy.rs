//! The rules of the house that no compiler holds.

mod files;
mod graph;
mod links;

use crate::Outcome;
use crate::process::{output, root};
use std::process::Command;

/// Looks at every file that git knows; reports all findings at once.
pub(crate) fn run() -> Outcome {
    let listed = output(Command::new("git").args(["ls-files"]).current_dir(root()))?;
    let sources: Vec<Source> = listed.lines().filter_map(Source::read).collect();
    let mut findings = Vec::new();
    files::check(&sources, &mut findings);
    graph::check(&sources, &mut findings);
    links::check(&sources, &mut findings);
    if findings.is_empty() {
        println!("tidy: {} files", sources.len());
        return Ok(());
    }
    Err(format!("tidy found {}:\n  {}", findings.len(), findings.join("\n  ")))
}

/// A text file of the project.
struct Source {
    /// Its path from the root.
    path: String,
    text: String,
}

impl Source {
    /// `None` for what is no text: pictures, golden bytes.
    fn read(path: &str) -> Option<Self> {
        let text = std::fs::read_to_string(root().join(path)).ok()?;
        Some(Self { path: path.to_owned(), text })
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}
