//! Which databases are replicated, and where to: Litestream's file, unchanged, and the same keys
//! in a file of ours.
//!
//! Everything that its documentation lists is known. What it passes over in silence is a warning
//! here: unknown keys, and keys that do nothing. Its other kinds of replica are refused by name.

mod control;
mod replica;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::Result;
use jetbridge_sqlite::upkeep::{Deletion, UpkeepOptions};
use serde::Deserialize;

pub use control::{ControlSpec, Heartbeat, SocketSpec};
pub use replica::ReplicaSpec;

use super::environment::Environment;
use super::place::{Place, nearest};
use super::source::{Entry, GoDuration, Node, Value};

/// What a file says about databases.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Databases {
    /// The databases, in the order of the file.
    pub list: Vec<DatabaseSpec>,
    /// How the files of every replica are merged and kept.
    pub upkeep: Upkeep,
    /// The command to run beside the replication: `exec`.
    pub exec: Option<String>,
    /// What the process offers beside the replication.
    pub control: ControlSpec,
    /// How long the last upload may take when stopping: `shutdown-sync-timeout`.
    pub shutdown_timeout: Duration,
    /// What probably is not meant, or does nothing.
    pub warnings: Vec<String>,
}

/// How files are merged and kept. The defaults are Litestream's.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Upkeep {
    /// How often each level from 1 up is made of the one below: `levels`.
    pub levels: Vec<Duration>,
    /// How often a snapshot is made: `snapshot.interval`.
    pub snapshot_interval: Duration,
    /// How long snapshots are kept: `snapshot.retention`.
    pub snapshot_retention: Duration,
    /// How long files of level 0 are kept once they are merged: `l0-retention`; 0 for ever.
    pub captured_retention: Duration,
    /// How often that is looked at: `l0-retention-check-interval`.
    pub captured_check: Duration,
    /// Whether anything is deleted: `retention.enabled`.
    pub deletes: bool,
}

impl Default for Upkeep {
    fn default() -> Self {
        let options = UpkeepOptions::default();
        Self {
            levels: options.levels,
            snapshot_interval: options.snapshot_interval,
            snapshot_retention: options.snapshot_retention,
            captured_retention: options.captured_retention,
            captured_check: options.captured_check,
            deletes: options.deletion == Deletion::Enabled,
        }
    }
}

/// One database, or a directory of them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DatabaseSpec {
    /// Which.
    pub source: DatabaseSource,
    /// Where is remembered how far replication came: `meta-path` or `meta-dir`.
    pub state: Option<PathBuf>,
    /// How often the database is looked at if nothing tells of changes: `monitor-interval`.
    pub poll: Duration,
    /// After how long the log is moved into the file: `checkpoint-interval`.
    pub checkpoint_interval: Duration,
    /// At how many pages of the log it is: `min-checkpoint-page-count`.
    pub checkpoint_pages: u32,
    /// How long another connection may hold a lock: `busy-timeout`.
    pub busy: Duration,
    /// Restore it first if the file is missing: `restore-if-db-not-exists`.
    pub restore_if_missing: bool,
    /// Where to.
    pub replica: ReplicaSpec,
}

/// The files of a [`DatabaseSpec`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "one or many")]
pub enum DatabaseSource {
    /// One file: `path`.
    File(PathBuf),
    /// Those of a directory: `dir`.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What their names match: `pattern`.
        pattern: String,
        /// Those of directories within, too: `recursive`.
        recursive: bool,
        /// Those that come later, too: `watch`.
        watch: bool,
    },
}

impl DatabaseSpec {
    /// A database with Litestream's defaults.
    pub fn new(path: PathBuf, replica: ReplicaSpec) -> Self {
        Self {
            source: DatabaseSource::File(path),
            state: None,
            poll: Duration::from_secs(1),
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_pages: 1000,
            busy: Duration::from_secs(1),
            restore_if_missing: false,
            replica,
        }
    }
}

impl DatabaseSource {
    /// The file or the directory.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::File(path) => path,
            Self::Directory { directory, .. } => directory,
        }
    }
}

