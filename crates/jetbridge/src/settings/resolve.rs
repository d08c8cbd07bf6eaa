//! Which of the places that can name a store does: flags, variables, the file, the default.

use std::fmt::{self, Display};

use jetbridge_core::Result;

use super::context::read_context;
use super::environment::Environment;
use super::location::{Location, StoreUrl};
use super::place::{Place, Problem};
use super::read::{NatsSettings, Source, read};
use super::source::{Entry, Node, Value};
use super::table::Dialect;

/// What the user wrote about the store, beside the variables.
#[derive(Clone, Debug, Default)]
pub struct StoreRequest {
    store: Option<String>,
    context: Option<String>,
    file_stores: Vec<Entry>,
    file_evo: Vec<Source>,
    arguments_evo: Option<Source>,
    otherwise: Option<String>,
    refinement: Option<Source>,
}

impl StoreRequest {
    /// Nothing was written: variables or the default decide.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `--store`.
    #[must_use]
    pub fn store(mut self, url: Option<String>) -> Self {
        self.store = url;
        self
    }

    /// The value of `--context`.
    #[must_use]
    pub fn context(mut self, name: Option<String>) -> Self {
        self.context = name;
        self
    }

    /// A file, its variables expanded: its `store:`, a URL or a map with `url`; and evo's
    /// settings, as a map `nats:` or as `NATS.KEY` entries. May be said of several files.
    #[must_use]
    pub fn file(mut self, root: &Node) -> Self {
        self.file_stores.extend(root.entry("store").cloned());
        self.file_evo.extend(Some(Source::evo(root)).filter(|evo| !evo.is_empty()));
        self
    }

    /// `NATS.KEY=value` arguments of the command line, as [`parse_pairs`](super::parse_pairs)
    /// reads them. They override the same settings of files.
    #[must_use]
    pub fn arguments(mut self, root: &Node) -> Self {
        self.arguments_evo = Some(Source::evo(root)).filter(|evo| !evo.is_empty());
        self
    }

    /// The store if nobody names one, instead of the embedded one: names that other programs had
    /// keep their default.
    #[must_use]
    pub fn otherwise(mut self, url: impl Into<String>) -> Self {
        self.otherwise = Some(url.into());
        self
    }

    /// Settings over whatever the store turns out to say about its servers.
    pub(super) fn refined(mut self, settings: Source) -> Self {
        self.refinement = Some(settings);
        self
    }
}

/// A store's place, who named it, and what the user should know about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// Where the store is.
    pub location: Location,
    /// Who said so.
    pub origin: Origin,
    /// Lines to announce once, on standard error.
    pub notices: Vec<String>,
    /// Lines to warn with: settings that contradict each other or do nothing.
    pub warnings: Vec<String>,
}

impl Resolved {
    pub(super) fn quiet(location: Location, place: Place) -> Self {
        let origin = Origin::Written(place);
        Self { location, origin, notices: Vec::new(), warnings: Vec::new() }
    }
}

/// Who said where the store is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// A flag, a variable or a file.
    Written(Place),
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::Written(place) => place.fmt(f),
        }
    }
}

/// The directory of the embedded store when nobody names a store.
const DIRECTORY_DEFAULT: &str = "./jetbridge-data";

/// Finds the store: `--store` or `--context`, `JETBRIDGE_STORE`, the file's `store:` or its
/// settings in evo's names, `NATS_CONTEXT`, `NATS_URL` or `NATS_SERVER`, else
/// `local:./jetbridge-data` with a notice.
///
/// A server that is named without a login or without TLS settings takes them from the `NATS_*`
/// variables; options in the URL (`?creds=…&tls_ca=…`) come before those. A context takes
/// nothing from elsewhere.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if `--store` and `--context` are
/// both given, two files name different stores, or what is written cannot be read.
pub fn resolve(request: &StoreRequest, environment: &Environment) -> Result<Resolved> {
    let resolver = Resolver { request, environment };
    match (&request.store, &request.context) {
        (Some(_), Some(_)) => Err(Problem::new("`--store` and `--context` exclude each other")
            .hint("give one of them")
            .into_error(None)),
        (Some(url), None) => resolver.url(url, Place::argument("--store"), Vec::new()),
        (None, Some(name)) => resolver.context(Some(name), Place::argument("--context")),
        (None, None) => resolver.unflagged(),
    }
}

struct Resolver<'a> {
    request: &'a StoreRequest,
    environment: &'a Environment,
}

