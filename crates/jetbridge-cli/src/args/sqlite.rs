//! `sqlite`: words and flags of Litestream. Its flags have one dash; ours two. Both are taken.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use jetbridge::sqlite::Txid;
use jetbridge_core::BucketName;

use super::parse;

#[derive(Args, Debug)]
pub(crate) struct Sqlite {
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Replicate databases until told to stop
    Replicate(Replicate),
    /// Restore a database from its replica: the newest state, a transaction's or a time's
    Restore(Restore),
    /// List the files of a replica
    #[command(visible_alias = "wal")]
    Ltx(Ltx),
    /// Restore a database, and keep it as new as its replica, for others to read
    Follow(Follow),
    /// List the databases of a configuration file
    Databases(File),
    /// Say how databases do: what is shipped, what failed last, what can be restored
    Status(StatusOf),
    /// Prove that a replica can be restored: restore it, check it, and remove it again
    Verify(Verify),
    /// Forget what is remembered of a database; the next start reads its replica
    Reset(Reset),
    /// Wait until a running replicator has shipped a database
    Sync(Sync),
    /// Tell a running replicator to go on with a database
    Start(Told),
    /// Tell a running replicator to ship a database and stop with it
    Stop(Told),
    /// Tell a running replicator to replicate another database
    Register(Register),
    /// Tell a running replicator to ship a database and forget it
    Unregister(Unregister),
    /// List the databases of a running replicator
    List(Asked),
    /// Say which replicator runs
    Info(Asked),
    /// Print the version
    Version,
}

/// The file that databases are looked up in.
#[derive(Args, Debug)]
pub(crate) struct File {
    /// A file of Litestream, or one of `up` [default: $LITESTREAM_CONFIG, /etc/litestream.yml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Leave variables in the file as they are
    #[arg(long)]
    pub(crate) no_expand_env: bool,
}

/// A replica, however it is named.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The database as the file names it, or the URL of a replica: nats://HOST:PORT/BUCKET[/PATH]
    #[arg(value_name = "DB|URL", required_unless_present = "bucket")]
    pub(crate) target: Option<String>,
    /// A replica in this bucket of the store
    #[arg(long, value_name = "BUCKET", conflicts_with = "target",
        value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: Option<BucketName>,
    /// Where in the bucket
    #[arg(long, value_name = "PATH", requires = "bucket", default_value = "")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Args, Debug)]
pub(crate) struct Replicate {
    /// A database, and the URL of its replica: nats://HOST:PORT/BUCKET[/PATH]; without them those
    /// of the file
    #[arg(value_name = "DB URL", num_args = 0..)]
    pub(crate) named: Vec<String>,
    /// To this bucket of the store, instead of a URL
    #[arg(long, value_name = "BUCKET", value_parser = parse::name::<BucketName>)]
    pub(crate) bucket: Option<BucketName>,
    /// Where in the bucket
    #[arg(long, value_name = "PATH", requires = "bucket", default_value = "")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) file: File,
    /// Run this command, and end with it
    #[arg(long, value_name = "COMMAND", conflicts_with = "once")]
    pub(crate) exec: Option<String>,
    /// Ship what is there now, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// With `--once`: ship every page anew, whatever the replica has
    #[arg(long, requires = "once")]
    pub(crate) force_snapshot: bool,
    /// With `--once`: delete what is older than it is to be kept
    #[arg(long, requires = "once")]
    pub(crate) enforce_retention: bool,
    /// Restore databases first whose files are missing
    #[arg(long)]
    pub(crate) restore_if_db_not_exists: bool,
    /// How much to log
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

/// How much to log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where to write the database [default: where the file has it]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The state after this transaction: 16 hex digits
    #[arg(long, value_name = "TXID", value_parser = txid)]
    pub(crate) txid: Option<Txid>,
    /// The newest state before this time: RFC 3339
    #[arg(long, value_name = "TIME", value_parser = timestamp, conflicts_with = "txid")]
    pub(crate) timestamp: Option<SystemTime>,
    /// Large files that are read at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) parallelism: usize,
    /// Do nothing if the database is there
    #[arg(long)]
    pub(crate) if_db_not_exists: bool,
    /// Do nothing if there is nothing to restore
    #[arg(long)]
    pub(crate) if_replica_exists: bool,
    /// Say what would be read, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// What SQLite is to check before the database gets its name
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) integrity_check: IntegrityCheck,
    /// Go on: keep the database as new as its replica until told to stop
    #[arg(short, long, conflicts_with_all = [
        "txid", "timestamp", "dry_run", "if_db_not_exists", "if_replica_exists",
    ])]
    pub(crate) follow: bool,
    /// The time between two changes of a followed database at least [default: none]
    #[arg(long, value_name = "DURATION", requires = "follow",
        value_parser = parse::positive_span)]
    pub(crate) follow_interval: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Follow {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where to write the database [default: where the file has it]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// The time between two changes of the database at least [default: none]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_span)]
    pub(crate) follow_interval: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The state after this transaction: 16 hex digits
    #[arg(long, value_name = "TXID", value_parser = txid)]
    pub(crate) txid: Option<Txid>,
    /// Where there is room for the database
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct StatusOf {
    /// One database; all of the file without it
    #[arg(value_name = "DB")]
    pub(crate) database: Option<String>,
    #[command(flatten)]
    pub(crate) file: File,
    /// The socket of a running replicator [default: the file's]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Reset {
    /// The database
    #[arg(value_name = "DB")]
    pub(crate) database: String,
    #[command(flatten)]
    pub(crate) file: File,
    /// Say what would be removed, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The socket of a running replicator.
#[derive(Args, Debug)]
pub(crate) struct Socket {
    /// The socket of the replicator
    #[arg(long, value_name = "PATH", default_value = "/var/run/litestream.sock")]
    pub(crate) socket: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(crate) socket: Socket,
}

#[derive(Args, Debug)]
pub(crate) struct Told {
    /// The database
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) socket: Socket,
}

#[derive(Args, Debug)]
pub(crate) struct Sync {
    #[command(flatten)]
    pub(crate) told: Told,
    /// Wait until it is in the replica
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    #[command(flatten)]
    pub(crate) told: Told,
    /// Where to: nats://HOST:PORT/BUCKET[/PATH]
    #[arg(long, value_name = "URL")]
    pub(crate) replica: String,
}

#[derive(Args, Debug)]
pub(crate) struct Unregister {
    #[command(flatten)]
    pub(crate) told: Told,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What SQLite is to check.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IntegrityCheck {
    /// Nothing beside the checksums
    None,
    /// PRAGMA quick_check
    Quick,
    /// PRAGMA integrity_check
    Full,
}

#[derive(Args, Debug)]
pub(crate) struct Ltx {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Files of this level: 0 to 9, or `all`
    #[arg(long, value_name = "LEVEL", default_value = "0", value_parser = level)]
    pub(crate) level: Levels,
}

/// One level or all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Levels(pub(crate) Option<u8>);

fn level(raw: &str) -> Result<Levels, String> {
    match raw {
        "all" => Ok(Levels(None)),
        _ => match raw.parse() {
            Ok(level @ 0..=9) => Ok(Levels(Some(level))),
            _ => Err("write 0 to 9, or `all`".to_owned()),
        },
    }
}

fn txid(raw: &str) -> Result<Txid, String> {
    Txid::parse(raw).map_err(|_wrong| "invalid txid format: write 16 hex digits".to_owned())
}

/// A time by RFC 3339, with `Z` or an offset.
fn timestamp(raw: &str) -> Result<SystemTime, String> {
    let wrong = || "invalid -timestamp, must specify in ISO 8601 format".to_owned();
    if let Ok(time) = humantime::parse_rfc3339(raw) {
        return Ok(time);
    }
    let (local, offset) = raw.split_at_checked(raw.len().saturating_sub(6)).ok_or_else(wrong)?;
    let time = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_not| wrong())?;
    let (sign, clock) = offset.split_at_checked(1).ok_or_else(wrong)?;
    let (hours, minutes) = clock.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_not| wrong());
    let length = Duration::from_secs(number(hours)? * 3600 + number(minutes)? * 60);
    let moved = match sign {
        "+" => time.checked_sub(length),
        "-" => time.checked_add(length),
        _ => None,
    };
    moved.ok_or_else(wrong)
}

