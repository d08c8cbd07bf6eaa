//! What guests of wasi:keyvalue find behind the identifiers they open: links, in the properties
//! that wasmCloud's provider has and in ours.
//!
//! A link that names no server is on the default store. Those that name one share a connection
//! for each distinct way to it, which is closed with the last of them. Links come and go while
//! guests run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jetbridge_core::{
    Backend, BucketKind, BucketName, BucketSpec, CounterEncoding, Error, ErrorKind, Pattern,
    Result, StopReport, Storage,
};
use jetbridge_nats::Permissions;
use jetbridge_wasi::{DEFAULT_STORE, Link, Stores};
use tokio::sync::Mutex;

use crate::connect::connect;
use crate::settings::{
    Dialect, Entry, Environment, Location, NatsSettings, Node, Place, Source, parse_duration, read,
    read_over,
};

/// The properties of a link beside those of its connection.
const OWN: [&str; 8] = [
    "counter_bucket",
    "counter_encoding",
    "key_encoding",
    "read_consistency",
    "history",
    "max_age",
    "replicas",
    "storage",
];
/// How long closing a connection may take: acknowledgements of a slow server.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Links by name, on a default store and on those that they name.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> jetbridge::Result<()> {
/// use jetbridge::Links;
/// use jetbridge::settings::{Environment, Location};
///
/// let store = jetbridge::connect("memory:").await?;
/// let links = Links::new(Environment::default()).over(store, Location::Memory);
/// let properties = [("bucket", "counters"), ("enable_bucket_auto_create", "true")];
/// links.add("default", &properties.map(|(n, v)| (n.to_owned(), v.to_owned()))).await?;
/// assert_eq!(links.stores().identifiers(), ["default"]);
/// assert!(links.remove("default").await.is_ok_and(|was_there| was_there));
/// # Ok(())
/// # }
/// ```
pub struct Links {
    environment: Environment,
    /// Where links are that name no server.
    place: Option<Location>,
    /// Connections are made in the background, and outlive outages.
    in_background: bool,
    /// Properties of every link, unless it says otherwise.
    provider: Vec<(String, String)>,
    stores: Stores,
    opened: Mutex<Opened>,
}

/// Where a link would be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkPlan {
    /// The identifier that guests open.
    pub name: String,
    /// The store.
    pub location: Location,
    /// The bucket.
    pub bucket: BucketName,
    /// True if the bucket is made when it is missing.
    pub creates: bool,
    /// What contradicts itself or does nothing.
    pub warnings: Vec<String>,
    is_default: bool,
    counters: bool,
}

impl LinkPlan {
    /// True if it is on the default store, with nothing of its own.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Adds what a login needs for all that guests do with the link.
    ///
    /// # Errors
    /// None in practice: a bucket's name makes a legal pattern.
    pub fn permit(&self, permissions: &mut Permissions) -> Result<()> {
        let bucket = &self.bucket;
        if self.counters {
            permissions.count(bucket);
            return Ok(());
        }
        permissions
            .ensure_bucket(BucketKind::Kv, bucket)
            .follow_bucket(BucketKind::Kv, bucket)
            .watch_bucket(bucket)
            .publish(&Pattern::parse(format!("$KV.{bucket}.>"))?);
        Ok(())
    }
}

#[derive(Default)]
struct Opened {
    connections: Vec<Connection>,
    /// Which connection a link is on.
    places: BTreeMap<String, Location>,
}

struct Connection {
    location: Location,
    store: Arc<dyn Backend>,
    /// Somebody else's to close.
    lent: bool,
}

/// A link as its properties describe it.
struct Described {
    location: Location,
    bucket: BucketName,
    create: Option<BucketSpec>,
    encoding: CounterEncoding,
    raw_keys: bool,
    maybe_stale: bool,
    counters: bool,
    warnings: Vec<String>,
}

