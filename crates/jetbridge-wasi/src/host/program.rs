//! A component that is ready to run, and running it as a command.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};
use wasmtime_wasi_http::WasiHttpCtx;

use super::cache;
use super::clock::Clock;
use super::engine::engine;
use super::limits::{Closed, Exceeded, Limits, Memory, give_way, within};
use super::state::{NoRequests, State};
use crate::{Dialect, Dialects, KeyvalueCtx, Watcher, add_to_linker};

/// The interfaces that say what a component is for, without their versions.
const COMMAND: &str = "wasi:cli/run@";
const PROXY: &str = "wasi:http/incoming-handler@";

/// Options of a [`Host`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HostOpts {
    /// What a guest may use.
    pub limits: Limits,
    /// In whose directory `components` compiled ones are kept; `None` compiles each time.
    pub cache: Option<PathBuf>,
    /// Whether what guests run in is used again by the next, which is worth it where they come and
    /// go, as those that answer requests. A guest then has at most two memories, and tables of at
    /// most 1,048,576 elements; with more than 272 at once one is refused.
    pub reuse: bool,
}

/// An engine, and what all guests on it have in common.
#[derive(Debug)]
pub struct Host {
    engine: Engine,
    opts: HostOpts,
    tasks: Tasks,
    clock: Clock,
    /// Ends the guests.
    closing: CancellationToken,
}

impl Host {
    /// Starts an engine.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) on a machine for which nothing can be compiled.
    pub fn new(opts: HostOpts) -> Result<Self> {
        let host = Self {
            engine: engine(opts.reuse)?,
            opts,
            tasks: Tasks::new(),
            clock: Clock::default(),
            closing: CancellationToken::new(),
        };
        let (engine, clock) = (host.engine.clone(), host.clock.clone());
        let ticking = tokio::task::spawn_blocking(move || clock.tick(&engine));
        host.tasks.spawn(async move {
            if let Err(error) = ticking.await {
                tracing::error!("the clock of guests ended: {error}");
            }
        });
        Ok(host)
    }

    /// Compiles a component and links it; `name` is what errors call it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no component,
    /// [`Unsupported`](ErrorKind::Unsupported) if it imports what is not here; both name it.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<Program> {
        let fail = |kind, error| {
            Error::new(kind, "wasi.load").with("component", name).caused_by(told(error))
        };
        let component = cache::load(&self.engine, wasm, self.cache().as_deref())
            .map_err(|error| fail(ErrorKind::InvalidInput, error))?;
        let dialects = Dialects::of(&component, &self.engine)
            .map_err(|error| error.with("component", name))?;
        let pre = link(&self.engine, &component, &dialects)
            .map_err(|error| fail(ErrorKind::Unsupported, error))?;
        let (name, limits) = (name.to_owned(), self.opts.limits);
        let (clock, closing) = (self.clock.clone(), self.closing.clone());
        Ok(Program { name, component, dialects, pre, limits, clock, closing })
    }

    fn cache(&self) -> Option<PathBuf> {
        self.opts.cache.as_ref().map(|directory| directory.join("components"))
    }

    /// Ends the guests that still run, and then what looks at their time; how much of it is left
    /// after `grace`. The guest of a [`Follower`](super::Follower) ends when that is dropped.
    pub async fn close(&self, grace: Duration) -> usize {
        self.end_guests();
        self.tasks.stop(grace).await
    }

    fn end_guests(&self) {
        self.closing.cancel();
        self.clock.stop();
    }
}

impl Drop for Host {
    /// Ends the guests that still run.
    fn drop(&mut self) {
        self.end_guests();
    }
}

fn link(
    engine: &Engine,
    component: &Component,
    dialects: &Dialects,
) -> wasmtime::Result<InstancePre<State>> {
    let mut linker = Linker::<State>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    add_to_linker(&mut linker, dialects, State::keyvalue)?;
    linker.instantiate_pre(component)
}

/// What a component can be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Purpose {
    /// It exports `wasi:cli/run`.
    Command,
    /// It exports `wasi:http/incoming-handler`.
    Http,
    /// It exports `watcher`, in this dialect.
    Watcher(Dialect),
}

