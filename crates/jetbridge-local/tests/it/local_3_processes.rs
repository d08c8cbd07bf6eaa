//! The contract where messages and wake-ups pass through another process: a real one owns the
//! directory, and both handles under test are members.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use jetbridge_local::{LocalBackend, LocalOptions};
use jetbridge_testkit::Fixture;

/// Tells the child which directory to own.
const DIRECTORY_VARIABLE: &str = "JETBRIDGE_TEST_OWNER";
/// What the child says once it does.
const READY: &str = "owner: ready";

/// The process that owns the directory; ends when dropped.
struct Owner {
    child: Child,
    /// Kept open: the test harness in the child writes to the end.
    _output: BufReader<ChildStdout>,
}

impl Owner {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "local_3_processes::owner", "--nocapture"])
            .env(DIRECTORY_VARIABLE, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let ready = output.by_ref().lines().any(|line| line.unwrap().ends_with(READY));
        assert!(ready, "the owner did not start");
        Self { child, _output: output }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The end of its input is the child's sign to close.
        drop(self.child.stdin.take());
        let ended = self.child.wait().unwrap();
        if !std::thread::panicking() {
            assert!(ended.success(), "the owner did not close cleanly: {ended}");
        }
    }
}

/// Not a test of its own: what the child runs. Without the variable there is nothing to do.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
fn owner() {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let backend = runtime.block_on(LocalBackend::open(directory, LocalOptions::default())).unwrap();
    println!("{READY}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let grace = std::time::Duration::from_secs(10);
    let report = runtime.block_on(jetbridge_core::Backend::close(&backend, grace));
    assert!(report.is_clean(), "{report:?}");
}

async fn open() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let owner = Owner::start(&path);
    let backend = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
    let peer = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
    Fixture::new(Arc::new(backend), Arc::new(peer), (owner, dir))
}

jetbridge_testkit::contract!(open);