/// Keys at the top that are known and have no effect here.
const IDLE_AT_TOP: [&str; 6] = [
    "access-key-id",
    "logging",
    "mcp-addr",
    "secret-access-key",
    "shutdown-sync-interval",
    "verify-compaction",
];
/// What to do instead, or why nothing is to be done.
const INSTEAD: [(&str, &str); 6] = [
    ("logging", "write -log-level LEVEL behind `replicate`"),
    ("mcp-addr", "the socket, `/v1/status` and the commands with -json say the same"),
    ("shutdown-sync-interval", "it is tried all the time until `shutdown-sync-timeout`"),
    ("verify-compaction", "whatever is merged is verified"),
    ("max-sync-wal-bytes", "what is large is cut by itself"),
    ("truncate-page-n", "the log is cut at 64 MiB, without a snapshot"),
];
/// Keys at the top that are read, beside those of replicas.
const AT_TOP: [&str; 13] = [
    "addr",
    "dbs",
    "exec",
    "heartbeat-interval",
    "heartbeat-url",
    "l0-retention",
    "l0-retention-check-interval",
    "levels",
    "retention",
    "shutdown-sync-timeout",
    "snapshot",
    "socket",
    "validation",
];
/// Keys of a database that are known and have no effect here.
const IDLE_IN_DATABASE: [&str; 2] = ["max-sync-wal-bytes", "truncate-page-n"];
/// What a shutdown may take unless it is written.
const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(30);

