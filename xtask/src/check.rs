//! What can be said about the source without running it.

use std::process::Command;

use crate::process::{cargo, exists, run};
use crate::{Outcome, tidy};

/// Formatting, lints, the rules of the house, and the dependencies.
pub(crate) fn run_all() -> Outcome {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if exists("cargo-deny") {
        run(Command::new("cargo-deny").args(["check", "bans", "licenses", "sources"]))
    } else {
        println!("cargo-deny is not installed: bans, licences and sources were not checked");
        Ok(())
    }
}
