//! What spruce and graft take, for the binary under their names.

use clap::{Parser, Subcommand};

use super::template::{Diff, Fan, Json, Merge};

#[derive(Debug, Parser)]
#[command(disable_version_flag = true, disable_help_subcommand = true)]
pub(crate) struct Link {
    /// Log what happens
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Log every detail
    #[arg(short = 'T', long)]
    pub(crate) trace: bool,
    /// Print the version
    #[arg(short, long)]
    pub(crate) version: bool,
    /// Taken, and without effect: nothing is coloured
    #[arg(long, value_name = "WHEN", value_parser = ["on", "off", "auto"])]
    pub(crate) color: Option<String>,
    #[command(subcommand)]
    pub(crate) word: Option<Word>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Merge YAML files, evaluate the operators in them, and print the result
    Merge(Merge),
    /// Merge one file under every document of others, and print the results
    Fan(Fan),
    /// Print each document of YAML files as one line of JSON; operators stay text
    Json(Json),
    /// Say what differs between two YAML files
    Diff(Diff),
}
