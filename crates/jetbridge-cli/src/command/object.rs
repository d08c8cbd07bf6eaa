//! `object`: files and other large values.

mod get;
mod put;

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use jetbridge_core::{
    BucketKind, BucketName, DeleteOpts, Link, ObjectChange, ObjectName, Objects, Open, Result,
    Scope, Start,
};

use super::{Invocation, bucket};
use crate::args::object::{self as args, Del, Info, OneObject, Rm, Word};
use crate::follow::{Next, next};
use crate::report::Status;
use crate::view::bucket::BucketView;
use crate::view::object::{ObjectChangeView, ObjectView};
use crate::view::{Deleted, Name};

/// Does what the word behind `object` says.
pub(super) async fn run(args: args::Object, on: &Invocation<'_>) -> Result<Status> {
    let objects = Words { on };
    match args.word {
        Word::Add(args) => {
            let settings = args.settings;
            let change = |spec: &mut _| bucket::apply(settings, spec);
            bucket::add(BucketKind::Object, &args.bucket, change, on).await
        }
        Word::Edit(args) => {
            let settings = args.settings;
            let change = |spec: &mut _| bucket::apply(settings, spec);
            bucket::edit(BucketKind::Object, &args.bucket, change, on).await
        }
        Word::Ls(args) => match &args.bucket {
            Some(bucket) if args.names => objects.names(bucket).await,
            Some(bucket) => objects.list(bucket).await,
            None => bucket::list(BucketKind::Object, &args, on).await,
        },
        Word::Info(Info { bucket, name: Some(name) }) => {
            objects.stat(OneObject { bucket, name }).await
        }
        Word::Info(Info { bucket, name: None }) => {
            bucket::info(BucketKind::Object, &bucket, on).await
        }
        Word::Rm(args) => objects.remove(args).await,
        Word::Put(args) => objects.put(args).await,
        Word::Get(args) => objects.get(args).await,
        Word::Del(args) => objects.delete(args).await,
        Word::Stat(args) => objects.stat(args).await,
        Word::Watch(args) => objects.watch(args).await,
        Word::Link(args) => objects.link(args).await,
        Word::Seal(args) => objects.seal(&args.bucket.bucket).await,
    }
}

/// The words that work on the objects of a bucket.
struct Words<'a> {
    on: &'a Invocation<'a>,
}

impl Words<'_> {
    async fn open(&self, bucket: &BucketName) -> Result<Arc<dyn Objects>> {
        self.on.store.objects(bucket, Open::existing()).await
    }

    fn absent(&self, bucket: &BucketName, name: &ObjectName) -> Status {
        self.on.absent("object", name.as_str(), bucket.as_str())
    }

    async fn names(&self, bucket: &BucketName) -> Result<Status> {
        let mut listing = self.open(bucket).await?.list(Scope::All);
        while let Some(info) = listing.try_next().await? {
            self.on.printer.value(&Name { name: info.name.to_string() })?;
        }
        Ok(Status::Done)
    }

    async fn list(&self, bucket: &BucketName) -> Result<Status> {
        let mut listing = self.open(bucket).await?.list(Scope::All);
        let mut rows = Vec::new();
        while let Some(info) = listing.try_next().await? {
            rows.push(ObjectView::of(bucket, &info));
        }
        self.on.printer.table(&rows)?;
        Ok(Status::Done)
    }

    async fn stat(&self, args: OneObject) -> Result<Status> {
        let Some(info) = self.open(&args.bucket).await?.info(&args.name).await? else {
            return Ok(self.absent(&args.bucket, &args.name));
        };
        self.on.printer.value(&ObjectView::of(&args.bucket, &info))?;
        Ok(Status::Done)
    }

    /// A bucket, or objects of it, as the `nats` CLI has it.
    async fn remove(&self, args: Rm) -> Result<Status> {
        let Rm { bucket, names, force } = args;
        if names.is_empty() {
            let missing = if force { bucket::Missing::IsFine } else { bucket::Missing::Fails };
            return bucket::remove(BucketKind::Object, &bucket, missing, self.on).await;
        }
        self.delete(Del { bucket, names, force }).await
    }

    async fn delete(&self, args: Del) -> Result<Status> {
        let objects = self.open(&args.bucket).await?;
        let mut status = Status::Done;
        for name in &args.names {
            let revision = objects.delete(name, DeleteOpts::new()).await?;
            if revision.is_none() && !args.force {
                status = self.absent(&args.bucket, name);
                continue;
            }
            self.on.printer.value(&Deleted {
                name: name.to_string(),
                deleted: revision.is_some(),
                revision: revision.map(|revision| revision.0),
            })?;
        }
        Ok(status)
    }

    async fn link(&self, args: args::Link) -> Result<Status> {
        let bucket = args.to_bucket.unwrap_or_else(|| args.at.bucket.clone());
        let target = match args.target {
            Some(name) => Link::object(bucket, name),
            None => Link::bucket(bucket),
        };
        let info = self.open(&args.at.bucket).await?.link(&args.at.name, target).await?;
        self.on.printer.value(&ObjectView::of(&args.at.bucket, &info))?;
        Ok(Status::Done)
    }

    async fn seal(&self, bucket: &BucketName) -> Result<Status> {
        self.open(bucket).await?.seal().await?;
        let info = self.on.store.bucket(BucketKind::Object, bucket).await?;
        self.on.printer.value(&BucketView::from(&info))?;
        Ok(Status::Done)
    }

    async fn watch(&self, args: args::Watch) -> Result<Status> {
        let (bucket, printer) = (&args.bucket.bucket, self.on.printer);
        let scope = Scope::prefix(args.prefix.as_deref().unwrap_or_default());
        let start = if args.updates_only { Start::Now } else { Start::Current };
        let mut changes = self.open(bucket).await?.watch(scope, start);
        let mut stop = self.on.interrupt.claim();
        let mut left = args.count;
        while left != Some(0) {
            let Next::Item(change) = next(&mut changes, printer, &mut stop).await? else { break };
            printer.value(&ObjectChangeView::of(bucket, &change))?;
            if change != ObjectChange::CaughtUp {
                left = left.map(|left| left - 1);
            }
        }
        Ok(stop.status(left.is_some_and(|left| left > 0)))
    }
}
