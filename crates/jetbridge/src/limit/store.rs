//! One entry of `stores`: where limiters keep what they remember.

use std::time::Duration;

use jetbridge_core::{BucketName, Error, ErrorKind, Result};

use crate::settings::{Dialect, Entry, Environment, Location, resolve_section};

/// What a store is to rate-sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Engine {
    /// This process alone.
    Memory,
    /// A bucket of keys, on the server of `url` or in the file's store.
    Nats,
}

impl Engine {
    /// The word in the file and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Nats => "nats",
        }
    }
}

/// A store of limiters.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoreSpec {
    /// What the file calls it.
    pub name: String,
    /// What it is.
    pub engine: Engine,
    /// The server it names; `None` for the file's store.
    pub location: Option<Location>,
    /// The bucket.
    pub bucket: BucketName,
    /// Whether a missing bucket is made.
    pub auto_create: bool,
    /// How much time's worth of permits a rate without `burst` gives at once.
    pub timing_margin: Duration,
}

/// `timing_margin_ms`, if nobody says it.
pub(super) const TIMING_MARGIN: Duration = Duration::from_millis(10);
/// What the file's store is called where a name is wanted: nobody can write that as a name.
const OF_FILE: &str = "(the file's store)";
/// The bucket, if nobody says it.
const BUCKET: &str = "rate_limits";
/// What is read here and not by the table of connections.
const OWN: &[&str] = &["engine"];
/// Settings of rate-sync's retries: here nobody polls.
const WITHOUT_EFFECT: [&str; 2] = ["max_retries", "retry_interval"];

impl StoreSpec {
    /// The file's store, for limiters that name none.
    pub(super) fn of_file() -> Result<Self> {
        Ok(Self {
            name: OF_FILE.to_owned(),
            engine: Engine::Nats,
            location: None,
            bucket: BucketName::parse(BUCKET)?,
            auto_create: true,
            timing_margin: TIMING_MARGIN,
        })
    }
}

/// Reads one store; the texts are notes.
pub(super) fn read(entry: &Entry, environment: &Environment) -> Result<(StoreSpec, Vec<String>)> {
    let node = &entry.node;
    let engine = engine(entry)?;
    let section = resolve_section(Dialect::RateSync, node.entries(), OWN, environment)?;
    let bucket = section.settings.bucket.as_deref().unwrap_or(BUCKET);
    let named = node.entry("bucket_name").unwrap_or(entry);
    let bucket = BucketName::parse(bucket).map_err(|error| {
        named.node.place.error(error.message().unwrap_or("this is no name of a bucket"))
    })?;
    let mut notes: Vec<String> = section.settings.warnings.clone();
    let idle = node.entries().iter().filter(|it| WITHOUT_EFFECT.contains(&it.name.as_str()));
    notes.extend(idle.map(|it| {
        format!("{}: `{}` has no effect: nobody polls for permits here", it.place, it.name)
    }));
    if let (Engine::Memory, Some(own)) = (engine, &section.own) {
        let url = node.entries().iter().find(|it| it.name == "url").unwrap_or(entry);
        return Err(url
            .place
            .error(format!("engine `memory` has no server, and this is {}", own.location))
            .hint("leave `url` out, or write `engine = \"nats\"`"));
    }
    let store = StoreSpec {
        name: entry.name.clone(),
        engine,
        location: section.own.map(|own| own.location),
        bucket,
        auto_create: engine == Engine::Memory || section.settings.auto_create.unwrap_or(false),
        timing_margin: section.settings.timing_margin.unwrap_or(TIMING_MARGIN),
    };
    Ok((store, notes))
}

fn engine(entry: &Entry) -> Result<Engine> {
    let Some(written) = entry.node.entry("engine") else {
        return Err(entry
            .place
            .error(format!("the store `{}` has no `engine`", entry.name))
            .hint("write `engine = \"nats\"`, or `\"memory\"` for this process alone"));
    };
    match written.node.text() {
        Some("memory") => Ok(Engine::Memory),
        Some("nats") => Ok(Engine::Nats),
        Some(name @ ("redis" | "postgres" | "postgresql")) => Err(Error::new(
            ErrorKind::Unsupported,
            "settings.read",
        )
        .because(format!("{}: there is no engine `{name}` here", written.node.place))
        .hint(
            "write `engine = \"nats\"` with the `url` of a NATS server; without `url` it uses the \
             file's store, which can be a directory",
        )),
        _ => Err(written
            .node
            .place
            .error("`engine` is `nats` or `memory`")
            .hint("write `engine = \"nats\"`")),
    }
}
