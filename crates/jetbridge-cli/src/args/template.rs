//! `template`: words and flags of spruce and graft, and our own.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jetbridge::template::Wait;

use super::parse;

#[derive(Args, Debug)]
pub(crate) struct Template {
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Merge YAML files, evaluate the operators in them, and print the result
    Merge(Merge),
    /// Merge one file under every document of others, and print the results
    Fan(Fan),
    /// Print each document of YAML files as one line of JSON; operators stay text
    Json(Json),
    /// Say what differs between two YAML files, by value; exits with 1 if anything does
    Diff(Diff),
    /// List what the templates can read of stores, without reading it
    Refs(Refs),
    /// Keep a file what the templates say: checked, written as a whole, and told of
    Render(Box<Render>),
    /// Say where one value comes from: file and line, operator, bucket, key and revision
    Explain(Explain),
}

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// Files, merged from left to right; `-` is stdin, and so is no file
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) layout: Layout,
}

#[derive(Args, Debug)]
pub(crate) struct Fan {
    /// The file merged under each document; `-` is stdin
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// Files whose documents are merged over it, each for itself; `-` is stdin, and so is no file
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) layout: Layout,
}

/// How files are merged and evaluated.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// Take this path out of the result; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) prune: Vec<String>,
    /// Keep only this path; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) cherry_pick: Vec<String>,
    /// Merge alone: operators stay text
    #[arg(long)]
    pub(crate) skip_eval: bool,
    /// Append to lists without a common key, instead of merging them by position
    #[arg(long)]
    pub(crate) fallback_append: bool,
    /// Files that are lists are go-patch files, applied in their turn
    #[arg(long)]
    pub(crate) go_patch: bool,
    /// Merge the documents of a file like files
    #[arg(short, long)]
    pub(crate) multi_doc: bool,
    /// Read no store: its values are REDACTED, as with REDACT=1
    #[arg(long)]
    pub(crate) redact: bool,
    /// Never show values of this bucket where others are shown; may be given several times
    #[arg(long, value_name = "BUCKET")]
    pub(crate) secret: Vec<String>,
    /// Taken for graft's sake, and without effect: references say what comes first
    #[arg(long, hide = true, value_name = "ORDER")]
    pub(crate) dataflow_order: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Layout {
    /// How the result is laid out
    #[arg(long, value_enum)]
    pub(crate) style: Option<Style>,
}

/// The layout of a result.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Style {
    /// As the first document was written: its order, comments, quotes and numbers (the default)
    Lossless,
    /// As spruce and graft print: keys sorted, comments gone
    Graft,
}

#[derive(Args, Debug)]
pub(crate) struct Json {
    /// Files; `-` is stdin, and so is no file
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A key that is no text is an error, instead of becoming text
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The first file; `-` is stdin
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// The second file
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Refs {
    /// Files, merged from left to right; `-` is stdin, and so is no file
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
    /// Print the least permissions to read it all, for nats-server's configuration
    #[arg(long)]
    pub(crate) permissions: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Render {
    /// Files, merged from left to right; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The file to write; its mode and owner are kept, and it is left alone if nothing differs
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Go on: render again after every change of files and stores, until a signal
    #[arg(long)]
    pub(crate) watch: bool,
    /// Render once and end, which is the default
    #[arg(long, conflicts_with = "watch")]
    pub(crate) once: bool,
    /// Show what would change, secrets hidden, and write nothing; exits with 1 if anything would
    #[arg(long, conflicts_with = "watch")]
    pub(crate) diff: bool,
    /// Before it takes its place, the new file `{}` must pass this command of the shell
    #[arg(long, value_name = "COMMAND")]
    pub(crate) check: Option<String>,
    /// Run this command of the shell after the file was replaced, and only then
    #[arg(long, value_name = "COMMAND")]
    pub(crate) reload: Option<String>,
    /// How long a check or a reload may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse::positive_span)]
    pub(crate) command_timeout: Duration,
    /// Gather changes until there was none for MIN, at most MAX from the first
    #[arg(long, value_name = "MIN..MAX", default_value = "0s..0s", value_parser = parse::wait)]
    pub(crate) wait: Wait,
    /// What a value of a store that is not there gives, where no default is written
    #[arg(long, value_enum, default_value = "error")]
    pub(crate) missing: Absence,
    /// If a store does not answer and the file is there, warn and leave it: that is no failure
    #[arg(long)]
    pub(crate) last_known_good: bool,
    /// The permissions of the file, such as 0640; those it has, or 0600 for a new one
    #[arg(long, value_name = "MODE", value_parser = parse::mode)]
    pub(crate) mode: Option<u32>,
    /// Keep so many earlier files, as FILE.1 (the latest), FILE.2 and so on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) backup: usize,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) layout: Layout,
}

/// What is given for what is not there.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Absence {
    /// An error; the file stays as it is
    Error,
    /// Null
    Null,
    /// The operator as it stands
    Keep,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The value, such as `a.b.0`
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Files, merged from left to right; `-` is stdin, and so is no file
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
}
