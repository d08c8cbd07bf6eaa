//! The interfaces as a linker offers them: names and types on the outside, one
//! [`Bucket`](crate::Bucket) within.
//!
//! A call is begun and ended with the table of handles at hand, and holds none of the guest's
//! state while it waits; so the same call serves a guest that blocks and one that has many under
//! way.

use bytes::Bytes;
use wasmtime::component::{Linker, Lower, Resource, ResourceType};

use self::interface::Interface;
use crate::bucket::{Bucket, Cas, Keys, Swap};
use crate::ctx::View;
use crate::dialect::{Dialect, Dialects};
use crate::fault::{Answer, Fault};
use crate::swap::Conditions;
use crate::wire::{
    CasEntry, CasError, CasOptions, CasResult, CloudError, DraftError, KeyPage, NumberedKeys,
    SetOptions,
};

mod interface;

/// Lets components instantiated from `linker` use wasi:keyvalue in `dialects`; `view` finds what
/// the store has of it.
///
/// # Errors
/// An interface that the linker already has, or [`Dialect::WasmCloud`] on an engine without
/// asynchronous components.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    dialects: &Dialects,
    view: View<T>,
) -> wasmtime::Result<()> {
    for dialect in dialects.iter() {
        let mut link = Link { linker: &mut *linker, dialect, view };
        match dialect {
            Dialect::Draft => link.draft()?,
            Dialect::Draft2 => {
                link.draft2()?;
                link.batch::<DraftError, _>(optional_pairs)?;
            }
            Dialect::SpinDraft2 => {
                link.draft2()?;
                link.batch::<DraftError, _>(pairs)?;
            }
            Dialect::WasmCloud => link.wasm_cloud()?,
        }
    }
    Ok(())
}

/// One dialect on its way into a linker.
struct Link<'l, T: 'static> {
    linker: &'l mut Linker<T>,
    dialect: Dialect,
    view: View<T>,
}

impl<T: Send + 'static> Link<'_, T> {
    fn interface<E>(&mut self, name: &str) -> wasmtime::Result<Interface<'_, T, E>>
    where
        E: From<Fault> + Lower + Send + 'static,
    {
        let instance = self.linker.instance(&self.dialect.interface(name))?;
        let concurrent = self.dialect == Dialect::WasmCloud;
        Ok(Interface::new(instance, self.view, concurrent))
    }

    fn draft(&mut self) -> wasmtime::Result<()> {
        let mut store = self.interface::<DraftError>("store")?;
        store.bucket_resource()?;
        store.open()?;
        store.reads()?;
        store.blocking_set()?;
        store.on_bucket("[method]bucket.list-keys", |bucket: Bucket, (after,)| async move {
            let (keys, cursor) = bucket.list_by_number(after).await?;
            Ok(NumberedKeys { keys, cursor })
        })?;
        self.interface::<DraftError>("atomics")?.on_bucket(
            "increment",
            |bucket: Bucket, (key, delta): (String, u64)| async move {
                bucket.increment_unsigned(&key, delta).await
            },
        )?;
        self.batch::<DraftError, _>(optional_pairs)
    }

    fn draft2(&mut self) -> wasmtime::Result<()> {
        let mut store = self.interface::<DraftError>("store")?;
        store.bucket_resource()?;
        store.open()?;
        store.reads()?;
        store.blocking_set()?;
        store.on_bucket("[method]bucket.list-keys", |bucket: Bucket, (after,)| async move {
            page(bucket.list(None, cursor(after)).await)
        })?;
        let mut atomics = self.interface::<DraftError>("atomics")?;
        atomics.increment()?;
        atomics.cas_resource()
    }

    fn wasm_cloud(&mut self) -> wasmtime::Result<()> {
        let mut types = self.interface::<CloudError>("types")?;
        types.bucket_resource()?;
        types.reads()?;
        types.on_bucket(
            "[method]bucket.set",
            |bucket: Bucket, (key, value, opts): (String, Bytes, Option<SetOptions>)| async move {
                let opts = opts.map_or((None, false), |opts| (opts.ttl_ms, opts.if_not_exists));
                bucket.set_with(&key, value, opts).await
            },
        )?;
        types.on_bucket(
            "[method]bucket.list-keys",
            |bucket: Bucket, (prefix, after): (Option<String>, _)| async move {
                page(bucket.list(prefix, cursor(after)).await)
            },
        )?;
        self.interface::<CloudError>("store")?.open()?;
        self.interface::<CloudError>("atomics")?.increment()?;
        self.interface::<CloudError>("cas")?.swaps()?;
        self.batch::<CloudError, _>(optional_pairs)
    }

    fn batch<E, R>(&mut self, shape: fn(Vec<(String, Option<Bytes>)>) -> R) -> wasmtime::Result<()>
    where
        E: From<Fault> + Lower + Send + 'static,
        R: Lower + Send + 'static,
    {
        let mut batch = self.interface::<E>("batch")?;
        batch.on_bucket("get-many", move |bucket: Bucket, (keys,): (Vec<String>,)| async move {
            Ok(shape(bucket.get_many(keys).await?))
        })?;
        batch.on_bucket("set-many", |bucket: Bucket, (pairs,)| async move {
            bucket.set_many(pairs).await
        })?;
        batch.on_bucket("delete-many", |bucket: Bucket, (keys,)| async move {
            bucket.delete_many(keys).await
        })
    }
}

