//! The process that `up` is: from files to sections that run, over reloads, to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge::StoreSources;
use jetbridge::limit::{Engine, LimiterSpec, StoreSpec};
use jetbridge::settings::{DatabaseSpec, Databases, Environment, Location, resolve};
use jetbridge_core::{Backend, Clock, Error, Result, StopReport, SystemClock, Tasks};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::board::{Board, SectionId};
use crate::bucket::BucketSection;
use crate::component::{ComponentSection, ComponentSpec, Routes};
use crate::database::{ControlSection, DatabaseDesk, DatabaseSection, DatabaseSpecs, Offered};
use crate::file::UpFile;
use crate::handler::HandlerSpec;
use crate::http::{Grants, Http, HttpSpec};
use crate::limit::{Desk, LimitStoreSection, LimiterSection, refuse_what_cannot_be};
use crate::metrics::Metrics;
use crate::page::{Desks, sample};
use crate::status::{Overview, follow_connection};
use crate::supervise::{Drained, Section, Supervisor};
use crate::template::{TemplateSection, TemplateSpec};

/// How much of the drain's time the connection keeps for itself: to flush and close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A running `up`.
#[derive(Debug)]
pub struct Agent {
    files: Vec<PathBuf>,
    environment: Environment,
    backend: Arc<dyn Backend>,
    /// The stores that templates read: this one, and those that they name.
    sources: Arc<StoreSources>,
    supervisor: Supervisor,
    running: BTreeMap<SectionId, Wanted>,
    http: Option<Http>,
    overview: Overview,
    desk: Desk,
    routes: Routes,
    /// Where the store is, for links that say only how to log in there.
    place: Location,
    files_state: watch::Sender<Option<String>>,
    drain_timeout: Duration,
    tasks: Tasks,
}

/// What a section was started with, so that a reload knows what changed.
#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Bucket(BucketSection),
    Handler(HandlerSpec),
    LimitStore(StoreSpec),
    Limiter { spec: LimiterSpec, store: String, engine: Engine },
    Template(TemplateSpec),
    Database(DatabaseSpecs),
    Control(Offered),
    Component(ComponentSpec),
}

impl Wanted {
    fn id(&self) -> SectionId {
        match self {
            Self::Bucket(bucket) => {
                SectionId::new("bucket", format!("{} ({})", bucket.name, bucket.kind))
            }
            Self::Handler(handler) => SectionId::new("handler", handler.name.clone()),
            Self::LimitStore(store) => SectionId::new("store", store.name.clone()),
            Self::Limiter { spec, .. } => SectionId::new("limiter", spec.id.clone()),
            Self::Template(template) => SectionId::new("template", template.name.clone()),
            Self::Database(database) => SectionId::new("database", database.name()),
            Self::Component(spec) => SectionId::new("component", spec.name.clone()),
            Self::Control(_) => SectionId::new("control", "databases"),
        }
    }

    fn section(&self, agent: &Agent) -> Arc<dyn Section> {
        let desk = agent.desk.clone();
        match self {
            Self::Bucket(bucket) => Arc::new(bucket.clone()),
            Self::Handler(handler) => Arc::new(handler.clone()),
            Self::LimitStore(store) => Arc::new(LimitStoreSection { spec: store.clone(), desk }),
            Self::Limiter { spec, store, engine } => {
                let (spec, store, engine) = (spec.clone(), store.clone(), *engine);
                Arc::new(LimiterSection { spec, store, engine, desk })
            }
            Self::Template(spec) => Arc::new(TemplateSection {
                spec: spec.clone(),
                sources: Arc::clone(&agent.sources),
            }),
            Self::Database(specs) => Arc::new(DatabaseSection {
                specs: specs.clone(),
                desk: agent.overview.databases.clone(),
            }),
            Self::Control(offered) => Arc::new(ControlSection {
                offered: offered.clone(),
                overview: agent.overview.clone(),
                environment: agent.environment.clone(),
            }),
            Self::Component(spec) => {
                Arc::new(ComponentSection::new(spec.clone(), agent.place.clone(), &agent.routes))
            }
        }
    }
}

/// What a reload came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Sections that are new.
    pub started: Vec<SectionId>,
    /// Sections that were started again, because they changed.
    pub changed: Vec<SectionId>,
    /// Sections that are gone from the files.
    pub stopped: Vec<SectionId>,
}

