//! Object names under a prefix.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{NamePrefix, failed, is_wanted};
use crate::error::Result;
use crate::kv::{DeleteOpts, Revision, Scope, Start};
use crate::name::{BucketName, ObjectName};
use crate::object::{Body, Link, Object, ObjectChange, ObjectInfo, ObjectPut, Objects};

#[derive(Debug)]
pub(super) struct PrefixedObjects {
    inner: Arc<dyn Objects>,
    prefix: NamePrefix,
}

impl PrefixedObjects {
    pub(super) fn new(inner: Arc<dyn Objects>, prefix: NamePrefix) -> Self {
        Self { inner, prefix }
    }
}

impl NamePrefix {
    /// The object as seen without the prefix; `None` if it is not under it.
    fn bare_info(&self, mut info: ObjectInfo) -> Option<Result<ObjectInfo>> {
        let name = ObjectName::parse(self.strip(info.name.as_str())?);
        if let Some(target) = info.link.as_mut().and_then(|link| link.name.as_mut())
            && let Some(bare) = self.strip(target.as_str())
        {
            match ObjectName::parse(bare) {
                Ok(bare) => *target = bare,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(name.map(|name| ObjectInfo { name, ..info }))
    }

    /// The change as seen without the prefix; `None` if its object is not under it.
    fn bare_object(&self, change: ObjectChange) -> Option<Result<ObjectChange>> {
        match change {
            ObjectChange::Put(info) => self.bare_info(info).map(|info| info.map(ObjectChange::Put)),
            ObjectChange::Delete { name, revision } => {
                let name = ObjectName::parse(self.strip(name.as_str())?);
                Some(name.map(|name| ObjectChange::Delete { name, revision }))
            }
            ObjectChange::CaughtUp => Some(Ok(change)),
        }
    }
}

fn name_of(change: &ObjectChange) -> Option<&ObjectName> {
    match change {
        ObjectChange::Put(info) => Some(&info.name),
        ObjectChange::Delete { name, .. } => Some(name),
        ObjectChange::CaughtUp => None,
    }
}

impl Display for PrefixedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Objects for PrefixedObjects {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn put(&self, name: &ObjectName, body: Body, opts: ObjectPut) -> Result<ObjectInfo> {
        let info = self.inner.put(&self.prefix.object(name)?, body, opts).await?;
        Ok(ObjectInfo { name: name.clone(), ..info })
    }

    async fn get(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let found = self.inner.get(&self.prefix.object(name)?, range).await?;
        let Some(Object { info, body }) = found else { return Ok(None) };
        // A link may lead out of the prefix; its target then keeps its full name.
        let info = match self.prefix.bare_info(info.clone()) {
            Some(bare) => bare?,
            None => info,
        };
        Ok(Some(Object { info, body }))
    }

    async fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        let found = self.inner.info(&self.prefix.object(name)?).await?;
        found.and_then(|info| self.prefix.bare_info(info)).transpose()
    }

    async fn delete(&self, name: &ObjectName, opts: DeleteOpts) -> Result<Option<Revision>> {
        self.inner.delete(&self.prefix.object(name)?, opts).await
    }

    async fn link(&self, name: &ObjectName, mut target: Link) -> Result<ObjectInfo> {
        let bare = target.clone();
        target.name = target.name.map(|target| self.prefix.object(&target)).transpose()?;
        let info = self.inner.link(&self.prefix.object(name)?, target).await?;
        Ok(ObjectInfo { name: name.clone(), link: Some(bare), ..info })
    }

    async fn seal(&self) -> Result<()> {
        self.inner.seal().await
    }

    fn list(&self, scope: Scope) -> BoxStream<'static, Result<ObjectInfo>> {
        let (scope, aside) = match self.prefix.scope(scope) {
            Ok(narrowed) => narrowed,
            Err(error) => return failed(error),
        };
        let prefix = self.prefix.clone();
        let bare = self.inner.list(scope).map(move |info| prefix.bare_info(info?).transpose());
        let wanted = bare.map(Result::transpose).filter_map(std::future::ready);
        let wanted = wanted.try_filter(move |info| {
            std::future::ready(is_wanted(aside.as_ref(), info.name.as_str()))
        });
        wanted.boxed()
    }

    fn watch(&self, scope: Scope, start: Start) -> BoxStream<'static, Result<ObjectChange>> {
        let (scope, aside) = match self.prefix.scope(scope) {
            Ok(narrowed) => narrowed,
            Err(error) => return failed(error),
        };
        let prefix = self.prefix.clone();
        let changes = self.inner.watch(scope, start);
        let bare = changes.map(move |change| prefix.bare_object(change?).transpose());
        let wanted = bare.map(Result::transpose).filter_map(std::future::ready);
        let wanted = wanted.try_filter(move |change| {
            let name = name_of(change);
            std::future::ready(name.is_none_or(|name| is_wanted(aside.as_ref(), name.as_str())))
        });
        wanted.boxed()
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64> {
        self.inner.sweep(older_than).await
    }
}
