//! What can be typed: definitions for clap, without logic. One file per family of words; what a
//! single argument may look like is in [`parse`].

pub(crate) mod bucket;
pub(crate) mod bus;
pub(crate) mod copy;
pub(crate) mod kv;
pub(crate) mod limit;
pub(crate) mod link;
pub(crate) mod object;
pub(crate) mod parse;
pub(crate) mod sqlite;
pub(crate) mod stream;
pub(crate) mod template;
pub(crate) mod wasi;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
The store is the first of: --store or --context, JETBRIDGE_STORE, NATS_CONTEXT, NATS_URL or
NATS_SERVER, else the embedded store in ./jetbridge-data.

Exit status: 0 done; 1 the answer is no (absent key, failed check); 2 usage or settings, absent
bucket, permission, unsupported; 3 unavailable, or a limit exceeded; 4 conflict or corrupt data;
70 a bug; 130 or 143 cut short by a signal.";

/// Settings, state, messages and files in NATS JetStream or an embedded store
#[derive(Debug, Parser)]
#[command(name = "jetbridge", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options that may stand before or after the command words.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the store is: nats://HOST:PORT, context:NAME, local:DIR or memory:
    #[arg(short, long, global = true, value_name = "URL", alias = "server")]
    pub(crate) store: Option<String>,
    /// Use this context of the nats CLI
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Print JSON: one object, or one per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Wait at most this long to connect, and for each answer [default: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse::positive_span)]
    pub(crate) timeout: Option<Duration>,
    /// Say nothing beside values and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log to stderr what happens; twice for every detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnStore(OnStore),
    /// Run what the files name, until told to stop
    Up(Up),
    /// Say what `up` would run with these files, and everything that is wrong with them
    Check(Check),
    /// Copy everything that one store keeps into another
    Copy(copy::Copy),
    /// Limits over processes: ask for permits, look, and run commands under them
    Limit(limit::Limit),
    /// Merge YAML and evaluate the operators in it, on values of stores
    Template(template::Template),
    /// Replicate and restore SQLite databases, as Litestream does
    Sqlite(sqlite::Sqlite),
    /// Run WebAssembly components that use wasi:keyvalue, on a store
    Wasi(wasi::Wasi),
    /// Check connection, login, TLS, JetStream, permissions and clock: what fails, and why
    Doctor,
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page, or write the pages of all commands
    Man(Man),
}

/// The words that work on a store that is connected to.
#[derive(Debug, Subcommand)]
pub(crate) enum OnStore {
    /// Keys and values
    Kv(kv::Kv),
    /// Files and other large values
    #[command(visible_alias = "obj")]
    Object(object::Object),
    /// Streams, which keep messages
    #[command(visible_alias = "str")]
    Stream(stream::Stream),
    /// Publish a message
    #[command(visible_alias = "publish")]
    Pub(bus::Pub),
    /// Print the messages on subjects of a pattern
    #[command(visible_alias = "subscribe")]
    Sub(bus::Sub),
    /// Ask, and print the answer
    #[command(visible_alias = "request")]
    Req(bus::Req),
    /// Answer requests
    Reply(bus::Reply),
    /// Say where the store is, what it can do and what it holds
    Status,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Files of sections, YAML or TOML; several are joined
    #[arg(required_unless_present = "init", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write a commented file to begin with, jetbridge.yml unless FILE says otherwise, and end
    #[arg(long)]
    pub(crate) init: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Files of sections, as `up` takes them
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Print the least permissions that the sections need, for nats-server's configuration
    #[arg(long)]
    pub(crate) permissions: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write one page per command into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
