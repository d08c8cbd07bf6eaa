//! A bucket of objects with a flaw.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    Body, BucketName, DeleteOpts, Link, Object, ObjectChange, ObjectInfo, ObjectName, ObjectPut,
    Objects, Result, Revision, Scope, Start,
};

use super::Flaw;

#[derive(Debug)]
pub(super) struct FlawedObjects {
    pub(super) inner: Arc<dyn Objects>,
    pub(super) flaw: Flaw,
}

impl Display for FlawedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Objects for FlawedObjects {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn put(&self, name: &ObjectName, mut body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        if self.flaw == Flaw::KeepsTornBodies {
            body = body.take_while(|piece| std::future::ready(piece.is_ok())).boxed();
        }
        self.inner.put(name, body, opts).await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let found = self.inner.get(name, range).await?;
        let Some(Object { info, body, .. }) = found else { return Ok(None) };
        if self.flaw != Flaw::LosesTheLastByte {
            return Ok(Some(Object::new(info, body)));
        }
        let mut data: Vec<Bytes> = body.try_collect().await?;
        if let Some(last) = data.last_mut() {
            last.truncate(last.len().saturating_sub(1));
        }
        Ok(Some(Object::new(info, stream::iter(data.into_iter().map(Ok)).boxed())))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        self.inner.info(name).await
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        self.inner.delete(name, opts).await
    }

    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo> {
        self.inner.link(name, target).await
    }

    async fn seal(&self) -> Result<()> {
        self.inner.seal().await
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        self.inner.list(scope)
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        self.inner.watch(scope, start)
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.inner.sweep(older_than).await
    }
}
