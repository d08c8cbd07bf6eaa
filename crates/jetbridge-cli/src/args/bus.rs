//! `pub`, `sub`, `req` and `reply`.

use std::ffi::OsString;

use clap::Args;
use jetbridge_core::{GroupName, Pattern, StreamName, Subject};

use super::parse;

/// What a message carries.
#[derive(Args, Debug)]
pub(crate) struct Content {
    /// The payload; `-`, or none, reads it from stdin
    #[arg(value_name = "DATA|-", allow_negative_numbers = true)]
    pub(crate) data: Option<OsString>,
    /// A header field; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse::header)]
    pub(crate) header: Vec<(String, String)>,
    /// Read the payload from stdin, as `-` does
    #[arg(long, hide = true)]
    pub(crate) force_stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Pub {
    /// The subject
    #[arg(value_parser = parse::name::<Subject>)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) content: Content,
    /// Return when a stream has it; prints its sequence
    #[arg(short = 'J', long)]
    pub(crate) jetstream: bool,
    /// Name the message, so that the stream takes it only once
    #[arg(long, value_name = "ID", requires = "jetstream", conflicts_with = "count")]
    pub(crate) id: Option<String>,
    /// Refuse unless this stream keeps the subject
    #[arg(long, value_name = "STREAM", requires = "jetstream", value_parser = parse::name::<StreamName>)]
    pub(crate) stream: Option<StreamName>,
    /// Where an answer goes
    #[arg(long, value_name = "SUBJECT", value_parser = parse::name::<Subject>)]
    pub(crate) reply: Option<Subject>,
    /// Publish it this many times
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Sub {
    /// The subjects: `*` is one token between dots, a final `>` the rest
    #[arg(value_parser = parse::pattern)]
    pub(crate) pattern: Pattern,
    /// Share the messages with the other members of this group
    #[arg(long, value_name = "GROUP", value_parser = parse::name::<GroupName>)]
    pub(crate) queue: Option<GroupName>,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Payloads alone
    #[arg(short, long)]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Req {
    /// The subject
    #[arg(value_parser = parse::name::<Subject>)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) content: Content,
    /// The bytes alone, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Reply {
    /// The subjects to answer on
    #[arg(value_parser = parse::pattern)]
    pub(crate) pattern: Pattern,
    /// The answer
    #[arg(value_name = "TEXT", required_unless_present_any = ["command", "echo"],
          allow_negative_numbers = true)]
    pub(crate) text: Option<OsString>,
    /// Answer with what this shell command prints; it gets the request on stdin
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["text", "echo"])]
    pub(crate) command: Option<OsString>,
    /// Answer with the request
    #[arg(long, conflicts_with = "text")]
    pub(crate) echo: bool,
    /// A header field of the answer; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse::header)]
    pub(crate) header: Vec<(String, String)>,
    /// Share the requests with the other members of this group
    #[arg(long, value_name = "GROUP", value_parser = parse::name::<GroupName>)]
    pub(crate) queue: Option<GroupName>,
    /// End after this many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}
