//! The words of `kv`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jetbridge_core::{BucketName, Key};

use super::bucket::{self, Bucket};
use super::parse::{self, Limit};

#[derive(Args, Debug)]
pub(crate) struct Kv {
    #[command(subcommand)]
    pub(crate) word: Word,
    /// Take keys as they are, for buckets shared with clients that write what Jetbridge escapes
    #[arg(long, global = true)]
    pub(crate) raw_keys: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Make a bucket
    #[command(visible_alias = "new")]
    Add(Box<Add>),
    /// Change settings of a bucket
    Edit(Box<Add>),
    /// List the buckets, or the keys of one
    #[command(visible_alias = "list")]
    Ls(bucket::Ls),
    /// Show a bucket's settings and what it holds
    #[command(visible_aliases = ["status", "view"])]
    Info(Bucket),
    /// Delete a bucket with all it holds; with keys, delete those
    Rm(Rm),
    /// Write a value; prints its revision
    Put(Put),
    /// Write a value if the key is absent: put --if-absent
    Create(Put),
    /// Write a value over a known revision: put --revision
    Update(Update),
    /// Print a value
    Get(Get),
    /// Delete keys
    #[command(visible_alias = "delete")]
    Del(Del),
    /// Delete keys and their history: del --history
    Purge(Del),
    /// Write an earlier revision's value again
    Revert(Revert),
    /// Add to a number, an absent key being 0; prints the sum
    Incr(Incr),
    /// Subtract from a number; prints the difference
    Decr(Incr),
    /// Set when a key expires, keeping its value
    Expire(Expire),
    /// Print how long a key still has, or `never`
    Ttl(OneKey),
    /// Print how many keys there are
    Count(Keys),
    /// Delete all keys, or those chosen; prints how many
    Clear(Keys),
    /// List keys
    Keys(ListKeys),
    /// Show the stored revisions of a key, oldest first
    History(OneKey),
    /// Print every value, then every change
    Watch(Watch),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// Keep this many revisions of each key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) history: Option<u8>,
    /// Take values of at most this many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::small_size_limit, allow_negative_numbers = true)]
    pub(crate) max_value_size: Option<Limit<u32>>,
    #[command(flatten)]
    pub(crate) settings: bucket::Settings,
}

/// One key of one bucket.
#[derive(Args, Debug)]
pub(crate) struct OneKey {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// The key
    #[arg(value_parser = parse::name::<Key>)]
    pub(crate) key: Key,
}

#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// Delete these keys, not the bucket
    #[arg(value_name = "KEY", value_parser = parse::name::<Key>)]
    pub(crate) keys: Vec<Key>,
    /// It is fine if it is not there
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// The value; `-`, or none, reads it from stdin
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    pub(crate) value: Option<OsString>,
    /// Let the key expire after this long
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_span)]
    pub(crate) ttl: Option<Duration>,
    /// Only if the key is absent
    #[arg(long, conflicts_with = "revision")]
    pub(crate) if_absent: bool,
    /// Only over this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    /// A header field beside the value; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse::header)]
    pub(crate) header: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// The value; `-` reads it from stdin
    #[arg(value_name = "VALUE|-", allow_negative_numbers = true)]
    pub(crate) value: OsString,
    /// The revision that must be the present one
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// The value that this revision wrote, if it is still stored
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    /// Any replica's answer will do, though it may be old
    #[arg(long, conflicts_with = "revision")]
    pub(crate) stale: bool,
    /// The bytes alone, which is the default
    #[arg(long, hide = true)]
    pub(crate) raw: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Del {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// The keys
    #[arg(value_name = "KEY", required = true, value_parser = parse::name::<Key>)]
    pub(crate) keys: Vec<Key>,
    /// Only over this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    /// Forget earlier revisions too
    #[arg(long)]
    pub(crate) history: bool,
    /// It is fine if a key is absent
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Revert {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// The revision whose value is written again
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: u64,
    /// Without asking, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Incr {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// How much
    #[arg(value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) by: i64,
    /// How the number is written
    #[arg(long, value_enum, default_value_t = Encoding::Decimal)]
    pub(crate) encoding: Encoding,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Encoding {
    /// Eight bytes, big-endian
    Be64,
    /// Decimal text
    Decimal,
    /// Eight bytes, little-endian
    Le64,
}

#[derive(Args, Debug)]
pub(crate) struct Expire {
    #[command(flatten)]
    pub(crate) at: OneKey,
    /// After this long, or `never`
    #[arg(value_name = "DURATION|never", value_parser = parse::expiry)]
    pub(crate) after: Limit<Duration>,
}

/// Keys of a bucket.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

/// Which keys are meant.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// A key, or a pattern: `*` is one token between dots, a final `>` the rest
    pub(crate) pattern: Option<String>,
    /// Keys that begin with this text
    #[arg(long, value_name = "TEXT", conflicts_with = "pattern")]
    pub(crate) prefix: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// End each key with a zero byte instead of a line break
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Begin with the stored history
    #[arg(long)]
    pub(crate) history: bool,
    /// Begin with the next change
    #[arg(long, conflicts_with = "history")]
    pub(crate) updates_only: bool,
    /// Begin behind this revision
    #[arg(long, value_name = "N", conflicts_with_all = ["history", "updates_only"])]
    pub(crate) after: Option<u64>,
    /// Leave values out
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// End after this many values and changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}
