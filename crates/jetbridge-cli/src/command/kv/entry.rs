//! `put`, `create`, `update`, `get`, `del`, `purge` and `revert`.

use jetbridge_core::{DeleteOpts, Error, ErrorKind, Expect, PutOpts, Read, Result, Revision};

use super::Words;
use crate::args::kv::{Del, Get, Put, Revert, Update};
use crate::input::{self, Unwritten};
use crate::report::Status;
use crate::view::Deleted;
use crate::view::entry::{EntryView, WrittenView};

impl Put {
    /// `create` is `put --if-absent`.
    pub(super) fn if_absent(self) -> Self {
        Self { if_absent: true, ..self }
    }

    fn expect(&self) -> Expect {
        match self.revision {
            Some(revision) => Expect::Exactly(Revision(revision)),
            None if self.if_absent => Expect::Absent,
            None => Expect::Any,
        }
    }
}

impl Update {
    /// `update` is `put --revision`.
    pub(super) fn into_put(self) -> Put {
        Put {
            at: self.at,
            value: Some(self.value),
            ttl: None,
            if_absent: false,
            revision: Some(self.revision),
            header: Vec::new(),
        }
    }
}

impl Words<'_> {
    pub(super) async fn put(&self, args: Put) -> Result<Status> {
        let kv = self.open(&args.at.bucket).await?;
        let bytes_max = self.on.store.capabilities().value_bytes_max;
        let value = input::value(args.value.as_deref(), Unwritten::Refused, bytes_max).await?;
        let mut opts = PutOpts::new().expect(args.expect()).headers(input::headers(&args.header)?);
        opts.ttl = args.ttl;
        let written = kv.put(&args.at.key, value, opts).await?;
        self.on.printer.value(&WrittenView::of(&args.at.bucket, &args.at.key, written))?;
        Ok(Status::Done)
    }

    pub(super) async fn get(&self, args: Get) -> Result<Status> {
        let read = match args.revision {
            Some(revision) => Read::At(Revision(revision)),
            None if args.stale => Read::MaybeStale,
            None => Read::Fresh,
        };
        let (bucket, key) = (&args.at.bucket, &args.at.key);
        match self.open(bucket).await?.get(key, read).await? {
            Some(entry) => {
                self.on.printer.value(&EntryView::of(bucket, &entry))?;
                Ok(Status::Done)
            }
            None => Ok(self.absent(bucket, key)),
        }
    }

    pub(super) async fn delete(&self, args: Del) -> Result<Status> {
        if args.revision.is_some() && args.keys.len() > 1 {
            return Err(Error::new(ErrorKind::InvalidInput, "kv.delete")
                .because("--revision is of one key, but several are given")
                .hint("delete them one by one"));
        }
        let kv = self.open(&args.bucket).await?;
        let mut opts = args
            .revision
            .map_or_else(DeleteOpts::new, |revision| DeleteOpts::exactly(Revision(revision)));
        opts.history = args.history;
        let mut status = Status::Done;
        for key in &args.keys {
            let revision = kv.delete(key, opts).await?;
            if revision.is_none() && !args.force {
                status = self.absent(&args.bucket, key);
                continue;
            }
            self.on.printer.value(&Deleted {
                name: key.to_string(),
                deleted: revision.is_some(),
                revision: revision.map(|revision| revision.0),
            })?;
        }
        Ok(status)
    }

    pub(super) async fn revert(&self, args: Revert) -> Result<Status> {
        let (bucket, key) = (&args.at.bucket, &args.at.key);
        let kv = self.open(bucket).await?;
        let earlier = kv.get(key, Read::At(Revision(args.revision))).await?;
        let Some(earlier) = earlier else {
            let revision = args.revision.to_string();
            return Ok(self.on.absent("stored revision", &revision, bucket.as_str()));
        };
        // The condition keeps a change that came in between from being lost.
        let present = kv.get(key, Read::Fresh).await?;
        let opts = present.map_or_else(PutOpts::create, |entry| PutOpts::over(entry.revision));
        let written = kv.put(key, earlier.value, opts.headers(earlier.headers)).await?;
        self.on.printer.value(&WrittenView::of(bucket, key, written))?;
        Ok(Status::Done)
    }
}
