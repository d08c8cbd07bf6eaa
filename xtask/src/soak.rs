//! The soak: everything that `up` runs, under load, while its server dies and its disk is full.

use std::process::Command;

use crate::process::{cargo, root, run};
use crate::{Outcome, servers};

/// Runs it with `arguments`, which are those of the program itself. Built as the tests are: what is
/// looked for is losses and leaks, and checks of overflows help with that.
pub(crate) fn run_with(arguments: &[String]) -> Outcome {
    servers::ensure(&servers::TESTED)?;
    run(&mut cargo(&["build", "--package", "jetbridge-bench", "--package", "jetbridge-cli"]))?;
    let program = root().join("target/debug/jetbridge-bench");
    run(Command::new(program).arg("soak").args(arguments))
}
