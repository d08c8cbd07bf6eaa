//! The benchmarks: built with optimisations, beside the servers and the peers that they need.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{cargo, exists, root, run};
use crate::{Outcome, litestream, servers};

const CRATE: &str = "jetbridge-bench";
/// The crate of the command, which is measured as a whole process too.
const COMMAND: &str = "jetbridge-cli";
const GO_PEER: &str = "natsgo";

/// Runs the benchmarks with `arguments`, which are those of the program itself.
pub(crate) fn run_with(arguments: &[String]) -> Outcome {
    servers::ensure(&servers::TESTED)?;
    litestream::ensure()?;
    let go_peer = build_go_peer()?;
    run(&mut cargo(&["build", "--release", "--package", CRATE, "--package", COMMAND]))?;
    let program = root().join("target/release").join(CRATE);
    run(Command::new(program).arg("--go-peer").arg(go_peer).args(arguments))
}

fn build_go_peer() -> Result<PathBuf, String> {
    if !exists("go") {
        return Err("go is not installed, and nats.go is one of the peers".to_owned());
    }
    let program = root().join("target/bench").join(GO_PEER);
    let source = root().join("crates").join(CRATE).join("go");
    run(Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source))?;
    Ok(program)
}
