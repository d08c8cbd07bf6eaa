//! `dbs:`: databases are replicated while `up` runs.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use jetbridge::sqlite::restore::{Integrity, Options, Overwrite, restore};
use jetbridge::sqlite::store::Replica;
use jetbridge_core::{Backend, BucketName, Open};
use jetbridge_testkit::eventually;

use crate::rig::{Rig, WITHIN};

/// What an application in another process prints.
pub(crate) fn application(path: &Path, script: &str) -> String {
    let begin = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n";
    let done = Command::new("python3").args(["-c", &format!("{begin}{script}")]).arg(path).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

pub(crate) const CREATE: &str = "c.execute('PRAGMA journal_mode = WAL')\n\
                      c.execute('CREATE TABLE t (a)')\n\
                      c.execute(\"INSERT INTO t VALUES ('first')\")\nc.commit()";
const COUNT: &str = "print(c.execute('SELECT count(*) FROM t').fetchone()[0])";

async fn restored_rows(backend: &Arc<dyn Backend>, path: &str, output: &Path) -> Option<String> {
    let bucket = BucketName::parse("backups").unwrap();
    let objects = backend.objects(&bucket, Open::existing()).await.ok()?;
    let mut options = Options::new(output);
    options.overwrite = Overwrite::Yes;
    options.integrity = Integrity::Full;
    restore(&Replica::new(objects, path), &options, &|_bytes| ()).await.ok()?;
    Some(application(output, COUNT))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_a_directory_are_replicated_as_they_come() {
    let apps = tempfile::tempdir().unwrap();
    application(&apps.path().join("one.db"), CREATE);
    let text = format!(
        "buckets: {{backups: {{kind: object}}}}\ndbs:\n  - dir: {}\n    pattern: '*.db'\n    \
         watch: true\n    replica: {{bucket: backups, path: apps}}\n",
        apps.path().display()
    );
    let rig = Rig::start(&text).await;
    let output = rig.path("out.db");
    let rows = async |name: &str, wanted: &str| {
        let place = format!("apps/{name}");
        eventually(name, WITHIN, async || {
            let rows = restored_rows(&rig.backend, &place, &output).await;
            rows.filter(|rows| rows == wanted)
        })
        .await;
    };
    rows("one.db", "1").await;
    application(&apps.path().join("one.db"), "c.execute(\"INSERT INTO t VALUES (2)\")\nc.commit()");
    rows("one.db", "2").await;
    application(&apps.path().join("two.db"), CREATE);
    rows("two.db", "1").await;
    application(&apps.path().join("two.db"), "c.execute(\"INSERT INTO t VALUES (2)\")\nc.commit()");
    rows("two.db", "2").await;
    let (report, _folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
}
