//! What `/metrics` says about databases: under Litestream's names, whose dashboards go on
//! working, and under ours for what it does not tell.
//!
//! Written as Prometheus' own text: Litestream's counters do not end as OpenMetrics wants it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use jetbridge::{DatabaseState, DatabaseStatus};
use jetbridge_core::{Error, ErrorKind, Result};

use super::desk::{lag, unix};

/// A series: its name, its kind, what it says, and of one database the value.
type Series<'a> =
    (&'static str, &'static str, &'static str, &'a dyn Fn(&DatabaseStatus) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in such numbers")]
pub(super) fn write(databases: &[DatabaseStatus], out: &mut String, now: SystemTime) -> Result<()> {
    let series: [Series<'_>; 14] = [
        ("litestream_db_size", "gauge", "Bytes of the database", &|it| size(&it.path, "")),
        ("litestream_wal_size", "gauge", "Bytes of its log", &|it| size(&it.path, "-wal")),
        ("litestream_txid", "gauge", "The newest transaction of the replica", &|it| {
            Some(it.capture.txid.0 as f64)
        }),
        ("litestream_sync_count", "counter", "Transactions that were shipped", &|it| {
            Some(it.capture.shipped as f64)
        }),
        ("litestream_sync_error_count", "counter", "Failures", &|it| {
            Some(it.capture.failures as f64)
        }),
        (
            "jetbridge_database_lag_seconds",
            "gauge",
            "Age of the oldest change that is not in the replica",
            &|it| lag(it, now),
        ),
        ("jetbridge_database_up", "gauge", "1 while it is replicated without an error", &|it| {
            Some(f64::from(u8::from(is_up(it))))
        }),
        (
            "jetbridge_database_last_shipped_timestamp_seconds",
            "gauge",
            "When what was shipped last was captured",
            &|it| it.capture.shipped_time.map(unix),
        ),
        (
            "jetbridge_database_last_error_timestamp_seconds",
            "gauge",
            "When something failed last",
            &|it| it.failed.as_ref().map(|(at, _)| unix(*at)),
        ),
        (
            "jetbridge_database_restorable_oldest_timestamp_seconds",
            "gauge",
            "The oldest state that can be restored",
            &|it| it.window.map(|(oldest, _)| unix(oldest)),
        ),
        (
            "jetbridge_database_restorable_newest_timestamp_seconds",
            "gauge",
            "The newest state that can be restored",
            &|it| it.window.map(|(_, newest)| unix(newest)),
        ),
        ("jetbridge_database_files", "gauge", "Files of the replica", &|it| Some(it.files as f64)),
        (
            "jetbridge_database_verified_timestamp_seconds",
            "gauge",
            "When a restore was tried last",
            &|it| it.verified.as_ref().map(|verified| unix(verified.at)),
        ),
        ("jetbridge_database_verified", "gauge", "1 if that restore was intact", &|it| {
            it.verified.as_ref().map(|verified| f64::from(u8::from(verified.outcome.is_ok())))
        }),
    ];
    for (name, kind, help, value) in series {
        family(databases, out, (name, kind, help, value))
            .map_err(|error| Error::new(ErrorKind::Internal, "metrics.encode").caused_by(error))?;
    }
    Ok(())
}

/// True while it is replicated without an error.
fn is_up(database: &DatabaseStatus) -> bool {
    let runs = database.state == DatabaseState::Running;
    runs && database.error().is_none() && database.capture.txid.0 > 0
}

fn family(databases: &[DatabaseStatus], out: &mut String, series: Series<'_>) -> std::fmt::Result {
    let (name, kind, help, value) = series;
    let values: Vec<(String, f64)> = databases
        .iter()
        .filter_map(|it| Some((escaped(&it.path.display().to_string()), value(it)?)))
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
    for (database, value) in values {
        writeln!(out, "{name}{{db=\"{database}\"}} {value}")?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in such numbers")]
fn size(path: &Path, suffix: &str) -> Option<f64> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    match std::fs::metadata(name) {
        Ok(facts) => Some(facts.len() as f64),
        Err(_absent) if !suffix.is_empty() => Some(0.0),
        Err(_absent) => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