/// Flags that Litestream's users write with one dash.
const ONE_DASH: [&str; 25] = [
    "-config",
    "-dir",
    "-dry-run",
    "-enforce-retention",
    "-exec",
    "-follow",
    "-follow-interval",
    "-force",
    "-force-snapshot",
    "-if-db-not-exists",
    "-if-replica-exists",
    "-integrity-check",
    "-json",
    "-level",
    "-log-level",
    "-no-expand-env",
    "-once",
    "-parallelism",
    "-replica",
    "-restore-if-db-not-exists",
    "-socket",
    "-timeout",
    "-timestamp",
    "-txid",
    "-wait",
];

/// True if the binary was started under Litestream's name.
pub(crate) fn is_litestream(arguments: &[OsString]) -> bool {
    let called = arguments.first().map(std::path::Path::new).and_then(std::path::Path::file_stem);
    called.is_some_and(|name| name == "litestream")
}

/// Gives those flags behind the word `sqlite` the second dash that clap wants.
pub(crate) fn with_two_dashes(arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = arguments.iter().position(|argument| argument == "sqlite") else {
        return arguments;
    };
    let (mut open, mut seconds) = (true, false);
    let fixed = arguments.into_iter().enumerate().map(|(place, argument)| {
        open &= argument != "--";
        let Some(text) = argument.to_str().filter(|_| open && place > at) else {
            return argument;
        };
        let text = if is_one_dash(text) { format!("-{text}") } else { text.to_owned() };
        // Litestream counts in seconds, without saying so.
        let value = text.strip_prefix("--timeout=").or(seconds.then_some(text.as_str()));
        let is_number = value.is_some_and(|value| value.bytes().all(|it| it.is_ascii_digit()));
        seconds = text == "--timeout";
        if is_number { format!("{text}s").into() } else { text.into() }
    });
    fixed.collect()
}

fn is_one_dash(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or(text);
    ONE_DASH.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_one_dash_are_taken_behind_the_word_alone() {
        let fixed = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            let words = with_two_dashes(words).into_iter().map(|it| it.into_string().unwrap());
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            fixed("jetbridge sqlite restore -o x -txid=1 -force -- -json"),
            "jetbridge sqlite restore -o x --txid=1 --force -- -json"
        );
        assert_eq!(fixed("jetbridge kv get b -json"), "jetbridge kv get b -json");
        assert_eq!(
            fixed("jetbridge sqlite sync -timeout 20 --timeout=5 --timeout 2m 7"),
            "jetbridge sqlite sync --timeout 20s --timeout=5s --timeout 2m 7"
        );
    }

    #[test]
    fn times_have_an_offset_or_a_z() {
        let at = |text: &str| timestamp(text).unwrap();
        assert_eq!(at("2026-01-02T03:04:05+02:00"), at("2026-01-02T01:04:05Z"));
        assert_eq!(at("2026-01-02T03:04:05.5-00:30"), at("2026-01-02T03:34:05.5Z"));
        for wrong in ["", "yesterday", "2026-01-02", "2026-01-02T03:04:05+0200", "é"] {
            assert!(timestamp(wrong).is_err(), "{wrong}");
        }
    }
}
