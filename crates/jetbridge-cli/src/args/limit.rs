//! `limit`: asks for permits.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::parse;

#[derive(Args, Debug)]
pub(crate) struct Limit {
    #[command(subcommand)]
    pub(crate) word: Word,
    /// Files with `limiters:`, of `up` or rate-sync's own
    /// [default: $RATE_SYNC_CONFIG, ./rate-sync.toml or ./config/rate-sync.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Take permits if there are any; exit status 1 if not
    Acquire(Acquire),
    /// Say what `acquire` would say, and take nothing
    Peek(Id),
    /// Run a command while holding a permit, and end as it ends
    Run(Run),
    /// Forget what a limiter, or a key of one, has given
    Reset(Id),
    /// List limiters and their keys in use
    Ls,
    /// Measure what a limiter gives: one process of a fleet
    Bench(Bench),
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    /// A limiter, or a key of one as LIMITER:KEY
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Acquire {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Permits to take at once [default: the limiter's `cost`]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) cost: Option<u32>,
    /// Wait at most this long for them
    #[arg(short, long, value_name = "DURATION", value_parser = parse::span)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Permits to take at once [default: the limiter's `cost`]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) cost: Option<u32>,
    /// Wait at most this long for them [default: the limiter's `timeout`]
    #[arg(short, long, value_name = "DURATION", value_parser = parse::span)]
    pub(crate) wait: Option<Duration>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Callers at once, each waiting for its permit before it asks again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) callers: u32,
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = parse::positive_span)]
    pub(crate) span: Duration,
    /// Let the callers together ask at most this often per second; the limiter keeps its rate
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<f64>,
}
