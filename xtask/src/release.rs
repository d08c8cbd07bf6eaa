//! What a release consists of: an archive with the binary and what belongs beside it, its checksum,
//! and the packages of the libraries. Nothing is uploaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::process::{cargo, output, root, run};

/// Crates that are for this workspace only.
const OURS_ALONE: [&str; 2] = ["jetbridge-bench", "xtask"];
/// Shells that there are completions for.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];
/// What goes into the archive as it lies here.
const BESIDE: [&str; 7] = [
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "docs/guide",
    "examples",
    "packaging",
];

/// Builds all of it into `target/dist`. `--no-verify` does not compile the packages once more.
pub(crate) fn run_with(arguments: &[String]) -> Outcome {
    let verifies = match arguments {
        [] => true,
        [only] if only == "--no-verify" => false,
        _ => return Err(format!("`release` does not know {arguments:?}; it takes --no-verify")),
    };
    refuse_changes()?;
    let name = format!("jetbridge-{}-{}", version()?, triple()?);
    run(&mut cargo(&["build", "--release", "--locked", "--package", "jetbridge-cli"]))?;
    let directory = root().join("target/dist").join(&name);
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    }
    collect(&directory)?;
    pack(&name)?;
    package(verifies)
}

/// A release is what a commit holds.
fn refuse_changes() -> Outcome {
    let status = output(Command::new("git").args(["status", "--porcelain"]).current_dir(root()))?;
    if status.is_empty() {
        return Ok(());
    }
    Err(format!("there are changes that no commit holds:\n{status}"))
}

fn version() -> Result<String, String> {
    let id = output(&mut cargo(&["pkgid", "--package", "jetbridge-cli"]))?;
    let version = id.trim().rsplit(['#', '@']).next().unwrap_or_default();
    Ok(version.to_owned())
}

fn triple() -> Result<String, String> {
    let facts = output(Command::new("rustc").arg("-vV"))?;
    let host = facts.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say for which machine it builds".into())
}

/// Puts everything of the archive into `directory`.
fn collect(directory: &Path) -> Outcome {
    let make = |path: &Path| fs::create_dir_all(path).map_err(|error| failed(path, &error));
    make(directory)?;
    let program = root().join("target/release/jetbridge");
    run(Command::new("cp").arg(&program).arg(directory))?;
    for name in BESIDE {
        let target = directory.join(name);
        make(target.parent().unwrap_or(directory))?;
        run(Command::new("cp").arg("-r").arg(root().join(name)).arg(&target))?;
    }
    let man = directory.join("man");
    run(Command::new(&program).args(["man", "--dir"]).arg(&man))?;
    let completions = directory.join("completions");
    make(&completions)?;
    for shell in SHELLS {
        let text = output(Command::new(&program).args(["completions", shell]))?;
        let path = completions.join(format!("jetbridge.{shell}"));
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Makes the archive, the same bytes for the same files, and its checksum.
fn pack(name: &str) -> Outcome {
    let dist = root().join("target/dist");
    let archive = format!("{name}.tar.gz");
    let same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];
    run(Command::new("tar").current_dir(&dist).args(same).args(["-czf", &archive, name]))?;
    let sum = output(Command::new("sha256sum").current_dir(&dist).arg(&archive))?;
    let path: PathBuf = dist.join(format!("{archive}.sha256"));
    fs::write(&path, &sum).map_err(|error| failed(&path, &error))?;
    println!("{}", sum.trim());
    Ok(())
}

/// Makes the packages of all crates that others may depend on.
fn package(verifies: bool) -> Outcome {
    let mut command = cargo(&["package", "--workspace", "--locked"]);
    for name in OURS_ALONE {
        command.args(["--exclude", name]);
    }
    if !verifies {
        command.arg("--no-verify");
    }
    run(&mut command)
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