/// What was left when `up` ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct UpReport {
    /// What each section left.
    pub sections: BTreeMap<SectionId, Drained>,
    /// What the store's connection left.
    pub store: StopReport,
}

impl UpReport {
    /// True if nothing was abandoned.
    pub fn is_clean(&self) -> bool {
        self.store.is_clean() && self.sections.values().all(|drained| drained.abandoned == 0)
    }
}

impl Agent {
    /// Starts what `file` names on `backend`. The store need not be there yet: sections that
    /// need it wait for it.
    ///
    /// # Errors
    /// [`Unavailable`](jetbridge_core::ErrorKind::Unavailable) if HTTP cannot listen;
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for a limiter that must remember
    /// longer than its bucket, if that is there and says so.
    pub async fn start(
        file: UpFile,
        files: Vec<PathBuf>,
        environment: Environment,
        backend: Arc<dyn Backend>,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        refuse_what_cannot_be(&file.limits, &backend).await?;
        let (metrics, board) = (Metrics::new(), Board::new(Arc::clone(&clock)));
        let desk = Desk::default();
        let routes = Routes::new(metrics.components.clone());
        let place = resolve(&file.store, &environment)?.location;
        let tasks = Tasks::new();
        let (files_state, files_seen) = watch::channel(None);
        let databases = DatabaseDesk::default();
        let history = sample(databases.clone(), Arc::clone(&clock), &tasks);
        let overview = Overview {
            backend: Arc::clone(&backend),
            board: board.clone(),
            metrics: metrics.clone(),
            desk: desk.clone(),
            routes: routes.clone(),
            databases,
            desks: Desks { history, ..Desks::default() },
            grants: Grants::default(),
            started: clock.now(),
            clock,
            connection: follow_connection(&*backend, metrics.clone(), &tasks),
            files: files_seen,
        };
        let sources = StoreSources::new(file.store.clone(), environment.clone())
            .over(Arc::clone(&backend))
            .in_background();
        let mut agent = Self {
            files,
            environment,
            sources: Arc::new(sources),
            supervisor: Supervisor::new(Arc::clone(&backend), board, metrics),
            backend,
            running: BTreeMap::new(),
            http: None,
            overview,
            desk,
            routes,
            place,
            files_state,
            drain_timeout: file.drain_timeout(),
            tasks,
        };
        agent.desk.declare(limiters(&file));
        agent.overview.desks.declare(file.named());
        agent.overview.grants.declare(&file.buckets);
        agent.listen(file.http.as_ref()).await?;
        for wanted in wanted(file) {
            agent.start_section(wanted);
        }
        Ok(agent)
    }