impl Links {
    /// No links. Those that name no server are on the one that wasmCloud's page prints,
    /// `0.0.0.0:4222`, which is dialled as this machine.
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            place: None,
            in_background: false,
            provider: Vec::new(),
            stores: Stores::new(),
            opened: Mutex::default(),
        }
    }

    /// Links that name no server are on the store at `place`, which the first of them connects to.
    #[must_use]
    pub fn at(mut self, place: Location) -> Self {
        self.place = Some(place);
        self
    }

    /// Links that name no server are on `store`, which is at `place` and stays its owner's to
    /// close.
    #[must_use]
    pub fn over(mut self, store: Arc<dyn Backend>, place: Location) -> Self {
        let lent = Connection { location: place.clone(), store, lent: true };
        self.opened.get_mut().connections.push(lent);
        self.at(place)
    }

    /// Adds links also while their servers cannot be reached.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.in_background = true;
        self
    }

    /// Properties that hold for every link which does not set them itself.
    #[must_use]
    pub fn provider(mut self, properties: &[(String, String)]) -> Self {
        self.provider = properties.to_vec();
        self
    }

    /// What guests open.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Puts a link behind `name`, in place of an earlier one, and connects if no other link has
    /// its connection.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a property that is unknown or cannot be
    /// read, and as [`connect`].
    pub async fn add(&self, name: &str, properties: &[(String, String)]) -> Result<()> {
        let name = canonical(name);
        let described = self.describe(name, properties)?;
        for warning in &described.warnings {
            tracing::warn!("link {name}: {warning}");
        }
        let mut opened = self.opened.lock().await;
        let store = opened.connection(&described.location).await?;
        self.stores.add(name, described.link(store));
        let before = opened.places.insert(name.to_owned(), described.location);
        if before.is_some() {
            opened.close_unused().await;
        }
        Ok(())
    }

    /// What a guest has that is linked to nothing: the bucket `default` of the default store, made
    /// if it is missing.
    pub fn default_link() -> (&'static str, [(String, String); 1]) {
        (DEFAULT_STORE, [("enable_bucket_auto_create".to_owned(), "true".to_owned())])
    }

    /// Where a link would be, without connecting.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a property that is unknown or cannot be read.
    pub fn plan(&self, name: &str, properties: &[(String, String)]) -> Result<LinkPlan> {
        let name = canonical(name);
        let described = self.describe(name, properties)?;
        Ok(LinkPlan {
            name: name.to_owned(),
            is_default: self.place.as_ref() == Some(&described.location),
            location: described.location,
            bucket: described.bucket,
            creates: described.create.is_some() || described.counters,
            counters: described.counters,
            warnings: described.warnings,
        })
    }

    /// Takes a link away and leaves the others; its connection is closed with its last link.
    /// `false` if it was not there.
    ///
    /// # Errors
    /// None so far: a connection that does not close in time is a warning in the log.
    pub async fn remove(&self, name: &str) -> Result<bool> {
        let name = canonical(name);
        let mut opened = self.opened.lock().await;
        let removed = self.stores.remove(name);
        opened.places.remove(name);
        opened.close_unused().await;
        Ok(removed)
    }

    /// Takes every link away, closes what was connected to, all at once, and reports on each.
    pub async fn close(&self, grace: Duration) -> Vec<StopReport> {
        for name in self.stores.identifiers() {
            self.stores.remove(&name);
        }
        let mut opened = self.opened.lock().await;
        opened.places.clear();
        let closing: Vec<_> = opened.connections.extract_if(.., |it| !it.lent).collect();
        join_all(closing.iter().map(|connection| connection.store.close(grace))).await
    }

    /// Connections that links have opened.
    pub async fn connections(&self) -> usize {
        self.opened.lock().await.connections.iter().filter(|it| !it.lent).count()
    }

    fn describe(&self, name: &str, properties: &[(String, String)]) -> Result<Described> {
        let provider = entries("the provider", &self.provider);
        let own = entries(&format!("link {name}"), properties);
        let sources =
            [&provider, &own].map(|entries| Source::new(Dialect::Link, entries).also_known(&OWN));
        let settings = read(Dialect::Link, &sources, &self.environment)?.patient();
        let location = self.location(name, &settings, &sources)?;
        let bucket = settings.bucket.as_deref().unwrap_or(name);
        let properties = Own { name, entries: [&own, &provider] };
        let spec = properties.spec()?;
        Ok(Described {
            location,
            bucket: BucketName::parse(bucket)?,
            create: settings.auto_create.unwrap_or(false).then_some(spec),
            encoding: properties.encoding()?,
            counters: properties.counters()?,
            raw_keys: properties.choice("key_encoding", ["escaped", "raw"])? == 1,
            maybe_stale: properties.choice("read_consistency", ["fresh", "stale"])? == 1,
            warnings: settings.warnings,
        })
    }

    /// Where a link is. One that names no server is on the default store's: what it says of the
    /// connection holds, and all else is as it is there, its login and encryption too.
    fn location(
        &self,
        name: &str,
        settings: &NatsSettings,
        sources: &[Source],
    ) -> Result<Location> {
        let mut connect = match &self.place {
            Some(Location::Nats(place)) if settings.server_place.is_none() => {
                let base = (**place).clone();
                let own = read_over(Dialect::Link, base, sources, &self.environment)?.connect;
                if own == **place {
                    return Ok(Location::Nats(place.clone()));
                }
                own
            }
            Some(place) if settings.server_place.is_none() => {
                let nobodys = read(Dialect::Link, &[], &self.environment)?.patient().connect;
                if settings.connect == nobodys {
                    return Ok(place.clone());
                }
                return Err(without_server(name, place));
            }
            _ => settings.connect.clone(),
        };
        connect.name.get_or_insert_with(|| "jetbridge".to_owned());
        connect.connect_in_background = self.in_background;
        Ok(Location::Nats(Box::new(connect)))
    }

    /// True if a link is on the default store.
    pub async fn uses_default(&self) -> bool {
        let opened = self.opened.lock().await;
        opened.places.values().any(|place| Some(place) == self.place.as_ref())
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("stores", &self.stores).finish_non_exhaustive()
    }
}

