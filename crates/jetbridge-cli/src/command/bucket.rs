//! `add`, `edit`, `ls`, `info` and `rm` of buckets of either kind.

use jetbridge_core::{
    BucketKind, BucketName, BucketSpec, Error, ErrorKind, Placement, Result, Storage,
};

use super::Invocation;
use crate::args::bucket::{self, Settings};
use crate::report::Status;
use crate::view::Deleted;
use crate::view::Name;
use crate::view::bucket::BucketView;

/// Makes a bucket with `change` of the default settings.
pub(super) async fn add(
    kind: BucketKind,
    name: &BucketName,
    change: impl FnOnce(&mut BucketSpec),
    on: &Invocation<'_>,
) -> Result<Status> {
    let mut spec = BucketSpec::default();
    change(&mut spec);
    let info = on.store.create_bucket(kind, name, &spec).await?;
    on.copies(spec.replicas, info.spec.replicas);
    on.printer.value(&BucketView::from(&info))?;
    Ok(Status::Done)
}

/// Changes the settings of a bucket.
pub(super) async fn edit(
    kind: BucketKind,
    name: &BucketName,
    change: impl FnOnce(&mut BucketSpec),
    on: &Invocation<'_>,
) -> Result<Status> {
    let mut spec = on.store.bucket(kind, name).await?.spec;
    change(&mut spec);
    let info = on.store.update_bucket(kind, name, &spec).await?;
    on.copies(spec.replicas, info.spec.replicas);
    on.printer.value(&BucketView::from(&info))?;
    Ok(Status::Done)
}

/// Lists the buckets.
pub(super) async fn list(
    kind: BucketKind,
    args: &bucket::Ls,
    on: &Invocation<'_>,
) -> Result<Status> {
    let buckets = on.store.buckets(kind).await?;
    if args.names {
        for info in &buckets {
            on.printer.value(&Name { name: info.name.to_string() })?;
        }
        return Ok(Status::Done);
    }
    let rows: Vec<BucketView> = buckets.iter().map(BucketView::from).collect();
    on.printer.table(&rows)?;
    if rows.is_empty() {
        on.printer.note(format_args!("no {kind} buckets"));
    }
    Ok(Status::Done)
}

/// Shows a bucket.
pub(super) async fn info(
    kind: BucketKind,
    name: &BucketName,
    on: &Invocation<'_>,
) -> Result<Status> {
    let info = on.store.bucket(kind, name).await?;
    on.printer.value(&BucketView::from(&info))?;
    Ok(Status::Done)
}

/// What `rm` does about a bucket that is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missing {
    Fails,
    IsFine,
}

/// Deletes a bucket.
pub(super) async fn remove(
    kind: BucketKind,
    name: &BucketName,
    missing: Missing,
    on: &Invocation<'_>,
) -> Result<Status> {
    let deleted = on.store.delete_bucket(kind, name).await?;
    if !deleted && missing == Missing::Fails {
        return Err(Error::new(ErrorKind::NotFound, "bucket.delete")
            .because(format!("there is no such {kind} bucket"))
            .with("bucket", name)
            .hint(format!("`jetbridge {kind} ls` lists them")));
    }
    on.printer.value(&Deleted { name: name.to_string(), deleted, revision: None })?;
    if deleted {
        on.printer.note(format_args!("deleted the {kind} bucket {name}"));
    }
    Ok(Status::Done)
}

/// Writes the settings that are given into `spec`.
pub(super) fn apply(given: Settings, spec: &mut BucketSpec) {
    if let Some(ttl) = given.ttl {
        spec.max_age = ttl.0;
    }
    if let Some(max_bytes) = given.max_bytes {
        spec.max_bytes = max_bytes.0;
    }
    if let Some(replicas) = given.replicas {
        spec.replicas = replicas;
    }
    if let Some(kind) = given.storage {
        spec.storage = storage(kind);
    }
    if given.compress {
        spec.compression = true;
    }
    if given.description.is_some() {
        spec.description = given.description;
    }
    place(given.cluster, given.tags, &mut spec.placement);
    spec.metadata.extend(given.metadata);
}

/// Where data is to be kept.
pub(super) fn storage(given: bucket::Storage) -> Storage {
    match given {
        bucket::Storage::File => Storage::File,
        bucket::Storage::Memory => Storage::Memory,
    }
}

/// Writes where the copies are to go, as far as it is given.
pub(super) fn place(cluster: Option<String>, tags: Vec<String>, spec: &mut Option<Placement>) {
    if cluster.is_none() && tags.is_empty() {
        return;
    }
    let placement = spec.get_or_insert_default();
    if cluster.is_some() {
        placement.cluster = cluster;
    }
    if !tags.is_empty() {
        placement.tags = tags;
    }
}
