//! `components:` — guests of wasi:keyvalue that run for as long as `up` does: told of the changes
//! of their stores, or answering HTTP under a path.
//!
//! Compiling, limits and delivery are the wasi crate's business; here they become a section with
//! a state, figures and an end. Links and watches are the section's and last as long as it does;
//! what a changed file replaces is the guest, and only by one that is ready.

mod follow;
mod health;
mod http;
mod metrics;
mod version;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use jetbridge::settings::{Environment, Location};
use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::Limits;
use jetbridge::{LinkPlan, Links};
use jetbridge_core::{Backoff, Error, Result, Tasks};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::http::{Routes, answer};
pub(crate) use self::metrics::ComponentMetrics;

use self::follow::{Watch, follow};
use self::health::Health;
use self::http::Claim;
use self::version::Version;
use crate::supervise::{Context, Drained, Section};
use crate::watch::FileWatch;

/// How long requests may still take when another version of their component has come.
const REPLACED_GRACE: Duration = Duration::from_secs(5);
/// How long guests that the deadline ended, and connections, may take to be gone: less than a
/// section has behind its deadline.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// One entry of `components:`. What it means is in `docs/guide/wasi.md`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ComponentSpec {
    /// What status, metrics and logs call it.
    pub name: String,
    /// The component.
    pub wasm: PathBuf,
    /// What it finds behind the identifiers that it opens: properties by name, logins among them.
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

/// Without the values of properties: some log in.
impl fmt::Debug for ComponentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentSpec")
            .field("name", &self.name)
            .field("wasm", &self.wasm)
            .field("links", &self.links.keys().collect::<Vec<_>>())
            .field("watch", &self.watch)
            .field("route", &self.route)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl ComponentSpec {
    /// Where its links lead in a file whose store is at `place`, without connecting.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a property that is unknown or cannot be read,
    /// or that says how to connect where there is no server.
    pub fn plan(&self, place: &Location) -> Result<Vec<LinkPlan>> {
        let links = Links::new(self.environment.clone()).at(place.clone());
        let links = links.provider(&self.provider);
        self.links.iter().map(|(name, properties)| links.plan(name, properties)).collect()
    }
}

/// A component, where it finds its settings, and where it is asked.
pub(crate) struct ComponentSection {
    spec: ComponentSpec,
    /// Where the file's store is.
    place: Location,
    /// Its path is taken before it runs, so that who asks early is told when to ask again.
    route: Option<Claim>,
}

impl ComponentSection {
    pub(crate) fn new(spec: ComponentSpec, place: Location, routes: &Routes) -> Self {
        let route = spec.route.as_ref().map(|path| routes.claim(path, &spec.name));
        Self { spec, place, route }
    }
}

impl Section for ComponentSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let links = Links::new(self.spec.environment.clone())
                .over(Arc::clone(&context.backend), self.place.clone())
                .in_background()
                .provider(&self.spec.provider);
            let mut life = Life {
                health: Health::new(context.reporter.clone(), self.spec.watch.len()),
                section: &self,
                context: &context,
                links,
                tasks: Tasks::new(),
                version: None,
                unasked: None,
            };
            let deadline = tokio::select! {
                biased;
                deadline = context.stop.begins() => deadline,
                never = life.go_on() => match never {},
            };
            life.end(deadline).await
        })
    }
}

/// What a section has while it runs.
struct Life<'a> {
    section: &'a ComponentSection,
    context: &'a Context,
    health: Health,
    links: Links,
    /// Watches, and versions that are being replaced.
    tasks: Tasks,
    version: Option<Running>,
    /// Ends when no request that came by this version's handler is left, and none can come.
    unasked: Option<oneshot::Receiver<Infallible>>,
}

/// The version that runs, and how watches hear of the next one.
struct Running {
    version: Version,
    programs: watch::Sender<jetbridge::wasi::host::Program>,
}

/// What never ends by itself.
enum Never {}

impl Life<'_> {
    /// Runs the component as its file is, over every change of that.
    async fn go_on(&mut self) -> Never {
        let path = &self.section.spec.wasm;
        let mut backoff = Backoff::outage();
        let mut file = None;
        loop {
            // Before the file is read: a change in between is one that is seen.
            if file.is_none() {
                file = FileWatch::new(std::slice::from_ref(path))
                    .inspect_err(|error| {
                        tracing::debug!("{} is looked at: {error}", path.display())
                    })
                    .ok();
            }
            let taken_up = self.take_up().await;
            if let Err(error) = &taken_up {
                self.health.file(Some(self.words(error)));
            }
            let looks_again = taken_up.is_err() || file.is_none();
            let changed = async {
                match &mut file {
                    Some(file) => file.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {
                    tracing::info!(component = %self.section.spec.name, "its file changed");
                    backoff = Backoff::outage();
                }
                () = backoff.wait(), if looks_again => {}
            }
        }
    }

    /// Loads the component as its file is now, and lets it take the place of the one before.
    async fn take_up(&mut self) -> Result<()> {
        let (spec, context) = (&self.section.spec, self.context);
        let next = Version::load(spec).await?;
        if self.version.is_none() {
            for (name, properties) in &spec.links {
                self.links.add(name, properties).await?;
            }
        }
        let ctx = KeyvalueCtx::new(self.links.stores().clone());
        let unasked = match &self.section.route {
            Some(route) => self.unasked.replace(route.answer_by(next.handler(ctx.clone())?)),
            None => None,
        };
        self.health.file(None);
        if let Some(running) = &mut self.version {
            running.programs.send_replace(next.program().clone());
            let before = std::mem::replace(&mut running.version, next);
            self.tasks.spawn(async move {
                let deadline = Instant::now() + REPLACED_GRACE;
                // A request that has just come by it would find it closed.
                let _unasked = timeout_at(deadline, OptionFuture::from(unasked)).await;
                before.end(deadline).await;
            });
            return Ok(());
        }
        let (programs, program) = watch::channel(next.program().clone());
        for (at, identifier) in spec.watch.iter().enumerate() {
            self.tasks.spawn_until_stop(follow(Watch {
                programs: program.clone(),
                ctx: ctx.clone(),
                component: spec.name.clone(),
                identifier: identifier.clone(),
                metrics: context.metrics.components.clone(),
                health: self.health.of(at),
            }));
        }
        self.version = Some(Running { version: next, programs });
        Ok(())
    }

    fn words(&self, error: &Error) -> String {
        match self.version {
            Some(_) => format!("the file changed, and the component before it goes on: {error}"),
            None => error.to_string(),
        }
    }

    /// Finishes what is under way, by the deadline, and lets everything go.
    async fn end(self, deadline: Instant) -> Drained {
        if let Some(route) = &self.section.route {
            route.answer_nobody();
        }
        self.tasks.begin_stop();
        let mut abandoned = 0;
        if let Some(running) = self.version {
            abandoned = running.version.end(deadline).await;
        }
        let grace = deadline.saturating_duration_since(Instant::now()).max(CLOSE_GRACE);
        tokio::join!(self.tasks.stop(grace), self.links.close(CLOSE_GRACE));
        Drained { abandoned, ..Drained::default() }
    }
}
