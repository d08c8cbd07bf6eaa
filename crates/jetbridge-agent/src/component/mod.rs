//! `components:` — guests of wasi:keyvalue that run for as long as `up` does: told of the changes
//! of their stores, or answering HTTP under a path.
//!
//! Compiling, limits and delivery are the wasi crate's business; here they become a section with
//! a state, figures and an end.

mod follow;
mod http;
mod metrics;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jetbridge::settings::{Environment, Location};
use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Handler, Host, HostOpts, Limits, Program, Purpose};
use jetbridge::{LinkPlan, Links};
use jetbridge_core::{Backoff, Error, ErrorKind, Result, Tasks};
use tokio::time::Instant;

pub(crate) use self::http::{Routes, answer};
pub(crate) use self::metrics::ComponentMetrics;

use self::follow::follow;
use crate::board::{Reporter, State};
use crate::supervise::{Context, Drained, Section};

/// Between two looks at a component's file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long what belongs to a component may take to end when another takes its place.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// One entry of `components:`. What it means is in `docs/guide/wasi.md`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ComponentSpec {
    /// What status, metrics and logs call it.
    pub name: String,
    /// The component.
    pub wasm: PathBuf,
    /// What it finds behind the identifiers that it opens: properties by name.
    pub links: BTreeMap<String, Vec<(String, String)>>,
    /// Properties of every link that does not set them.
    pub provider: Vec<(String, String)>,
    /// The identifiers of the stores whose changes it is told of.
    pub watch: Vec<String>,
    /// The path under which it answers HTTP.
    pub route: Option<String>,
    /// What one instance may use.
    pub limits: Limits,
    /// The variables that its links' properties may use.
    pub environment: Environment,
}

impl ComponentSpec {
    /// Where its links lead, without connecting.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a property that is unknown or cannot be read.
    pub fn plan(&self) -> Result<Vec<LinkPlan>> {
        let links = Links::new(self.environment.clone()).at(Location::Memory);
        let links = links.provider(&self.provider);
        self.links.iter().map(|(name, properties)| links.plan(name, properties)).collect()
    }
}

/// A component, where it finds its settings, and where it is asked.
pub(crate) struct ComponentSection {
    pub(crate) spec: ComponentSpec,
    /// Where the file's store is.
    pub(crate) place: Location,
    pub(crate) routes: Routes,
}

impl Section for ComponentSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let mut backoff = Backoff::outage();
            loop {
                match self.start(&context).await {
                    Ok(running) => match running.keep(&self.spec, &context).await {
                        Kept::Told(drained) => return drained,
                        Kept::Changed => backoff = Backoff::outage(),
                    },
                    Err(error) => context.reporter.degraded(error),
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    _deadline = context.stop.begins() => return Drained::default(),
                }
            }
        })
    }
}

/// A component that runs.
struct Running {
    host: Host,
    links: Links,
    tasks: Tasks,
    stamp: Stamp,
    routes: Option<Routes>,
}

/// Why a component does not run any more.
enum Kept {
    /// It was told to stop.
    Told(Drained),
    /// Its file is another one.
    Changed,
}

impl ComponentSection {
    async fn start(&self, context: &Context) -> Result<Running> {
        let spec = &self.spec;
        let stamp = Stamp::of(&spec.wasm);
        let wasm = tokio::fs::read(&spec.wasm).await.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "component.load")
                .because(format!("{} cannot be read", spec.wasm.display()))
                .caused_by(error)
        })?;
        let (host, program) = compile(spec.clone(), wasm).await?;
        self.check(&program)?;
        let links = Links::new(spec.environment.clone())
            .over(Arc::clone(&context.backend), self.place.clone())
            .in_background()
            .provider(&spec.provider);
        let tasks = Tasks::new();
        let running = Running { host, links, tasks, stamp, routes: None };
        match self.set_out(program, running, context).await {
            Ok(running) => Ok(running),
            Err((error, running)) => {
                running.end(CLOSE_GRACE).await;
                Err(error)
            }
        }
    }

    /// Links the component, lets it watch and puts it behind its route.
    async fn set_out(
        &self,
        program: Program,
        mut running: Running,
        context: &Context,
    ) -> Result<Running, (Error, Running)> {
        let spec = &self.spec;
        if let Err(error) = link(&running.links, spec).await {
            return Err((error, running));
        }
        let ctx = KeyvalueCtx::new(running.links.stores().clone());
        let handler = spec.route.as_ref().map(|route| {
            Handler::new(program.clone(), ctx.clone(), &running.tasks)
                .map(|handler| self.routes.add(route, &spec.name, handler))
        });
        if let Some(Err(error)) = handler {
            return Err((error, running));
        }
        running.routes = spec.route.is_some().then(|| self.routes.clone());
        let health = Health::new(context.reporter.clone(), spec.watch.len());
        for (at, identifier) in spec.watch.iter().enumerate() {
            let watch = follow::Watch {
                program: program.clone(),
                ctx: ctx.clone(),
                component: spec.name.clone(),
                identifier: identifier.clone(),
                metrics: context.metrics.components.clone(),
                health: health.of(at),
            };
            running.tasks.spawn_until_stop(follow(watch));
        }
        if spec.watch.is_empty() {
            context.reporter.set(State::Running);
        }
        Ok(running)
    }

    /// Refuses a component that cannot do what the file wants of it.
    fn check(&self, program: &Program) -> Result<()> {
        let purposes = program.purposes();
        let watches = purposes.iter().any(|it| matches!(it, Purpose::Watcher(_)));
        let lacks = match &self.spec {
            spec if spec.route.is_some() && !purposes.contains(&Purpose::Http) => {
                "`route` needs a component that exports wasi:http/incoming-handler"
            }
            spec if !spec.watch.is_empty() && !watches => {
                "`watch` needs a component that exports wasi:keyvalue/watcher"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, "component.load")
            .because(lacks)
            .with("component", program.name())
            .hint("`jetbridge wasi inspect` says what a component is for"))
    }
}