impl Opened {
    async fn connection(&mut self, location: &Location) -> Result<Arc<dyn Backend>> {
        if let Some(known) = self.connections.iter().find(|known| known.location == *location) {
            return Ok(Arc::clone(&known.store));
        }
        let store = connect(location).await?;
        let (location, opened) = (location.clone(), Arc::clone(&store));
        self.connections.push(Connection { location, store: opened, lent: false });
        Ok(store)
    }

    async fn close_unused(&mut self) {
        let places = &self.places;
        let unused: Vec<_> = self
            .connections
            .extract_if(.., |it| !it.lent && !places.values().any(|place| *place == it.location))
            .collect();
        let closed = join_all(unused.iter().map(|it| it.store.close(CLOSE_GRACE))).await;
        for (connection, report) in unused.iter().zip(closed) {
            if !report.is_clean() {
                tracing::warn!("{}: left before all was answered", connection.store);
            }
        }
    }
}

impl Described {
    fn link(&self, store: Arc<dyn Backend>) -> Link {
        let mut link = Link::new(store, self.bucket.clone()).counter_encoding(self.encoding);
        if let Some(spec) = &self.create {
            link = link.create(spec.clone());
        }
        if self.raw_keys {
            link = link.raw_keys();
        }
        if self.maybe_stale {
            link = link.maybe_stale();
        }
        if self.counters {
            link = link.counters();
        }
        link
    }
}

fn without_server(name: &str, place: &Location) -> Error {
    Error::new(ErrorKind::InvalidInput, "wasi.link")
        .because("the link says how to connect, and the store it is on has no connection")
        .with("link", name)
        .with("store", place)
        .hint("`CLUSTER_URI` names the servers")
}

fn canonical(name: &str) -> &str {
    if name.is_empty() { DEFAULT_STORE } else { name }
}

fn entries(place: &str, properties: &[(String, String)]) -> Vec<Entry> {
    let place = Place::argument(place);
    let entry = |(name, text): &(String, String)| Entry {
        name: name.clone(),
        place: place.clone(),
        node: Node::scalar(text, place.clone()),
    };
    properties.iter().map(entry).collect()
}

/// The properties of [`OWN`]: the link's over the provider's.
struct Own<'a> {
    name: &'a str,
    entries: [&'a [Entry]; 2],
}

