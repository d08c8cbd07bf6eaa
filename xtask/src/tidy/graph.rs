//! Who may depend on whom: the table that ARCHITECTURE.md draws.

use super::Source;

/// Each crate and what it may depend on: crates of the house, and the outside crates that only
/// it may name.
const HOUSE: [(&str, &[&str], &[&str]); 14] = [
    ("jetbridge-core", &[], &[]),
    ("jetbridge-nats", &["jetbridge-core"], &["async-nats"]),
    ("jetbridge-local", &["jetbridge-core"], &["rusqlite"]),
    ("jetbridge-template", &["jetbridge-core"], &["granit-parser"]),
    ("jetbridge-sqlite", &["jetbridge-core"], &["rusqlite"]),
    ("jetbridge-limit", &["jetbridge-core"], &[]),
    ("jetbridge-wasi", &["jetbridge-core"], &["wasmtime"]),
    ("jetbridge-testkit", &["jetbridge-core"], &[]),
    (
        "jetbridge",
        &[
            "jetbridge-core",
            "jetbridge-limit",
            "jetbridge-local",
            "jetbridge-nats",
            "jetbridge-sqlite",
            "jetbridge-template",
            "jetbridge-wasi",
        ],
        &[],
    ),
    ("jetbridge-agent", &["jetbridge", "jetbridge-core"], &["axum"]),
    ("jetbridge-cli", &["jetbridge", "jetbridge-agent", "jetbridge-core"], &["clap"]),
    (
        "jetbridge-bench",
        &[
            "jetbridge",
            "jetbridge-core",
            "jetbridge-limit",
            "jetbridge-local",
            "jetbridge-nats",
            "jetbridge-testkit",
        ],
        &[],
    ),
    (
        "jetbridge-fuzz",
        &["jetbridge-core", "jetbridge-sqlite", "jetbridge-template"],
        &["libfuzzer-sys"],
    ),
    ("xtask", &[], &[]),
];

pub(super) fn check(sources: &[Source], findings: &mut Vec<String>) {
    for source in sources.iter().filter(|source| source.path.ends_with("/Cargo.toml")) {
        let Some(name) = package_name(&source.text) else { continue };
        let Some((_, house, own)) = HOUSE.iter().find(|(known, _, _)| *known == name) else {
            findings.push(format!("{}: `{name}` has no place in the house", source.path));
            continue;
        };
        for dependency in dependencies(&source.text) {
            let ours = HOUSE.iter().any(|(known, _, _)| *known == dependency);
            if ours && !house.contains(&dependency) {
                findings
                    .push(format!("{}: `{name}` may not depend on `{dependency}`", source.path));
            }
            let kept = HOUSE.iter().any(|(_, _, own)| own.contains(&dependency));
            // The benchmarks run the peers' clients beside ours.
            if kept && !own.contains(&dependency) && name != "jetbridge-bench" {
                findings.push(format!("{}: `{name}` may not name `{dependency}`", source.path));
            }
        }
    }
}

fn package_name(manifest: &str) -> Option<&str> {
    let (_, rest) = manifest.split_once("[package]")?;
    let line = rest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1)
}

/// The names under `[dependencies]`: those of tests are not looked at.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.split("[dependencies]\n").nth(1).unwrap_or_default();
    section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(manifest: &str) -> Vec<String> {
        let source = Source { path: "crates/x/Cargo.toml".to_owned(), text: manifest.to_owned() };
        let mut findings = Vec::new();
        check(&[source], &mut findings);
        findings
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        let manifest = "[package]\nname = \"jetbridge-local\"\n[dependencies]\n";
        assert!(findings(&format!("{manifest}jetbridge-core.workspace = true\n")).is_empty());
        assert_eq!(findings(&format!("{manifest}jetbridge-nats.workspace = true\n")).len(), 1);
        assert_eq!(findings(&format!("{manifest}async-nats.workspace = true\n")).len(), 1);
        let tests = "[dev-dependencies]\njetbridge-testkit.workspace = true\n";
        assert!(findings(&format!("{manifest}{tests}")).is_empty());
    }
}
