//! `status`.

use jetbridge_core::{BucketKind, Result};

use super::Invocation;
use crate::report::Status;
use crate::view::bucket::BucketView;
use crate::view::store::StatusView;
use crate::view::stream::StreamView;

/// Says where the store is, what it can do and what it holds. What the login may not list is
/// left out with a warning.
pub(super) async fn run(on: &Invocation<'_>) -> Result<Status> {
    let status = on.store.status().await?;
    let mut view = StatusView::new(status, on.origin.to_owned(), &on.store.capabilities());
    for kind in [BucketKind::Kv, BucketKind::Object] {
        match on.store.buckets(kind).await {
            Ok(buckets) => view.buckets.extend(buckets.iter().map(BucketView::from)),
            Err(error) => on.printer.warn(format_args!("{kind} buckets are not listed: {error}")),
        }
    }
    match on.store.bus().streams().await {
        Ok(streams) => view.streams.extend(streams.iter().map(StreamView::from)),
        Err(error) => on.printer.warn(format_args!("streams are not listed: {error}")),
    }
    on.printer.value(&view)?;
    Ok(Status::Done)
}