impl Own<'_> {
    fn text(&self, property: &str) -> Option<&str> {
        let all = self.entries.iter().flat_map(|entries| entries.iter());
        let mut found = all.filter(|entry| entry.name.eq_ignore_ascii_case(property));
        found.next().and_then(|entry| entry.node.text())
    }

    /// The place of the property's value among `choices`, of which the first is the default.
    fn choice<const N: usize>(&self, property: &str, choices: [&str; N]) -> Result<usize> {
        let Some(text) = self.text(property) else { return Ok(0) };
        let found = choices.iter().position(|choice| choice.eq_ignore_ascii_case(text));
        found.ok_or_else(|| self.refuse(property, text, &format!("one of {}", choices.join(", "))))
    }

    fn encoding(&self) -> Result<CounterEncoding> {
        let choice = self.choice("counter_encoding", ["decimal", "be64", "le64"])?;
        Ok([CounterEncoding::Decimal, CounterEncoding::Be64, CounterEncoding::Le64][choice])
    }

    /// Whether the bucket holds counters alone, which are decimal numbers to everybody.
    fn counters(&self) -> Result<bool> {
        let counters = self.choice("counter_bucket", ["false", "true"])? == 1;
        match self.text("counter_encoding") {
            Some(text) if counters && !text.eq_ignore_ascii_case("decimal") => {
                Err(self.refuse("counter_encoding", text, "decimal, as a counter bucket needs"))
            }
            _ => Ok(counters),
        }
    }

    fn spec(&self) -> Result<BucketSpec> {
        let mut spec = BucketSpec::default();
        if let Some(history) = self.number("history")? {
            spec.history = history;
        }
        if let Some(replicas) = self.number("replicas")? {
            spec.replicas = replicas;
        }
        if let Some(text) = self.text("max_age") {
            let age = parse_duration(text)
                .map_err(|_reason| self.refuse("max_age", text, "a duration such as 24h"))?;
            spec.max_age = Some(age);
        }
        if self.choice("storage", ["file", "memory"])? == 1 {
            spec.storage = Storage::Memory;
        }
        Ok(spec)
    }

    fn number(&self, property: &str) -> Result<Option<u8>> {
        let Some(text) = self.text(property) else { return Ok(None) };
        let number = text.parse::<u8>().ok().filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| self.refuse(property, text, "a number from 1"))
    }

    fn refuse(&self, property: &str, text: &str, wanted: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, "wasi.link")
            .because(format!("the property is not {wanted}"))
            .with("link", self.name)
            .with("property", property)
            .with("value", text)
    }
}

#[cfg(test)]
mod tests {
    use jetbridge_core::MemoryBackend;

    use super::*;

    /// What a link with one property is to the guests.
    fn link(property: &str, value: &str) -> String {
        let links = Links::new(Environment::default()).at(Location::Memory);
        let properties = [(property.to_owned(), value.to_owned())];
        let described = links.describe("l", &properties).unwrap();
        format!("{:?}", described.link(Arc::new(MemoryBackend::new())))
    }

    #[test]
    fn every_property_of_ours_shows_in_the_link() {
        let bare = link("bucket", "l");
        for (property, without, value, with) in [
            ("counter_bucket", "contents: Keys", "true", "contents: Counters"),
            ("counter_encoding", "encoding: Decimal", "be64", "encoding: Be64"),
            ("counter_encoding", "encoding: Decimal", "le64", "encoding: Le64"),
            ("key_encoding", "keys: Escaped", "raw", "keys: Raw"),
            ("read_consistency", "read: Fresh", "stale", "read: MaybeStale"),
            ("enable_bucket_auto_create", "create: None", "true", "create: Some"),
        ] {
            assert!(bare.contains(without), "{without} is not in {bare}");
            let link = link(property, value);
            assert!(link.contains(with), "{property}: {with} is not in {link}");
        }
    }

    #[test]
    fn what_a_bucket_is_made_with_is_read_from_the_link() {
        let links = Links::new(Environment::default()).at(Location::Memory);
        let own = [
            ("enable_bucket_auto_create", "true"),
            ("history", "7"),
            ("max_age", "90m"),
            ("replicas", "3"),
            ("storage", "memory"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let spec = links.describe("l", &own).unwrap().create.unwrap();
        assert_eq!((spec.history, spec.replicas), (7, 3));
        assert_eq!(spec.max_age, Some(Duration::from_secs(90 * 60)));
        assert!(matches!(spec.storage, Storage::Memory));
    }
}