/// What is written at the top, but for the databases.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Top {
    addr: Option<String>,
    exec: Option<String>,
    levels: Option<Vec<LevelKeys>>,
    snapshot: Option<SnapshotKeys>,
    l0_retention: Option<GoDuration>,
    l0_retention_check_interval: Option<GoDuration>,
    retention: Option<RetentionKeys>,
    shutdown_sync_timeout: Option<GoDuration>,
    heartbeat_url: Option<String>,
    heartbeat_interval: Option<GoDuration>,
    socket: Option<control::SocketKeys>,
    validation: Option<control::ValidationKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelKeys {
    interval: GoDuration,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct SnapshotKeys {
    interval: Option<GoDuration>,
    retention: Option<GoDuration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionKeys {
    enabled: Option<bool>,
}

/// What is written of a database, but for its replica.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DatabaseKeys {
    path: Option<String>,
    dir: Option<String>,
    pattern: Option<String>,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    watch: bool,
    meta_path: Option<String>,
    meta_dir: Option<String>,
    monitor_interval: Option<GoDuration>,
    checkpoint_interval: Option<GoDuration>,
    busy_timeout: Option<GoDuration>,
    min_checkpoint_page_count: Option<u32>,
    #[serde(default)]
    restore_if_db_not_exists: bool,
    snapshot: Option<SnapshotKeys>,
}

const DATABASE_KEYS: [&str; 15] = [
    "busy-timeout",
    "checkpoint-interval",
    "dir",
    "meta-dir",
    "meta-path",
    "min-checkpoint-page-count",
    "monitor-interval",
    "path",
    "pattern",
    "recursive",
    "replica",
    "replicas",
    "restore-if-db-not-exists",
    "snapshot",
    "watch",
];

impl Databases {
    /// Reads a file of Litestream, its variables expanded.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) with file, line and column;
    /// [`Unsupported`](jetbridge_core::ErrorKind::Unsupported) for replicas that are not on
    /// NATS or in a store of ours.
    pub fn read(root: &Node, environment: &Environment) -> Result<Self> {
        let mut warnings = Vec::new();
        let (settings, defaults): (Vec<&Entry>, Vec<&Entry>) =
            root.entries().iter().partition(|entry| {
                let name = entry.name.as_str();
                AT_TOP.contains(&name) || IDLE_AT_TOP.contains(&name)
            });
        for entry in settings.iter().filter(|it| IDLE_AT_TOP.contains(&it.name.as_str())) {
            warnings.push(idle(entry));
        }
        let defaults = replica::known(defaults, &AT_TOP, &mut warnings);
        let mut top: Top = only(root, &AT_TOP, &["dbs"]).read()?;
        let mut list = Vec::new();
        let mut snapshots = Vec::new();
        if let Some(node) = root.get("dbs") {
            let Value::List(items) = &node.value else {
                return Err(node.place.error("`dbs` is a list"));
            };
            for item in items {
                let (database, snapshot) = database(item, (&defaults, environment), &mut warnings)?;
                list.push(database);
                snapshots.extend(snapshot.map(|keys| (keys, item)));
            }
        }
        // As in Litestream: those of databases hold for all if nothing is said for all.
        if let (None, Some((first, _))) = (&top.snapshot, snapshots.first()) {
            if let Some((_, item)) = snapshots.iter().find(|(keys, _)| keys != first) {
                return Err(item.place.error("`snapshot` must be the same for all databases"));
            }
            top.snapshot = Some(*first);
        }
        Ok(Self {
            list,
            upkeep: top.upkeep(root)?,
            control: control::read(&top, root)?,
            exec: top.exec,
            shutdown_timeout: top.shutdown_sync_timeout.map_or(SHUTDOWN_DEFAULT, |it| it.0),
            warnings,
        })
    }

    /// One database, and the defaults of everything else.
    pub fn of(database: DatabaseSpec) -> Self {
        Self {
            list: vec![database],
            upkeep: Upkeep::default(),
            control: ControlSpec::default(),
            exec: None,
            shutdown_timeout: SHUTDOWN_DEFAULT,
            warnings: Vec::new(),
        }
    }

    /// Reads the `dbs:` of a file that has other sections as well, and what belongs to it; `None`
    /// if it has none.
    ///
    /// # Errors
    /// As [`Databases::read`].
    pub fn section(root: &Node, environment: &Environment) -> Result<Option<Self>> {
        if root.get("dbs").is_none() {
            return Ok(None);
        }
        let entries = root.entries().iter().filter(|entry| Self::knows(&entry.name));
        let value = Value::Map(entries.cloned().collect());
        Self::read(&Node { value, place: root.place.clone() }, environment).map(Some)
    }

    /// True if `name` at the top of a file says something about databases.
    pub fn knows(name: &str) -> bool {
        AT_TOP.contains(&name) || IDLE_AT_TOP.contains(&name) || replica::is_key(name)
    }

    /// The database whose file is `path`.
    pub fn find(&self, path: &str, environment: &Environment) -> Option<&DatabaseSpec> {
        let wanted = database_path(path, environment);
        self.list.iter().find(|spec| *spec.source.path() == wanted)
    }
}

impl Top {
    fn upkeep(&self, root: &Node) -> Result<Upkeep> {
        let mut upkeep = Upkeep::default();
        if let Some(levels) = &self.levels {
            if levels.is_empty()
                || levels.len() > 8
                || levels.iter().any(|it| it.interval.0.is_zero())
            {
                let place = root.get("levels").map_or(&root.place, |node| &node.place);
                return Err(place.error("`levels` are 1 to 8, each with an `interval`"));
            }
            upkeep.levels = levels.iter().map(|level| level.interval.0).collect();
        }
        let set = |to: &mut Duration, from: Option<GoDuration>| {
            if let Some(GoDuration(length)) = from {
                *to = length;
            }
        };
        if let Some(snapshot) = &self.snapshot {
            if snapshot.interval.is_some_and(|it| it.0.is_zero()) {
                let place = root.get("snapshot").map_or(&root.place, |node| &node.place);
                return Err(place.error("`snapshot.interval` must be more than 0"));
            }
            set(&mut upkeep.snapshot_interval, snapshot.interval);
            set(&mut upkeep.snapshot_retention, snapshot.retention);
        }
        set(&mut upkeep.captured_retention, self.l0_retention);
        set(&mut upkeep.captured_check, self.l0_retention_check_interval);
        if let Some(enabled) = self.retention.as_ref().and_then(|it| it.enabled) {
            upkeep.deletes = enabled;
        }
        Ok(upkeep)
    }
}

fn database(
    item: &Node,
    (defaults, environment): (&[Entry], &Environment),
    warnings: &mut Vec<String>,
) -> Result<(DatabaseSpec, Option<SnapshotKeys>)> {
    for entry in item.entries() {
        let name = entry.name.as_str();
        if IDLE_IN_DATABASE.contains(&name) {
            warnings.push(idle(entry));
        } else if !DATABASE_KEYS.contains(&name) {
            warnings.push(unknown(entry, &DATABASE_KEYS));
        }
    }
    let keys: DatabaseKeys = only(item, &DATABASE_KEYS, &["replica", "replicas"]).read()?;
    let source = source_of(&keys, item, environment)?;
    let replica = match (item.get("replica"), item.get("replicas")) {
        (Some(replica), None) => replica.clone(),
        (None, Some(Node { value: Value::List(list), place })) => match list.as_slice() {
            [replica] => replica.clone(),
            _ => {
                return Err(
                    place.error("multiple replicas on a single database are no longer supported")
                );
            }
        },
        (Some(_), Some(node)) => {
            return Err(node.place.error("write either `replica` or `replicas`"));
        }
        _ => return Err(item.place.error("this database has no `replica`")),
    };
    let state = keys.meta_path.as_deref().or(keys.meta_dir.as_deref());
    let span = |written: Option<GoDuration>, seconds| {
        written.map_or(Duration::from_secs(seconds), |length| length.0)
    };
    let spec = DatabaseSpec {
        source,
        state: state.map(|path| database_path(path, environment)),
        poll: span(keys.monitor_interval, 1),
        checkpoint_interval: span(keys.checkpoint_interval, 60),
        checkpoint_pages: keys.min_checkpoint_page_count.unwrap_or(1000),
        busy: span(keys.busy_timeout, 1),
        restore_if_missing: keys.restore_if_db_not_exists,
        replica: ReplicaSpec::read(&replica, (defaults, environment), warnings)?,
    };
    Ok((spec, keys.snapshot))
}

fn source_of(
    keys: &DatabaseKeys,
    item: &Node,
    environment: &Environment,
) -> Result<DatabaseSource> {
    let expanded = |path: &str| database_path(path, environment);
    match (&keys.path, &keys.dir) {
        (Some(path), None) => Ok(DatabaseSource::File(expanded(path))),
        (None, Some(dir)) => Ok(DatabaseSource::Directory {
            directory: expanded(dir),
            pattern: keys
                .pattern
                .clone()
                .ok_or_else(|| item.place.error("`dir` needs a `pattern`, such as `*.db`"))?,
            recursive: keys.recursive,
            watch: keys.watch,
        }),
        (Some(_), Some(_)) => Err(item.place.error("a database has either `path` or `dir`")),
        (None, None) => Err(item.place.error("a database has a `path` or a `dir`")),
    }
}

/// The whole path of a database as Litestream writes it: without a scheme, `~` for the home
/// directory, and from the directory of this process on if it is not whole. So whoever asks for it
/// from elsewhere names it by the same words.
pub fn database_path(text: &str, environment: &Environment) -> PathBuf {
    let schemes = ["sqlite3://", "sqlite://"];
    let text = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let path = environment.expand_home(text);
    // Without a directory of this process there is nothing better than what is written.
    std::path::absolute(&path).unwrap_or(path)
}

/// The map `node` with those of the names that somebody reads by their types.
fn only(node: &Node, names: &[&str], without: &[&str]) -> Node {
    let wanted = |entry: &&Entry| {
        let name = entry.name.as_str();
        names.contains(&name) && !without.contains(&name)
    };
    let entries = node.entries().iter().filter(wanted).cloned().collect();
    Node { value: Value::Map(entries), place: node.place.clone() }
}

fn idle(entry: &Entry) -> String {
    let said = format!("{}: `{}` has no effect here", entry.place, entry.name);
    match INSTEAD.iter().find(|(name, _)| *name == entry.name) {
        Some((_, instead)) => format!("{said}: {instead}"),
        None => said,
    }
}

fn unknown(entry: &Entry, names: &[&str]) -> String {
    let said = format!("{}: unknown key `{}` is passed over", entry.place, entry.name);
    match nearest(&entry.name, names.iter().copied()) {
        Some(name) => format!("{said}; did you mean `{name}`?"),
        None => said,
    }
}

/// Where the arguments of a command are written.
fn argument() -> Place {
    Place::argument("the replica's URL")
}
