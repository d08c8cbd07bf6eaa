//! What buckets of keys and of objects have in common.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jetbridge_core::BucketName;

use super::parse::{self, Limit};

/// One bucket.
#[derive(Args, Debug)]
pub(crate) struct Bucket {
    /// The bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: BucketName,
}

/// The settings of a bucket, as far as they are given.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Let everything expire after this long
    #[arg(long, value_name = "DURATION", value_parser = parse::span_limit, allow_negative_numbers = true)]
    pub(crate) ttl: Option<Limit<Duration>>,
    /// Keep this many copies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: Option<u8>,
    /// Keep it on disk or in memory
    #[arg(long, value_name = "KIND")]
    pub(crate) storage: Option<Storage>,
    /// Hold at most this many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::size_limit, alias = "max-bucket-size", allow_negative_numbers = true)]
    pub(crate) max_bytes: Option<Limit<u64>>,
    /// Store it compressed
    #[arg(long)]
    pub(crate) compress: bool,
    /// A text for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Place it in this cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Place it on servers that have these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(crate) tags: Vec<String>,
    /// A fact for programs; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::fact)]
    pub(crate) metadata: Vec<(String, String)>,
}

/// Where data is kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Storage {
    #[value(alias = "f")]
    File,
    #[value(alias = "m")]
    Memory,
}

/// The listing of all buckets, or of one bucket.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// List what is in this bucket
    #[arg(value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: Option<BucketName>,
    /// Names alone
    #[arg(short, long)]
    pub(crate) names: bool,
}
