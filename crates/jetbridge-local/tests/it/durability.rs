//! What a power cut may take: the order in which a store with `sync=full` calls the kernel.
//!
//! A child writes under `strace`. Whatever it says it was told stands in the trace too, as a
//! write to its standard output, so the trace shows what was on the disk by then.

use std::path::Path;
use std::process::Command;

use jetbridge_core::{Backend as _, BucketSpec, ObjectPut, Open, PutOpts};
use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_testkit::process::{Process, say};

use crate::child::ROLES;
use crate::support::{body, bucket, close, key, object, pattern};

/// The calls that matter.
const CALLS: &str = "trace=rename,renameat,renameat2,fsync,fdatasync,pwrite64,write,unlink,mkdir";

#[test]
fn with_full_sync_nothing_is_acknowledged_before_it_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let trace = trace_child(dir.path());
    check_store(&trace);
    check_bucket(&trace);
    check_put(&trace);
    check_object(&trace);
}

/// One call to the kernel.
#[derive(Debug)]
struct Call {
    name: String,
    text: String,
}

impl Call {
    fn syncs(&self, path: &str) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.text.contains(path)
    }
}

#[derive(Debug)]
struct Trace(Vec<Call>);

impl Trace {
    /// Where the first call behind `from` is that `wanted` is true of.
    #[track_caller]
    fn find(&self, from: usize, what: &str, wanted: impl Fn(&Call) -> bool) -> usize {
        let found = self.0[from..].iter().position(wanted);
        from + found.unwrap_or_else(|| panic!("no {what} behind call {from} in {self:#?}"))
    }

    /// Where the last call before `to` is that `wanted` is true of.
    #[track_caller]
    fn last(&self, to: usize, what: &str, wanted: impl Fn(&Call) -> bool) -> usize {
        let found = self.0[..to].iter().rposition(wanted);
        found.unwrap_or_else(|| panic!("no {what} before call {to} in {self:#?}"))
    }

    /// Where the child was told that `what` is done.
    #[track_caller]
    fn told(&self, what: &str) -> usize {
        self.find(0, what, |call| call.name == "write" && call.text.contains(what))
    }
}

fn trace_child(directory: &Path) -> Trace {
    let output = directory.join("trace");
    let store = directory.join("store");
    let plain = ROLES.command(&std::env::current_exe().unwrap(), "write_in_full", &store);
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "64", "-e", CALLS, "-o"]).arg(&output);
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = Process::run(command).finish();
    assert_eq!(said, ["bucket", "put", "object"]);
    let text = std::fs::read_to_string(output).unwrap();
    // A call of one thread that another one interrupts is told in two parts: it counts when it
    // has returned, but for what begins a wait it is the same.
    let calls = text.lines().filter_map(parse).collect();
    Trace(calls)
}

/// `PID name(arguments) = result`, or `PID <... name resumed>…) = result`.
fn parse(line: &str) -> Option<Call> {
    let (_, call) = line.split_once(' ')?;
    let call = call.trim_start();
    let (name, text) = call.split_once('(')?;
    let plain = name.bytes().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| Call { name: name.to_owned(), text: text.to_owned() })
}

/// What the store is made of has its names synced before anything else is told.
fn check_store(trace: &Trace) {
    let told = trace.told("says: bucket");
    let made = trace.last(told, "directory", |call| {
        call.name == "mkdir" && call.text.contains("/store/") && !call.text.contains(".new")
    });
    let synced = trace.find(made, "sync of the store", |call| call.syncs("/store>"));
    assert!(synced < told, "{trace:#?}");
}

/// The database is synced, then the bucket gets its name, then the name is synced.
fn check_bucket(trace: &Trace) {
    let told = trace.told("says: bucket");
    let named = trace.find(0, "rename of the bucket", |call| {
        call.name.starts_with("rename") && call.text.contains("/kv/") && call.text.contains(".new")
    });
    let database = trace.find(0, "sync of the database", |call| call.syncs(".new/data.db>"));
    let name = trace.find(named, "sync of the name", |call| call.syncs("/kv>"));
    assert!(database < named && named < name && name < told, "{trace:#?}");
}

/// The log is synced, and so is its name, before the write is acknowledged.
fn check_put(trace: &Trace) {
    let (before, told) = (trace.told("says: bucket"), trace.told("says: put"));
    let is_log = |call: &Call| call.text.contains("/kv/") && call.text.contains("data.db-wal>");
    let written = trace.last(told, "commit", |call| call.name == "pwrite64" && is_log(call));
    let synced = trace.find(written, "sync of the log", |call| {
        call.syncs("data.db-wal>") && call.text.contains("/kv/")
    });
    assert!(before < written && written < synced && synced < told, "{trace:#?}");
    trace.find(before, "sync of the log's name", |call| {
        matches!(call.name.as_str(), "fsync" | "fdatasync")
            && call.text.contains("/kv/k.")
            && !call.text.contains("data.db")
    });
}

/// The body is synced, gets its name, the name is synced, and only then the row is written.
fn check_object(trace: &Trace) {
    let told = trace.told("says: object");
    let named = trace.find(0, "rename of the body", |call| {
        call.name.starts_with("rename") && call.text.contains("/incoming/")
    });
    let body = trace.find(0, "sync of the body", |call| call.syncs("/incoming/"));
    let name = trace.find(named, "sync of the name", |call| call.syncs("/bodies/"));
    let log = |call: &Call| call.text.contains("/objects/") && call.text.contains("data.db-wal>");
    let first = trace.find(named, "row", |call| call.name == "pwrite64" && log(call));
    let last = trace.last(told, "row", |call| call.name == "pwrite64" && log(call));
    let synced = trace.find(last, "sync of the row", |call| {
        call.syncs("data.db-wal>") && call.text.contains("/objects/")
    });
    assert!(body < named && named < name && name < first, "{trace:#?}");
    assert!(last < synced && synced < told, "{trace:#?}");
}

/// The role of a process that writes one of everything and says when it is told that it is done.
pub(crate) async fn write_in_full(directory: &Path) {
    let options = LocalOptions::default().full_sync();
    let store = LocalBackend::open(directory, options).await.unwrap();
    let kv = store.kv(&bucket("k"), Open::ensure(BucketSpec::default())).await.unwrap();
    say("bucket");
    kv.put(&key("a"), "1".into(), PutOpts::new()).await.unwrap();
    say("put");
    let objects = store.objects(&bucket("o"), Open::ensure(BucketSpec::default())).await.unwrap();
    let bytes = body(pattern(3 << 20, 1));
    objects.put(&object("x"), bytes, ObjectPut::new()).await.unwrap();
    say("object");
    close(store).await;
}
