//! `copy`.

use clap::Args;
use jetbridge_core::{BucketName, StreamName};

use super::parse;

#[derive(Args, Debug)]
#[command(after_help = "\
Run it again to go on with what was cut short, or to catch up with a source that is still used: \
only what differs is written. What is newer in the destination stays there and is named. Nothing \
is deleted but keys that the source says were deleted.

Exit status: 0 the destination has everything; 1 something is newer there, or the source is still \
written to.")]
pub(crate) struct Copy {
    /// The source: nats://HOST:PORT, context:NAME or local:DIR
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The destination
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Only this bucket, of keys or objects; may be repeated
    #[arg(long = "bucket", value_name = "BUCKET", value_parser = parse::name::<BucketName>)]
    pub(crate) buckets: Vec<BucketName>,
    /// Only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM", value_parser = parse::name::<StreamName>)]
    pub(crate) streams: Vec<StreamName>,
    /// Make the numbers of this bucket of keys counters of the destination; may be repeated
    #[arg(long = "counters", value_name = "BUCKET", value_parser = parse::name::<BucketName>)]
    pub(crate) counters: Vec<BucketName>,
    /// Only say what there is to copy
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}
