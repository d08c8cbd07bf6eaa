//! Sizes, words and switches that a source file may not have.

use super::Source;

/// Lines of a file at most, its `mod tests` left out.
const LINES_MAX: usize = 600;
/// Marks of unfinished work, in comments.
const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

pub(super) fn check(sources: &[Source], findings: &mut Vec<String>) {
    for source in sources.iter().filter(|source| source.is_rust()) {
        let product = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = product.lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, at most {LINES_MAX}", source.path));
        }
        for (at, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}", source.path, at + 1);
            line_rules(source, line, &place, findings);
        }
    }
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        if source.text.contains("[package]") && !source.text.contains("[lints]\nworkspace = true") {
            findings.push(format!("{}: the workspace's lints are not taken", source.path));
        }
    }
}

fn line_rules(source: &Source, line: &str, place: &str, findings: &mut Vec<String>) {
    // This file names what it looks for.
    if source.path.ends_with("tidy/files.rs") {
        return;
    }
    if line.contains("#[ignore") {
        findings.push(format!("{place}: a test is switched off"));
    }
    if line.contains("#[allow(") || line.contains("#![allow(") {
        findings.push(format!("{place}: `expect` with a reason instead of `allow`"));
    }
    let comment = line.split_once("//").map(|(_, comment)| comment).unwrap_or_default();
    let words = comment.split(|c: char| !c.is_ascii_alphanumeric());
    if let Some(word) = words.into_iter().find(|word| UNFINISHED.contains(word)) {
        findings.push(format!("{place}: unfinished: {word}"));
    }
}
