//! `template`: words and flags of spruce and graft.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct Template {
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Merge YAML files, evaluate the operators in them, and print the result
    Merge(Merge),
    /// Print each document of YAML files as one line of JSON; operators stay text
    Json(Json),
}

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// Files, merged from left to right; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
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
    /// How the result is laid out
    #[arg(long, value_enum, default_value = "lossless")]
    pub(crate) style: Style,
}

/// The layout of a result.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Style {
    /// As the first document was written: its order, comments, quotes and numbers
    Lossless,
    /// As spruce and graft print: keys sorted, comments gone
    Graft,
}

#[derive(Args, Debug)]
pub(crate) struct Json {
    /// Files; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}