    /// Where HTTP listens, if it does.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.address)
    }

    /// What a browser is given to get to the status page, if HTTP listens.
    pub fn http_url(&self) -> Option<String> {
        self.http.as_ref().map(Http::url)
    }

    /// How many sections run.
    pub fn sections(&self) -> usize {
        self.running.len()
    }

    /// Reads the files again and changes what changed, and nothing else. If they cannot be read,
    /// everything goes on as it was, and status says why. Dropped while sections drain, it leaves
    /// them draining for [`Agent::stop`] to take up.
    ///
    /// # Errors
    /// Every problem of the files; nothing was changed then.
    pub async fn reload(&mut self) -> Result<Reloaded, Vec<Error>> {
        let file = match UpFile::read(&self.files, &self.environment) {
            Ok(file) => file,
            Err(problems) => {
                self.files_state.send_replace(problems.first().map(ToString::to_string));
                return Err(problems);
            }
        };
        if let Err(error) = self.listen(file.http.as_ref()).await {
            self.files_state.send_replace(Some(error.to_string()));
            return Err(vec![error]);
        }
        self.desk.declare(limiters(&file));
        self.overview.desks.declare(file.named());
        self.overview.grants.declare(&file.buckets);
        self.drain_timeout = file.drain_timeout();
        let mut next: BTreeMap<SectionId, Wanted> =
            wanted(file).into_iter().map(|wanted| (wanted.id(), wanted)).collect();
        let mut reloaded = Reloaded::default();
        for (id, running) in &self.running {
            match next.get(id) {
                None => reloaded.stopped.push(id.clone()),
                Some(wanted) if wanted != running => reloaded.changed.push(id.clone()),
                Some(_same) => drop(next.remove(id)),
            }
        }
        let ending: Vec<SectionId> =
            reloaded.stopped.iter().chain(&reloaded.changed).cloned().collect();
        let mut ended = self.supervisor.stop(&ending, Instant::now() + self.drain_timeout);
        // Nobody waits for the slowest: what is new starts at once, what changed when it has ended.
        reloaded.started = next.keys().filter(|id| !ending.contains(id)).cloned().collect();
        for id in &reloaded.started {
            next.remove(id).into_iter().for_each(|wanted| self.start_section(wanted));
        }
        while let Some((id, _drained)) = ended.next().await {
            self.supervisor.forget(&id);
            self.running.remove(&id);
            next.remove(&id).into_iter().for_each(|wanted| self.start_section(wanted));
        }
        self.files_state.send_replace(None);
        Ok(reloaded)
    }

    /// Drains and ends: intake stops, what is under way is finished, the connection flushes and
    /// closes, all under the files' `drain_timeout`.
    pub async fn stop(self) -> UpReport {
        let deadline = Instant::now() + self.drain_timeout;
        let ids = self.supervisor.ids();
        let sections = self.supervisor.stop(&ids, deadline).collect().await;
        self.supervisor.join(CLOSE_GRACE).await;
        if let Some(http) = &self.http {
            http.stop().await;
        }
        self.desk.tasks().stop(CLOSE_GRACE).await;
        self.tasks.stop(CLOSE_GRACE).await;
        // They are only read: what their closing reports was nobody's work.
        self.sources.close(CLOSE_GRACE).await;
        let left = deadline.saturating_duration_since(Instant::now()).max(CLOSE_GRACE);
        let store = self.backend.close(left).await;
        UpReport { sections, store }
    }

    fn start_section(&mut self, wanted: Wanted) {
        let id = wanted.id();
        let section = wanted.section(self);
        self.supervisor.start(id.clone(), section);
        self.running.insert(id, wanted);
    }

    /// Listens where `spec` says, if it does not already.
    async fn listen(&mut self, spec: Option<&HttpSpec>) -> Result<()> {
        Http::listen_again(&mut self.http, spec, self.overview.clone(), &self.tasks).await
    }
}

fn wanted(file: UpFile) -> Vec<Wanted> {
    let limits = limits_wanted(&file);
    let databases = databases_wanted(&file.databases);
    let buckets = file.buckets.into_iter().map(Wanted::Bucket);
    let handlers = file.handlers.into_iter().map(Wanted::Handler);
    let templates = file.templates.into_iter().map(Wanted::Template);
    let components = file.components.into_iter().map(Wanted::Component);
    let rest = templates.chain(databases).chain(components);
    buckets.chain(handlers).chain(limits).chain(rest).collect()
}

/// The databases, and what is offered beside their replication.
fn databases_wanted(parts: &[Databases]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for part in parts {
        let specs = |spec: &DatabaseSpec| {
            Wanted::Database(DatabaseSpecs { spec: spec.clone(), upkeep: part.upkeep.clone() })
        };
        wanted.extend(part.list.iter().map(specs));
        if !part.control.is_empty() {
            let (spec, upkeep) = (part.control.clone(), part.upkeep.clone());
            wanted.push(Wanted::Control(Offered { spec, upkeep }));
        }
    }
    wanted
}

/// The ids of the limiters in the files.
fn limiters(file: &UpFile) -> BTreeSet<String> {
    file.limits.limiters.iter().map(|spec| spec.id.clone()).collect()
}

/// The limiters, and before them the stores that they use.
fn limits_wanted(file: &UpFile) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for spec in &file.limits.limiters {
        // That the store is there was seen when the file was read.
        let Ok(store) = file.limits.store_of(spec) else { continue };
        let (name, engine) = (store.name.clone(), store.engine);
        let store = Wanted::LimitStore(store);
        if !wanted.contains(&store) {
            wanted.insert(0, store);
        }
        wanted.push(Wanted::Limiter { spec: spec.clone(), store: name, engine });
    }
    wanted
}