/// How a command ended.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a command says one of these")]
pub enum Ended {
    /// Well.
    Well,
    /// Not well, in its own words.
    Badly {
        /// Its exit code, never 0.
        code: i32,
    },
    /// In the middle: it did what no program may.
    Trapped(Error),
}

/// A component that is compiled and linked.
#[derive(Clone)]
pub struct Program {
    name: String,
    component: Component,
    dialects: Dialects,
    pub(super) pre: InstancePre<State>,
    pub(super) limits: Limits,
    clock: Clock,
    closing: CancellationToken,
}

impl Program {
    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dialects of wasi:keyvalue that it imports.
    pub fn dialects(&self) -> &Dialects {
        &self.dialects
    }

    /// What it can be used for.
    pub fn purposes(&self) -> Vec<Purpose> {
        let engine = self.pre.engine();
        let ty = self.component.component_type();
        let exports = || ty.exports(engine).map(|(name, _)| name);
        let mut purposes = Vec::new();
        if exports().any(|name| name.starts_with(COMMAND)) {
            purposes.push(Purpose::Command);
        }
        if exports().any(|name| name.starts_with(PROXY)) {
            purposes.push(Purpose::Http);
        }
        purposes.extend(Watcher::dialect(&self.component, engine).map(Purpose::Watcher));
        purposes
    }

    /// The interfaces that it imports, in its order.
    pub fn imports(&self) -> Vec<String> {
        let ty = self.component.component_type();
        ty.imports(self.pre.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Runs it as a command, on the standard streams of this process, until it ends.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no command,
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) naming the limit that ended it,
    /// [`Unavailable`](ErrorKind::Unavailable) if its host closed.
    pub async fn run(&self, ctx: KeyvalueCtx, args: &[String]) -> Result<Ended> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.inherit_stdio().arg(&self.name).args(args);
        let command = CommandPre::new(self.pre.clone()).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "wasi.run")
                .because("the component is no command: it does not export wasi:cli/run")
                .with("component", &self.name)
                .caused_by(told(error))
        })?;
        let mut store = self.store(ctx, &mut wasi);
        let ended = async {
            let command = command.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        match self.within(ended).await {
            Ok(Ok(())) => Ok(Ended::Well),
            Ok(Err(())) => Ok(Ended::Badly { code: 1 }),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => Ok(Ended::Well),
                Some(I32Exit(code)) => Ok(Ended::Badly { code: *code }),
                None => match self.ended(error) {
                    trap if trap.kind() == ErrorKind::Corrupt => Ok(Ended::Trapped(trap)),
                    ended => Err(ended),
                },
            },
        }
    }

    /// What one instance runs in.
    pub(super) fn store(&self, ctx: KeyvalueCtx, wasi: &mut WasiCtxBuilder) -> Store<State> {
        let state = State {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            keyvalue: ctx.result_bytes_max(self.limits.result_bytes),
            memory: Memory::new(self.limits.memory_bytes),
            hooks: NoRequests,
            _running: self.clock.guest(),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        give_way(&mut store);
        store
    }

    /// Runs a guest for as long as it may run and its host is there.
    pub(super) async fn within<R>(
        &self,
        guest: impl Future<Output = wasmtime::Result<R>>,
    ) -> wasmtime::Result<R> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Closed.into()),
            ended = within(self.limits.time, guest) => ended,
        }
    }

    /// The error of a guest that did not come to its end.
    pub(super) fn ended(&self, error: wasmtime::Error) -> Error {
        if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
            return Error::new(ErrorKind::LimitExceeded, "wasi.run")
                .because(exceeded.to_string())
                .with("limit", exceeded.limit())
                .with("component", &self.name);
        }
        if let Some(closed) = error.downcast_ref::<Closed>() {
            return Error::new(ErrorKind::Unavailable, "wasi.run")
                .because(closed.to_string())
                .with("component", &self.name);
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Error::new(ErrorKind::Unavailable, "wasi.run")
                .because("as many guests run as there is room for")
                .with("limit", "guests")
                .with("component", &self.name);
        }
        Error::new(ErrorKind::Corrupt, "wasi.run")
            .because("the guest trapped")
            .with("component", &self.name)
            .caused_by(told(error))
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An error of the engine, as a source.
pub(super) fn told(error: wasmtime::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.into()
}
