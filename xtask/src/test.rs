//! The tests, with everything they need; the counts, and the contract as a matrix.
//!
//! A contract case is a test named `row::kind::case`: the row is a backend (or a wrapper, or a
//! server version), the kind one of the seam's traits. The matrix is read off what ran, so a row
//! that did not run is not in it. Suites that take minutes are in modules called `slow`, which
//! only `--slow` runs; of these, what holds only on a machine that does nothing else is in modules
//! called `alone`, and runs one by one when everything else is done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process::{cargo, root};
use crate::{Outcome, browser, litestream, python, servers};

/// Where the tests are that run one by one.
const ALONE: &str = "::alone::";

const KINDS: [&str; 6] = ["backend", "kv", "object", "bus", "model", "storm"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let slow = arguments.iter().any(|argument| argument == "--slow");
    let filters: Vec<&str> =
        arguments.iter().filter(|it| *it != "--slow").map(String::as_str).collect();
    servers::ensure(&servers::TESTED)?;
    litestream::ensure()?;
    if slow {
        servers::ensure(&servers::SLOW)?;
        python::ensure()?;
        browser::ensure()?;
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
    command.args(["--skip", if slow { ALONE } else { "slow::" }]);
    let mut passed = follow(command.args(&filters), &mut tally)?;
    let alone = if slow { alone(&filters)? } else { Vec::new() };
    if !alone.is_empty() {
        let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
        command.args(["--test-threads=1", "--exact"]).args(&alone);
        let mut apart = Tally::default();
        passed &= follow(&mut command, &mut apart)?;
        // What it leaves out has run.
        tally.add(&apart);
    }
    tally.print(started.elapsed().as_secs());
    if !passed || tally.failed > 0 {
        return Err(format!("{} tests failed", tally.failed));
    }
    if tally.passed == 0 {
        return Err("no test ran".to_owned());
    }
    Ok(())
}

/// The names of the tests that want the machine for themselves.
fn alone(filters: &[&str]) -> Result<Vec<String>, String> {
    let mut command = cargo(&["test", "--quiet", "--workspace", "--", "--list"]);
    let listed = command.args(filters).current_dir(root()).output();
    let listed = listed.map_err(|error| format!("cargo test --list: {error}"))?;
    if !listed.status.success() {
        return Err("cargo test --list failed".to_owned());
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.filter(|name| name.contains(ALONE)).map(str::to_owned).collect())
}

/// Runs `command`, shows what it prints, and counts.
fn follow(command: &mut Command, tally: &mut Tally) -> Result<bool, String> {
    let mut child = command
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test: {error}"))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("cargo test: {error}"))?;
            println!("{line}");
            tally.count(&line);
        }
    }
    let status = child.wait().map_err(|error| format!("cargo test: {error}"))?;
    Ok(status.success())
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    left_out: usize,
    /// Row and kind to cases passed and run.
    matrix: BTreeMap<String, BTreeMap<String, (usize, usize)>>,
}

impl Tally {
    /// Counts the tests of another run, of which none is a contract case.
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        let run = other.passed + other.failed;
        self.left_out = self.left_out.saturating_sub(run);
    }

    fn count(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once("; ").filter(|_| line.starts_with("test result:"))
        {
            self.left_out += number_before(rest, " filtered out");
            return;
        }
        let Some(rest) = line.strip_prefix("test ") else { return };
        let Some((name, verdict)) = rest.rsplit_once(" ... ") else { return };
        let ok = match verdict.split(' ').next() {
            Some("ok") => true,
            Some("FAILED") => false,
            Some("ignored") => {
                self.ignored += 1;
                return;
            }
            _ => return,
        };
        if ok {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        let mut path = name.trim_start_matches("slow::").split("::");
        if let (Some(row), Some(kind), Some(_case)) = (path.next(), path.next(), path.next())
            && KINDS.contains(&kind)
        {
            let cell = self.matrix.entry(row.to_owned()).or_default();
            let (passed, run) = cell.entry(kind.to_owned()).or_default();
            *passed += usize::from(ok);
            *run += 1;
        }
    }

    fn print(&self, seconds: u64) {
        if !self.matrix.is_empty() {
            print!("\ncontract          ");
            KINDS.iter().for_each(|kind| print!("{kind:>9}"));
            println!();
            for (row, kinds) in &self.matrix {
                print!("{row:<18}");
                for kind in KINDS {
                    let cell = match kinds.get(kind) {
                        None => "-".to_owned(),
                        Some((passed, run)) if passed == run => run.to_string(),
                        Some((passed, run)) => format!("{passed}/{run}"),
                    };
                    print!("{cell:>9}");
                }
                println!();
            }
        }
        println!(
            "\n{} tests passed, {} failed, {} ignored, {} left out by name, in {seconds} s",
            self.passed, self.failed, self.ignored, self.left_out
        );
    }
}

/// The number that stands before `word` in `text`.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    let digits: String = before
        .chars()
        .rev()
        .take_while(char::is_ascii_digit)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .collect();
    if text.contains(word) { digits.parse().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_reads_what_libtest_prints() {
        let mut tally = Tally::default();
        for line in [
            "test memory::kv::a ... ok",
            "test memory::kv::b ... FAILED",
            "test src/lib.rs - encode (line 9) ... ok",
            "test slow::x ... ignored",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.1s",
        ] {
            tally.count(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.ignored, tally.left_out), (2, 1, 1, 7));
        assert_eq!(tally.matrix["memory"]["kv"], (1, 2));
    }
}
