//! Which replica is meant, and the store it is in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::{
    DatabaseSpec, Databases, Environment, Expansion, Location, ReplicaSpec, parse_yaml, read_file,
};
use jetbridge::sqlite::store::{Replica, in_words_of_the_page};
use jetbridge_core::{Backend, Error, ErrorKind, Open, Result};
use serde::Serialize;

use crate::args::Global;
use crate::args::sqlite::{File, Which};
use crate::interrupt::{Ended, Interrupt};
use crate::location::Place;
use crate::printer::{Printer, Row, Text, View};
use crate::report::Status;

/// Where Litestream's file is unless it is said.
const CONFIG_DEFAULT: &str = "/etc/litestream.yml";
/// How long closing may take: nothing was written that was not acknowledged.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A replica, and the database it is of if a file says so.
pub(super) struct Named {
    pub(super) spec: ReplicaSpec,
    pub(super) database: Option<PathBuf>,
}

/// The replica that the arguments name.
pub(super) fn named(which: &Which, printer: &Printer) -> Result<Named> {
    if let Some(bucket) = &which.bucket {
        let spec = ReplicaSpec::in_store(bucket.clone(), &which.path);
        return Ok(Named { spec, database: None });
    }
    let target = which.target.as_deref().unwrap_or_default();
    let is_url = target.contains("://") && !target.starts_with("sqlite");
    refuse_store(target)?;
    if is_url {
        if which.file.config.is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "sqlite.find")
                .because("cannot specify a replica URL and the -config flag"));
        }
        let spec = ReplicaSpec::from_url(target, &Environment::of_process())?;
        return Ok(Named { spec, database: None });
    }
    let databases = databases(&which.file, printer)?;
    let found = database_of(&databases, target)?;
    let database = Some(found.source.path().clone());
    Ok(Named { spec: found.replica.clone(), database })
}

/// A store of ours is no URL of a replica: it is said what to write instead.
pub(super) fn refuse_store(target: &str) -> Result<()> {
    if !(target.starts_with("local:") || target == "memory:") {
        return Ok(());
    }
    let text = format!("`{target}` names a store, and not which bucket of it");
    Err(Error::new(ErrorKind::InvalidInput, "sqlite.find")
        .because(text)
        .hint(format!("write `--store {target} --bucket BUCKET [--path PATH]` instead")))
}

/// The file that somebody named.
fn named_file(file: &File, environment: &Environment) -> Option<PathBuf> {
    file.config.clone().or_else(|| environment.get("LITESTREAM_CONFIG").map(Into::into))
}

/// True if nobody named a file, and there is none where it is looked for.
pub(super) fn is_without_file(file: &File) -> bool {
    named_file(file, &Environment::of_process()).is_none()
        && matches!(Path::new(CONFIG_DEFAULT).try_exists(), Ok(false))
}

/// What the file says.
pub(super) fn databases(file: &File, printer: &Printer) -> Result<Databases> {
    let environment = Environment::of_process();
    let named = named_file(file, &environment);
    let mut root = match &named {
        Some(path) => tree(path),
        None => tree(CONFIG_DEFAULT.as_ref())
            .map_err(|error| error.hint("name the file of the databases: `--config FILE`")),
    }?;
    let expansion = if file.no_expand_env { Expansion::Off } else { Expansion::Litestream };
    root.expand(&environment, expansion)?;
    let databases = Databases::read(&root, &environment)?;
    databases.warnings.iter().for_each(|warning| printer.warn(warning));
    Ok(databases)
}

/// Litestream's files are YAML, whatever they are called.
fn tree(path: &Path) -> Result<jetbridge::settings::Node> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return read_file(path);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| crate::input::file_error("file.read", path, error))?;
    parse_yaml(&path.display().to_string(), &text)
}

/// Connects to where the replica is.
pub(super) async fn open(
    spec: &ReplicaSpec,
    (global, printer): (&Global, &Printer),
) -> Result<(Arc<dyn Backend>, Replica)> {
    let location = match &spec.server {
        Some(server) => Location::Nats(server.clone()),
        None => {
            let place = Place::find(global)?;
            place.announce(printer);
            place.location
        }
    };
    let store: Arc<dyn Backend> =
        jetbridge::connect(&location).await.map_err(in_words_of_the_page)?;
    match store.objects(&spec.bucket, Open::existing()).await {
        Ok(objects) => Ok((store, Replica::new(objects, &spec.path))),
        Err(error) => {
            let _nothing_is_left = store.close(CLOSE_GRACE).await;
            Err(in_words_of_the_page(error))
        }
    }
}

/// Connects to where the replica is, does `work` with it, and closes.
pub(super) async fn with_replica<T>(
    spec: &ReplicaSpec,
    (global, printer): (&Global, &Printer),
    work: impl AsyncFnOnce(Replica) -> Result<T>,
) -> Result<Ended<T>> {
    let interrupt = Interrupt::new();
    let whole = async {
        let (store, replica) = open(spec, (global, printer)).await?;
        let worked = work(replica).await;
        let _nothing_is_left = store.close(CLOSE_GRACE).await;
        worked
    };
    interrupt.guard(Box::pin(whole)).await
}

/// The database of the file that is called `name`.
pub(super) fn database_of<'a>(databases: &'a Databases, name: &str) -> Result<&'a DatabaseSpec> {
    databases.find(name, &Environment::of_process()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "sqlite.find")
            .because(format!("database not found in config: {name}"))
            .hint("`jetbridge sqlite databases` lists those that are")
    })
}

/// The databases of a file.
pub(super) fn list(file: &File, printer: &Printer) -> Result<Status> {
    let rows = databases(file, printer)?.list.iter().map(DatabaseRow::of).collect();
    printer.value(&DatabaseList(rows))?;
    Ok(Status::Done)
}

#[derive(Serialize)]
struct DatabaseRow {
    path: String,
    replica: &'static str,
}

impl DatabaseRow {
    fn of(spec: &DatabaseSpec) -> Self {
        let replica = if spec.replica.server.is_some() { "nats" } else { "store" };
        Self { path: spec.source.path().display().to_string(), replica }
    }
}

impl Row for DatabaseRow {
    const TITLES: &'static [&'static str] = &["path", "replica"];

    fn cells(&self) -> Vec<String> {
        vec![self.path.clone(), self.replica.to_owned()]
    }
}

/// As Litestream has it: one array.
#[derive(Serialize)]
#[serde(transparent)]
struct DatabaseList(Vec<DatabaseRow>);

impl View for DatabaseList {
    fn text(&self, out: &mut Text) {
        out.table(&self.0);
    }
}

#[derive(Serialize)]
pub(super) struct Version {
    pub(super) version: &'static str,
}

impl View for Version {
    fn text(&self, out: &mut Text) {
        out.line(self.version);
    }
}
