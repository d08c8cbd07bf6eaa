//! The words of `stream`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jetbridge_core::{Pattern, StreamName};

use super::bucket::Storage;
use super::parse::{self, Limit};

#[derive(Args, Debug)]
pub(crate) struct Stream {
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Make a stream
    #[command(visible_aliases = ["create", "new"])]
    Add(Box<Add>),
    /// Change settings of a stream
    Edit(Box<Edit>),
    /// List the streams
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show a stream's settings and what it holds
    #[command(visible_aliases = ["status", "show"])]
    Info(OneStream),
    /// Delete a stream with all it holds
    #[command(visible_aliases = ["del", "delete"])]
    Rm(Rm),
    /// Remove the messages of a stream; prints how many
    Purge(Purge),
    /// Print one message by its sequence
    Get(Get),
    /// Print the messages of a stream in order
    #[command(visible_alias = "read")]
    View(View),
}

/// One stream.
#[derive(Args, Debug)]
pub(crate) struct OneStream {
    /// The stream
    #[arg(value_parser = parse::name::<StreamName>)]
    pub(crate) stream: StreamName,
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// The subjects it keeps, by commas
    #[arg(long, alias = "subject", value_name = "PATTERN", value_delimiter = ',', required = true,
          value_parser = parse::pattern)]
    pub(crate) subjects: Vec<Pattern>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args, Debug)]
pub(crate) struct Edit {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// The subjects it keeps, by commas
    #[arg(long, alias = "subject", value_name = "PATTERN", value_delimiter = ',',
          value_parser = parse::pattern)]
    pub(crate) subjects: Vec<Pattern>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// The settings of a stream, as far as they are given.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// When a message may go: at a limit, when all consumers have it, or when one has
    #[arg(long, value_name = "POLICY")]
    pub(crate) retention: Option<Retention>,
    /// What goes at a limit: the oldest messages, or the new one
    #[arg(long, value_name = "POLICY")]
    pub(crate) discard: Option<Discard>,
    /// Let messages go after this long
    #[arg(long, value_name = "DURATION", value_parser = parse::span_limit, allow_negative_numbers = true)]
    pub(crate) max_age: Option<Limit<Duration>>,
    /// Hold at most this many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::size_limit, allow_negative_numbers = true)]
    pub(crate) max_bytes: Option<Limit<u64>>,
    /// Hold at most this many messages
    #[arg(long, value_name = "N", value_parser = parse::count_limit, alias = "max-messages", allow_negative_numbers = true)]
    pub(crate) max_msgs: Option<Limit<u64>>,
    /// Hold at most this many messages of each subject
    #[arg(long, value_name = "N", value_parser = parse::count_limit, allow_negative_numbers = true)]
    pub(crate) max_msgs_per_subject: Option<Limit<u64>>,
    /// Take messages of at most this many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::small_size_limit, allow_negative_numbers = true)]
    pub(crate) max_msg_size: Option<Limit<u32>>,
    /// Remember ids for this long
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_span)]
    pub(crate) dupe_window: Option<Duration>,
    /// Keep this many copies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: Option<u8>,
    /// Keep it on disk or in memory
    #[arg(long, value_name = "KIND")]
    pub(crate) storage: Option<Storage>,
    /// A text for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Place it in this cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Place it on servers that have these tags
    #[arg(long, alias = "tag", value_name = "TAG", value_delimiter = ',')]
    pub(crate) tags: Vec<String>,
    /// The defaults for what is not given, which is the default
    #[arg(long, hide = true)]
    pub(crate) defaults: bool,
}

/// When a message may go.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Retention {
    Limits,
    Interest,
    #[value(alias = "workqueue", alias = "workq")]
    Work,
}

/// What goes at a limit.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Discard {
    New,
    Old,
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Names alone
    #[arg(short, long)]
    pub(crate) names: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rm {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// It is fine if it is not there
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// Only messages on subjects of this pattern
    #[arg(long, alias = "filter", value_name = "PATTERN", value_parser = parse::pattern)]
    pub(crate) subject: Option<Pattern>,
    /// Without asking, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// The message's sequence
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sequence: u64,
}

#[derive(Args, Debug)]
pub(crate) struct View {
    #[command(flatten)]
    pub(crate) stream: OneStream,
    /// Only messages on subjects of this pattern
    #[arg(long, alias = "filter", value_name = "PATTERN", value_parser = parse::pattern)]
    pub(crate) subject: Option<Pattern>,
    /// Begin with this sequence
    #[arg(long, value_name = "SEQUENCE", default_value_t = 1, hide_default_value = true)]
    pub(crate) from: u64,
    /// Go on with what comes later
    #[arg(long)]
    pub(crate) follow: bool,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Payloads alone
    #[arg(short, long)]
    pub(crate) raw: bool,
}