impl<T: Send + 'static, E: From<Fault> + Lower + Send + 'static> Interface<'_, T, E> {
    fn bucket_resource(&mut self) -> wasmtime::Result<()> {
        self.resource::<Bucket>("bucket")
    }

    fn open(&mut self) -> wasmtime::Result<()> {
        self.func(
            "open",
            |keyvalue, (identifier,): (String,)| {
                let ctx = keyvalue.ctx.clone();
                Ok(async move { ctx.open(&identifier).await })
            },
            |keyvalue, opened| Ok(opened.and_then(|bucket| keyvalue.hand_out(bucket))),
        )
    }

    fn reads(&mut self) -> wasmtime::Result<()> {
        self.on_bucket("[method]bucket.get", |bucket: Bucket, (key,): (String,)| async move {
            bucket.get(&key).await
        })?;
        self.on_bucket("[method]bucket.exists", |bucket: Bucket, (key,): (String,)| async move {
            bucket.exists(&key).await
        })?;
        self.on_bucket("[method]bucket.delete", |bucket: Bucket, (key,): (String,)| async move {
            bucket.delete(&key).await
        })
    }

    fn blocking_set(&mut self) -> wasmtime::Result<()> {
        self.on_bucket(
            "[method]bucket.set",
            |bucket: Bucket, (key, value): (String, Bytes)| async move {
                bucket.set(&key, value).await
            },
        )
    }

    fn increment(&mut self) -> wasmtime::Result<()> {
        self.on_bucket("increment", |bucket: Bucket, (key, delta): (String, i64)| async move {
            bucket.increment(&key, delta, None).await
        })
    }

    /// Compare-and-set by a handle that remembers what it saw.
    fn cas_resource(&mut self) -> wasmtime::Result<()> {
        self.resource::<Cas>("cas")?;
        self.func(
            "[static]cas.new",
            |keyvalue, (bucket, key): (Resource<Bucket>, String)| {
                Ok(Cas::new(keyvalue.table.get(&bucket)?.clone(), key))
            },
            |keyvalue, cas| Ok(cas.and_then(|cas| keyvalue.hand_out(cas))),
        )?;
        self.func(
            "[method]cas.current",
            |keyvalue, (cas,): (Resource<Cas>,)| {
                Ok(std::future::ready(Ok(keyvalue.table.get(&cas)?.current())))
            },
            |_, current: Answer<Option<Bytes>>| Ok(current),
        )?;
        self.func_with(
            "swap",
            |keyvalue, (cas, value): (Resource<Cas>, Bytes)| {
                Ok(keyvalue.table.delete(cas)?.swap(value))
            },
            |keyvalue, swap| {
                let failed = |fault| CasError::StoreError(DraftError::from(fault));
                Ok(match swap {
                    Swap::Done => Ok(()),
                    Swap::Lost(cas) => {
                        Err(keyvalue.hand_out(cas).map_or_else(failed, CasError::CasFailed))
                    }
                    Swap::Failed(fault) => Err(failed(fault)),
                })
            },
        )
    }

    /// Compare-and-set by conditions that the call carries.
    fn swaps(&mut self) -> wasmtime::Result<()> {
        self.on_bucket("current", |bucket: Bucket, (key,): (String,)| async move {
            Ok(bucket.present(&key).await?.map(CasEntry::from))
        })?;
        self.on_bucket(
            "swap",
            |bucket: Bucket, (key, value, options): (String, Bytes, CasOptions)| async move {
                let CasOptions { require_version: version, require_value } = options;
                let conditions = Conditions { version, value: require_value };
                Ok(match bucket.swap(&key, value, conditions).await? {
                    Ok(()) => CasResult::Swapped,
                    Err(present) => CasResult::Stale(present.map(CasEntry::from)),
                })
            },
        )
    }

    fn resource<R: 'static>(&mut self, name: &str) -> wasmtime::Result<()> {
        let view = self.view;
        self.instance.resource(name, ResourceType::host::<R>(), move |mut cx, rep| {
            view(cx.data_mut()).table.delete(Resource::<R>::new_own(rep))?;
            Ok(())
        })
    }
}

fn cursor(text: Option<String>) -> Option<jetbridge_core::Cursor> {
    text.map(|text| jetbridge_core::Cursor::new(&text))
}

fn page(keys: Answer<Keys>) -> Answer<KeyPage> {
    let Keys { keys, next } = keys?;
    Ok(KeyPage { keys, cursor: next.map(|next| next.as_str().to_owned()) })
}

fn optional_pairs(values: Vec<(String, Option<Bytes>)>) -> Vec<Option<(String, Bytes)>> {
    values.into_iter().map(|(key, value)| value.map(|value| (key, value))).collect()
}

fn pairs(values: Vec<(String, Option<Bytes>)>) -> Vec<(String, Option<Bytes>)> {
    values
}
