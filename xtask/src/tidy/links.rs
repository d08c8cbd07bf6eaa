//! Links between the project's own documents lead somewhere.

use super::Source;
use crate::process::root;

pub(super) fn check(sources: &[Source], findings: &mut Vec<String>) {
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        for (at, line) in source.text.lines().enumerate() {
            for target in targets(line) {
                let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                if !root().join(folder).join(target).exists() {
                    findings.push(format!("{}:{}: no such file: {target}", source.path, at + 1));
                }
            }
        }
    }
}

/// The files that `line` links to, without fragments; links to the web are not followed.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| {
            !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_the_web_is_left_alone() {
        let line = "[a](b.md#c) and [d](https://e) and [f](#g)";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["b.md"]);
    }
}