async fn compile(spec: ComponentSpec, wasm: Vec<u8>) -> Result<(Host, Program)> {
    let mut opts = HostOpts::default();
    (opts.limits, opts.cache) = (spec.limits, spec.environment.cache_directory());
    let host = Host::new(opts)?;
    let compiled = tokio::task::spawn_blocking(move || {
        let program = host.load(&spec.name, &wasm)?;
        Ok((host, program))
    });
    compiled
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "component.load").caused_by(error))?
}

async fn link(links: &Links, spec: &ComponentSpec) -> Result<()> {
    for (name, properties) in &spec.links {
        links.add(name, properties).await?;
    }
    Ok(())
}

impl Running {
    /// Lets it run until it is told to stop or its file changes.
    async fn keep(self, spec: &ComponentSpec, context: &Context) -> Kept {
        let deadline = tokio::select! {
            deadline = context.stop.begins() => Some(deadline),
            () = changed(&spec.wasm, &self.stamp) => None,
        };
        if let (Some(routes), Some(route)) = (&self.routes, &spec.route) {
            routes.remove(route);
        }
        let grace = deadline
            .map_or(CLOSE_GRACE, |deadline| deadline.saturating_duration_since(Instant::now()));
        let abandoned = self.end(grace).await;
        match deadline {
            Some(_) => Kept::Told(Drained { abandoned, ..Drained::default() }),
            None => {
                tracing::info!(component = %spec.name, "its file changed: it starts anew");
                Kept::Changed
            }
        }
    }

    async fn end(self, grace: Duration) -> u64 {
        let left = self.tasks.stop(grace).await;
        // Guests that the grace was not enough for end with the host, which they may keep busy.
        self.host.close(CLOSE_GRACE).await;
        self.links.close(CLOSE_GRACE).await;
        u64::try_from(left).unwrap_or(u64::MAX)
    }
}

/// What tells one version of a file from another, without reading it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Stamp(Option<(u64, SystemTime)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let facts = std::fs::metadata(path).ok();
        Self(facts.and_then(|facts| Some((facts.len(), facts.modified().ok()?))))
    }
}

/// Resolves when the file is another one than `stamp`, and has been that for a while: it may still
/// be on its way.
async fn changed(path: &Path, stamp: &Stamp) {
    let mut before = stamp.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Stamp::of(path);
        if now.0.is_some() && now != *stamp && now == before {
            return;
        }
        before = now;
    }
}

/// How the watches of one component do: it runs if they all do.
#[derive(Clone, Debug)]
struct Health {
    reporter: Reporter,
    failures: Arc<std::sync::Mutex<Vec<Option<String>>>>,
    at: usize,
}

impl Health {
    fn new(reporter: Reporter, watches: usize) -> Self {
        let failures = vec![Some("it has not begun".to_owned()); watches];
        Self { reporter, failures: Arc::new(std::sync::Mutex::new(failures)), at: 0 }
    }

    /// The part of one watch.
    fn of(&self, at: usize) -> Self {
        Self { at, ..self.clone() }
    }

    fn set(&self, failure: Option<String>) {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures[self.at] = failure;
        match failures.iter().flatten().next() {
            None => self.reporter.set(State::Running),
            Some(reason) => self.reporter.degraded(reason),
        }
    }
}
