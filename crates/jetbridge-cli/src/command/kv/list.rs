//! `ls BUCKET`, `keys`, `count`, `clear` and `history`.

use std::collections::HashSet;

use futures_util::TryStreamExt as _;
use jetbridge_core::{BucketName, Key, Kv, Result, Scope};

use super::Words;
use crate::args::kv::{Keys, ListKeys, OneKey};
use crate::progress::Progress;
use crate::report::Status;
use crate::view::Number;
use crate::view::entry::{ChangeView, KeyView};

impl Words<'_> {
    pub(super) async fn list(&self, bucket: &BucketName) -> Result<Status> {
        self.print(bucket, Scope::All, KeyView::line).await
    }

    pub(super) async fn keys(&self, args: ListKeys) -> Result<Status> {
        let scope = self.scope(&args.keys.choice)?;
        let view = if args.null { KeyView::null } else { KeyView::line };
        self.print(&args.keys.bucket, scope, view).await
    }

    async fn print(
        &self,
        bucket: &BucketName,
        scope: Scope,
        view: fn(&Key) -> KeyView,
    ) -> Result<Status> {
        let kv = self.open(bucket).await?;
        each(&*kv, scope, |key| self.on.printer.value(&view(key))).await?;
        Ok(Status::Done)
    }

    pub(super) async fn count(&self, args: Keys) -> Result<Status> {
        let scope = self.scope(&args.choice)?;
        let kv = self.open(&args.bucket).await?;
        let progress = Progress::items(self.on.printer, "keys", None);
        let counted = each(&*kv, scope, |_key| {
            progress.advance(1);
            Ok(())
        });
        let value = counted.await;
        progress.finish();
        self.on.printer.value(&Number { value: value? })?;
        Ok(Status::Done)
    }

    pub(super) async fn clear(&self, args: Keys) -> Result<Status> {
        let scope = self.scope(&args.choice)?;
        let value = self.open(&args.bucket).await?.purge(scope).await?;
        self.on.printer.value(&Number { value })?;
        Ok(Status::Done)
    }

    pub(super) async fn history(&self, args: OneKey) -> Result<Status> {
        let changes = self.open(&args.bucket).await?.history(&args.key).await?;
        if changes.is_empty() {
            return Ok(self.absent(&args.bucket, &args.key));
        }
        for change in &changes {
            self.on.printer.value(&ChangeView::whole(change))?;
        }
        Ok(Status::Done)
    }
}

/// Does something with each key once, and returns how many there are. A listing may have a key
/// twice if it is written meanwhile.
async fn each(
    kv: &dyn Kv,
    scope: Scope,
    mut with: impl FnMut(&Key) -> Result<()>,
) -> Result<usize> {
    let mut keys = kv.keys(scope);
    let mut seen = HashSet::new();
    while let Some(key) = keys.try_next().await? {
        if !seen.contains(&key) {
            with(&key)?;
            seen.insert(key);
        }
    }
    Ok(seen.len())
}
