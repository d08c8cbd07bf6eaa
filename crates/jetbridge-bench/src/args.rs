//! The command line, which `cargo xtask bench` and `cargo xtask soak` write.

use std::path::PathBuf;

use crate::Outcome;
use crate::child::Child;
use crate::soak;
use crate::suite::Suite;

/// Rounds of each measure: an odd number, so that the median is one that happened.
const ROUNDS_DEFAULT: usize = 5;

/// What this process is to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Measure.
    Bench(Args),
    /// Look for losses and leaks.
    Soak(soak::Args),
    /// Be the other process of a measure.
    Child(Child),
}

/// What to measure, and how.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) suites: Vec<Suite>,
    pub(crate) rounds: usize,
    /// Parts of a suite that has some; all if none is named.
    pub(crate) only: Vec<String>,
    /// A little of everything, to see that a suite works; only `agent` knows how.
    pub(crate) small: bool,
    /// The program of `go/`.
    pub(crate) go_peer: PathBuf,
    /// Where the figures go, beside the table.
    pub(crate) json: Option<PathBuf>,
}

impl Args {
    /// Those of a suite's `parts` that were asked for, in order; an error for one that is none.
    pub(crate) fn chosen<'a>(&self, parts: &[&'a str]) -> Outcome<Vec<&'a str>> {
        if let Some(unknown) = self.only.iter().find(|it| !parts.contains(&it.as_str())) {
            return Err(format!("there is no part `{unknown}`: {}", parts.join(", ")).into());
        }
        let chosen = |part: &&str| self.only.is_empty() || self.only.iter().any(|it| it == part);
        Ok(parts.iter().copied().filter(chosen).collect())
    }
}

pub(crate) fn parse(words: Vec<String>) -> Outcome<Command> {
    if let Some((first, rest)) = words.split_first()
        && first == "child"
    {
        return Ok(Command::Child(Child::parse(rest)?));
    }
    if let Some((first, rest)) = words.split_first()
        && first == "soak"
    {
        return Ok(Command::Soak(soak::Args::parse(rest)?));
    }
    let (mut suites, mut rounds, mut only) = (Vec::new(), ROUNDS_DEFAULT, Vec::new());
    let (mut go_peer, mut json, mut small) = (None, None, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--json" => json = Some(PathBuf::from(value()?)),
            "--go-peer" => go_peer = Some(PathBuf::from(value()?)),
            "--only" => only.extend(value()?.split(',').map(str::to_owned)),
            "--small" => small = true,
            "--rounds" => rounds = value()?.parse::<usize>()?.max(1),
            name => suites.push(name.parse()?),
        }
    }
    if suites.is_empty() {
        suites = Suite::ALL.to_vec();
    }
    let go_peer = go_peer.ok_or("--go-peer is missing: run this by `cargo xtask bench`")?;
    Ok(Command::Bench(Args { suites, rounds, only, small, go_peer, json }))
}
