//! One interface of a linker, and how a function gets into it.

use std::future::Future;
use std::marker::PhantomData;

use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower, Resource};

use crate::bucket::Bucket;
use crate::ctx::{Keyvalue, View};
use crate::fault::{Answer, Fault};

/// An interface whose functions fail with `E`.
pub(super) struct Interface<'l, T: 'static, E> {
    pub(super) instance: LinkerInstance<'l, T>,
    pub(super) view: View<T>,
    /// Its functions are asynchronous: a guest may have many calls under way.
    concurrent: bool,
    error: PhantomData<fn() -> E>,
}

impl<'l, T: Send + 'static, E: From<Fault> + Lower + Send + 'static> Interface<'l, T, E> {
    pub(super) fn new(instance: LinkerInstance<'l, T>, view: View<T>, concurrent: bool) -> Self {
        Self { instance, view, concurrent, error: PhantomData }
    }

    /// A function whose first parameter is a bucket, and that needs nothing else of the guest.
    pub(super) fn on_bucket<A, R, F>(
        &mut self,
        name: &str,
        call: impl Fn(Bucket, A) -> F + Copy + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        A: AfterBucket,
        R: Lower + Send + 'static,
        F: Future<Output = Answer<R>> + Send + 'static,
    {
        self.func(
            name,
            move |keyvalue, params: A::Params| {
                let (bucket, rest) = A::split(params);
                Ok(call(keyvalue.table.get(&bucket)?.clone(), rest))
            },
            |_, answer| Ok(answer),
        )
    }

    /// As [`Interface::func_with`], failing with the interface's own error.
    pub(super) fn func<P, R, F>(
        &mut self,
        name: &str,
        begin: impl Fn(&mut Keyvalue<'_>, P) -> wasmtime::Result<F> + Copy + Send + Sync + 'static,
        end: impl Fn(&mut Keyvalue<'_>, F::Output) -> wasmtime::Result<Answer<R>>
        + Copy
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + 'static,
        R: Lower + Send + 'static,
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.func_with(name, begin, move |keyvalue, output| {
            Ok(end(keyvalue, output)?.map_err(E::from))
        })
    }

    /// A function: `begin` takes what the call needs from the table, `end` puts what it made
    /// there. An error of either is a fault of the host and traps.
    pub(super) fn func_with<P, R, X, F>(
        &mut self,
        name: &str,
        begin: impl Fn(&mut Keyvalue<'_>, P) -> wasmtime::Result<F> + Copy + Send + Sync + 'static,
        end: impl Fn(&mut Keyvalue<'_>, F::Output) -> wasmtime::Result<Result<R, X>>
        + Copy
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + 'static,
        R: Lower + Send + 'static,
        X: Lower + Send + 'static,
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let view = self.view;
        if self.concurrent {
            return self.instance.func_wrap_concurrent(name, move |accessor, params: P| {
                Box::pin(async move {
                    let call = accessor.with(|mut it| begin(&mut view(it.get()), params))?;
                    let output = call.await;
                    accessor.with(|mut it| Ok((end(&mut view(it.get()), output)?,)))
                })
            });
        }
        self.instance.func_wrap_async(name, move |mut cx, params: P| {
            Box::new(async move {
                let output = begin(&mut view(cx.data_mut()), params)?.await;
                Ok((end(&mut view(cx.data_mut()), output)?,))
            })
        })
    }
}

/// What follows the bucket in the parameters of a function.
pub(super) trait AfterBucket: Send + 'static {
    type Params: ComponentNamedList + Lift + Send + 'static;
    fn split(params: Self::Params) -> (Resource<Bucket>, Self);
}

macro_rules! after_bucket {
    ($($name:ident: $ty:ident),+) => {
        impl<$($ty: Lift + Send + 'static),+> AfterBucket for ($($ty,)+) {
            type Params = (Resource<Bucket>, $($ty),+);

            fn split((bucket, $($name),+): Self::Params) -> (Resource<Bucket>, Self) {
                (bucket, ($($name,)+))
            }
        }
    };
}

after_bucket!(a: A);
after_bucket!(a: A, b: B);
after_bucket!(a: A, b: B, c: C);