impl Resolver<'_> {
    fn unflagged(&self) -> Result<Resolved> {
        let variable = |name| self.environment.get(name).map(|text| (text, Place::variable(name)));
        if let Some((url, place)) = variable("JETBRIDGE_STORE") {
            return self.url(url, place, Vec::new());
        }
        if let Some(entry) = self.file_store()? {
            return self.file(entry);
        }
        let evo = self.evo();
        if !evo.is_empty() {
            return self.servers(evo);
        }
        if let Some((name, place)) = variable("NATS_CONTEXT") {
            return self.context(Some(name), place);
        }
        if variable("NATS_URL").or_else(|| variable("NATS_SERVER")).is_some() {
            return self.servers(Vec::new());
        }
        if let Some(url) = &self.request.otherwise {
            return self.url(url, Place::argument("the default"), Vec::new());
        }
        self.on_this_machine(Origin::Default)?;
        Ok(Resolved {
            location: Location::local(DIRECTORY_DEFAULT),
            origin: Origin::Default,
            notices: vec![format!(
                "no store given: using the embedded store in {DIRECTORY_DEFAULT} \
                 (choose with --store, --context or JETBRIDGE_STORE)"
            )],
            warnings: Vec::new(),
        })
    }

    /// The `store:` of the files, which must agree.
    fn file_store(&self) -> Result<Option<&Entry>> {
        let mut stores = self.request.file_stores.iter();
        let Some(first) = stores.next() else { return Ok(None) };
        match stores.find(|other| !first.node.says_the_same_as(&other.node)) {
            None => Ok(Some(first)),
            Some(other) => Err(Problem::new(format!("another `store` is at {}", first.place))
                .hint("keep one of them")
                .at(&other.place)),
        }
    }

    fn file(&self, entry: &Entry) -> Result<Resolved> {
        let place = entry.node.place.clone();
        match &entry.node.value {
            Value::Scalar(scalar) => self.url(&scalar.text, place, self.evo()),
            Value::Map(entries) => self.map(entries, place),
            Value::List(_) | Value::Null => {
                Err(Problem::new(format!("`store` is {}", entry.node.kind()))
                    .hint("write a URL, such as `store: nats://host:4222`")
                    .at(&place))
            }
        }
    }

    /// A `store:` that is a map: its `url`, and our own names for the rest.
    fn map(&self, entries: &[Entry], place: Place) -> Result<Resolved> {
        let is_url = |entry: &&Entry| matches!(entry.name.as_str(), "server" | "servers" | "url");
        let (url, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_url);
        let [url] = url.as_slice() else {
            return Err(Problem::new("a `store` that is a map has one `url`").at(&place));
        };
        let text = url.node.text().unwrap_or_default();
        let parsed = StoreUrl::parse(text).map_err(|problem| problem.of(url))?;
        let servers = matches!(parsed, StoreUrl::Servers(_));
        if let (false, Some(other)) = (servers, others.first()) {
            return Err(Problem::new(format!("`{}` is for servers of NATS only", other.name))
                .at(&other.place));
        }
        let mut before = self.evo();
        if servers {
            let others: Vec<Entry> = others.into_iter().cloned().collect();
            before.push(Source::new(Dialect::Store, &others));
        }
        self.url(text, url.node.place.clone(), before)
    }

    /// evo's settings, the stronger ones last.
    fn evo(&self) -> Vec<Source> {
        self.request.file_evo.iter().chain(&self.request.arguments_evo).cloned().collect()
    }

    /// A store URL; `before` are settings that its own options override.
    fn url(&self, url: &str, place: Place, mut before: Vec<Source>) -> Result<Resolved> {
        match StoreUrl::parse(url).map_err(|problem| problem.at(&place))? {
            StoreUrl::Context(name) => self.context(name.as_deref(), place),
            StoreUrl::Location(location) => {
                self.on_this_machine(Origin::Written(place.clone()))?;
                Ok(Resolved::quiet(location, place))
            }
            StoreUrl::Servers(_) => {
                before.push(Source::url(Dialect::Store, url, &place));
                self.servers(before)
            }
        }
    }

    /// What `sources` say, over what the variables say.
    fn servers(&self, mut sources: Vec<Source>) -> Result<Resolved> {
        let place_of_first = sources.iter().find_map(Source::place).cloned();
        sources.insert(0, Source::variables(self.environment));
        sources.extend(self.request.refinement.clone());
        let settings = read(Dialect::Store, &sources, self.environment)?;
        let place = settings.server_place.clone().or(place_of_first);
        let place = place.unwrap_or_else(|| Place::variable("NATS_URL"));
        nats(settings, place)
    }

    fn context(&self, name: Option<&str>, place: Place) -> Result<Resolved> {
        let refinement = self.request.refinement.as_ref();
        let settings = read_context(name, &place, refinement, self.environment)?;
        nats(settings, place)
    }

    /// Refuses settings of servers for a store that has none.
    fn on_this_machine(&self, origin: Origin) -> Result<()> {
        let setting = self.request.refinement.as_ref().and_then(Source::first);
        match setting {
            None => Ok(()),
            Some(entry) => Err(Problem::new(format!(
                "`{}` is for servers of NATS only, and the store ({origin}) is none",
                entry.name
            ))
            .hint("name the server too: `url`")
            .at(&entry.place)),
        }
    }
}

pub(super) fn nats(settings: NatsSettings, place: Place) -> Result<Resolved> {
    if settings.path.is_some() {
        return Err(Problem::new("a store of NATS has no path").at(&place));
    }
    let warnings = settings.warnings;
    let location = Location::Nats(Box::new(settings.connect));
    Ok(Resolved { warnings, ..Resolved::quiet(location, place) })
}
