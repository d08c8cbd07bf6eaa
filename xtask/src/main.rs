//! The only automation of the project: no scripts, no Makefile. `cargo xtask` lists what it does.
//!
//! It has no dependencies, so that the first command on a fresh machine compiles in a second.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that talks to a person")]

mod bench;
mod browser;
mod check;
mod litestream;
mod process;
mod python;
mod release;
mod servers;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND
  ci                 check, then test: what decides whether a change lands
  check              fmt, clippy, tidy, and cargo-deny where it is installed
  tidy               the rules of the house that no compiler holds: crate graph, files, links
  test [--slow] [FILTER…]
                     the tests, with the servers they need, the counts and the contract matrix
  bench [kv|object|local|bus|agent…] [--json FILE] [--rounds N] [--small]
                     our workloads beside the peers', built with optimisations
  soak [--minutes N] [--keep DIR]
                     `up` with every section under load for 30 minutes, while its server is killed
                     three times and has no room once: everything acknowledged is read back
  release [--no-verify]
                     an archive of the binary and what belongs to it, and packages of all crates
  servers            installs what the tests run on into target: nats-servers, and Litestream
";

/// What a command of this program ends with.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", [].as_slice()),
    };
    let outcome = match command {
        "bench" => bench::run_with(rest),
        "check" => check::run_all(),
        "ci" => check::run_all().and_then(|()| test::run(rest)),
        "release" => release::run_with(rest),
        "servers" => servers::ensure(&servers::TESTED).and_then(|_directory| litestream::ensure()),
        "soak" => soak::run_with(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(),
        "" | "help" | "--help" => {
            print!("{USAGE}");
            Ok(())
        }
        unknown => Err(format!("there is no command `{unknown}`\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
