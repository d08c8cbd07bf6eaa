//! componentize-py, which makes the Python guest of the slow tests:
//! `target/python/venv/bin/componentize-py`, from PyPI.

use std::process::Command;

use crate::Outcome;
use crate::process::{output, root, run};

/// Its wheel has all that it needs.
const TESTED: &str = "componentize-py==0.25.1";

/// Makes sure that it is there.
pub(crate) fn ensure() -> Outcome {
    let venv = root().join("target/python/venv");
    if output(Command::new(venv.join("bin/componentize-py")).arg("--version")).is_ok() {
        println!("{TESTED} is there");
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .and_then(|()| {
            let pip = venv.join("bin/pip");
            run(Command::new(pip).args(["install", "--quiet", TESTED]))
        })
        .map_err(|reason| {
            format!(
                "{TESTED} could not be installed, and no test is skipped for want of it: {reason}"
            )
        })
}
