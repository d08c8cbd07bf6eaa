//! The words of `object`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jetbridge_core::{BucketName, ObjectName};

use super::bucket::{self, Bucket};
use super::parse::{self, Limit};

#[derive(Args, Debug)]
pub(crate) struct Object {
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Make a bucket
    #[command(visible_alias = "new")]
    Add(Box<Add>),
    /// Change settings of a bucket
    Edit(Box<Add>),
    /// List the buckets, or the objects of one
    #[command(visible_alias = "list")]
    Ls(bucket::Ls),
    /// Show a bucket's settings and what it holds; with a name, that object
    #[command(visible_aliases = ["status", "show"])]
    Info(Info),
    /// Delete a bucket with all it holds; with names, delete those objects
    Rm(Rm),
    /// Store a file
    Put(Put),
    /// Write an object to a file or to stdout
    Get(Get),
    /// Delete objects
    #[command(visible_alias = "delete")]
    Del(Del),
    /// Show an object's size, digest and headers
    Stat(OneObject),
    /// Print every object, then every change
    Watch(Watch),
    /// Make a name stand for another object
    Link(Link),
    /// Forbid every further write to a bucket, for ever
    Seal(Seal),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    #[command(flatten)]
    pub(crate) settings: bucket::Settings,
}

/// One object of one bucket.
#[derive(Args, Debug)]
pub(crate) struct OneObject {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// The object
    #[arg(value_parser = parse::name::<ObjectName>)]
    pub(crate) name: ObjectName,
}

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// Show this object
    #[arg(value_parser = parse::name::<ObjectName>)]
    pub(crate) name: Option<ObjectName>,
}

#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// Delete these objects, not the bucket
    #[arg(value_name = "NAME", value_parser = parse::name::<ObjectName>)]
    pub(crate) names: Vec<ObjectName>,
    /// It is fine if it is not there
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// The file, `-` for stdin; with --file, the object's name
    #[arg(value_name = "FILE|NAME")]
    pub(crate) file_or_name: Option<PathBuf>,
    /// The file, `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The object's name, if it is not the file's
    #[arg(long, value_name = "NAME", value_parser = parse::name::<ObjectName>)]
    pub(crate) name: Option<ObjectName>,
    /// A header field beside the object; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse::header)]
    pub(crate) header: Vec<(String, String)>,
    /// A text for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Only if there is no such object
    #[arg(long, conflicts_with = "revision")]
    pub(crate) if_absent: bool,
    /// Only over the object of this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    /// Store it in chunks of this size
    #[arg(long, value_name = "SIZE", value_parser = parse::small_size_limit)]
    pub(crate) chunk_size: Option<Limit<u32>>,
    /// Without asking, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) at: OneObject,
    /// Write to this file, which appears whole and verified or not at all; `-` is stdout
    #[arg(short, long, short_alias = 'O', value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,
    /// Leave out this many bytes at the start
    #[arg(long, value_name = "BYTES")]
    pub(crate) offset: Option<u64>,
    /// Write at most this many bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) length: Option<u64>,
    /// Without asking, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Del {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
    /// The objects
    #[arg(value_name = "NAME", required = true, value_parser = parse::name::<ObjectName>)]
    pub(crate) names: Vec<ObjectName>,
    /// It is fine if an object is absent
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) bucket: Bucket,
    /// Only objects whose names begin with this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Begin with the next change
    #[arg(long)]
    pub(crate) updates_only: bool,
    /// End after this many objects and changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Link {
    #[command(flatten)]
    pub(crate) at: OneObject,
    /// The object it stands for; without, the whole of --to-bucket
    #[arg(value_parser = parse::name::<ObjectName>, required_unless_present = "to_bucket")]
    pub(crate) target: Option<ObjectName>,
    /// The bucket of that object, if it is another
    #[arg(long, value_name = "BUCKET", value_parser = parse::name::<BucketName>)]
    pub(crate) to_bucket: Option<BucketName>,
}

#[derive(Args, Debug)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) bucket: Bucket,
    /// Without asking, which is the default
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}
