//! A layer around a bucket of objects.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{DeleteOpts, Revision, Scope, Start};
use crate::name::{BucketName, ObjectName};
use crate::object::{Body, Link, Object, ObjectChange, ObjectInfo, ObjectPut, Objects};
use crate::wrap::layer::{Call, Layer};

#[derive(Debug)]
pub(super) struct LayeredObjects<L> {
    pub(super) inner: Arc<dyn Objects>,
    pub(super) layer: Arc<L>,
}

impl<L: Layer> LayeredObjects<L> {
    fn call(&self, operation: &'static str) -> Call<'_> {
        Call::new(operation).bucket(self.inner.bucket())
    }
}

impl<L: Layer> Display for LayeredObjects<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Layer> Objects for LayeredObjects<L> {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        let call = self.call("object.put").name(name).once();
        let mut body = Some(body);
        self.layer
            .call(call, || match body.take() {
                Some(body) => self.inner.put(name, body, opts.clone()),
                None => sent_twice(),
            })
            .await
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let call = self.call("object.get").name(name);
        let found = self.layer.call(call, || self.inner.get(name, range.clone())).await?;
        Ok(found.map(|object| {
            let call = self.call("object.read").name(name);
            Object { body: self.layer.body(call, object.body), ..object }
        }))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        let call = self.call("object.info").name(name);
        self.layer.call(call, || self.inner.info(name)).await
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        let call = self.call("object.delete").name(name);
        self.layer.call(call, || self.inner.delete(name, opts)).await
    }

    async fn link(&self, name: &ObjectName, target: Link) -> Result<ObjectInfo> {
        let call = self.call("object.link").name(name);
        self.layer.call(call, || self.inner.link(name, target.clone())).await
    }

    async fn seal(&self) -> Result<()> {
        self.layer.call(self.call("object.seal"), || self.inner.seal()).await
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        self.layer.listing(self.call("object.list"), self.inner.list(scope))
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        self.layer.watch(self.call("object.watch"), self.inner.watch(scope, start))
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.layer.call(self.call("object.sweep"), || self.inner.sweep(older_than)).await
    }
}

fn sent_twice<'a>() -> BoxFuture<'a, Result<ObjectInfo>> {
    Box::pin(async {
        Err(Error::new(ErrorKind::Internal, "object.put")
            .because("a layer repeated an operation that can be started once"))
    })
}
