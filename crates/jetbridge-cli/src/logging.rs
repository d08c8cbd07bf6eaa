//! The log of the libraries, on stderr: warnings of ours, and more for users who ask for it. Beside
//! it, the spans of `up` for whoever collects traces.

use std::io;

use jetbridge_agent::Traces;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::sqlite::{LogLevel, Word};
use crate::args::{Command, Global};

/// What the targets of all our crates begin with.
const OURS: &str = "jetbridge";

/// How much a command says about itself if the user does not ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tone {
    /// What goes wrong.
    Command,
    /// Also one line when something starts or ends failing.
    Service,
    /// As much as the user asked for by Litestream's flag.
    Asked(LevelFilter),
}

impl Command {
    /// How much it says about itself.
    pub(crate) fn tone(&self) -> Tone {
        match self {
            Self::Up(_) => Tone::Service,
            Self::Wasi(args) if args.serves() => Tone::Service,
            Self::Sqlite(args) => sqlite_tone(&args.word),
            Self::Check(_)
            | Self::Copy(_)
            | Self::Completions(_)
            | Self::Doctor
            | Self::Limit(_)
            | Self::Man(_)
            | Self::OnStore(_)
            | Self::Template(_)
            | Self::Wasi(_) => Tone::Command,
        }
    }
}

fn sqlite_tone(word: &Word) -> Tone {
    match word {
        Word::Replicate(args) => args.log_level.map_or(Tone::Service, |level| {
            Tone::Asked(match level {
                LogLevel::Trace => LevelFilter::TRACE,
                LogLevel::Debug => LevelFilter::DEBUG,
                LogLevel::Info => LevelFilter::INFO,
                LogLevel::Warn => LevelFilter::WARN,
                LogLevel::Error => LevelFilter::ERROR,
            })
        }),
        Word::Restore(args) if args.follow => Tone::Service,
        Word::Follow(_) => Tone::Service,
        _ => Tone::Command,
    }
}

/// Begins to log: text, or with `--json` one object per line. Spans go to `traces`.
pub(crate) fn start(global: &Global, tone: Tone, traces: Option<&Traces>) {
    let ours = |level| Targets::new().with_target(OURS, level);
    let filter = match global.verbose {
        _ if global.quiet => Targets::new(),
        0 => ours(match tone {
            Tone::Command => LevelFilter::WARN,
            Tone::Service => LevelFilter::INFO,
            Tone::Asked(level) => level,
        }),
        1 => ours(LevelFilter::DEBUG),
        _ => Targets::new().with_default(LevelFilter::TRACE),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(traces.map(Traces::layer));
    if global.json {
        registry.with(lines.json().with_filter(filter)).init();
    } else {
        registry.with(lines.with_target(false).with_filter(filter)).init();
    }
}
