//! `sqlite`: replicas on every store, restored and listed as Litestream's users know it.

mod control;
mod follow;
mod page;

use jetbridge::core::{BucketName, BucketSpec, Open, Tasks};
use jetbridge::sqlite::capture::{Delta, Page, Pages, Progress, Scope, Uplink as _};
use jetbridge::sqlite::store::Replica;
use jetbridge::sqlite::uplink::{FenceOptions, StoreUplink};
use jetbridge::sqlite::{PageSize, Txid};

use jetbridge_testkit::{Release, eventually};
use rustix::process::Signal;

use crate::binary::{Store, finish};

const PATH: &str = "apps/one";

on_every_store!(a_replica_is_restored_and_listed, a_database_is_replicated_until_told_to_stop,);

/// Three pages, then the second one changed.
async fn replica_on(store: &Store) -> Vec<u8> {
    let backend = jetbridge::connect(store.url()).await.unwrap();
    let bucket = BucketName::parse("backups").unwrap();
    let objects = backend.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
    let tasks = Tasks::new();
    let uplink =
        StoreUplink::new(Replica::new(objects, PATH), FenceOptions::new("test"), tasks.clone());
    let page = |pgno, byte| Page { pgno, data: vec![byte; 512].into() };
    let delta = |txid, scope, pages: Vec<Page>| Delta {
        txid: Txid(txid),
        page_size: PageSize::new(512).unwrap(),
        commit: 3,
        time: std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
        wal: None,
        scope,
        pages: Pages::Held(pages.into()),
        progress: Progress::default(),
    };
    let all = vec![page(1, 1), page(2, 2), page(3, 3)];
    uplink.ship(delta(1, Scope::Base, all)).await.unwrap();
    uplink.ship(delta(3, Scope::Change, vec![page(2, 9)])).await.unwrap();
    uplink.close().await.unwrap();
    tasks.stop(std::time::Duration::from_secs(5)).await;
    backend.close(std::time::Duration::from_secs(5)).await;
    [[1; 512], [9; 512], [3; 512]].concat()
}

async fn a_replica_is_restored_and_listed(store: Store) {
    let error = store.fails(2, "sqlite ltx --bucket backups").await;
    assert!(error.contains("Bucket not found"), "{error}");
    let expected = replica_on(&store).await;
    let said = store.does("sqlite restore --bucket backups --path apps/one -o out.db").await;
    assert!(said.contains("to transaction 0000000000000003: 1.5 KiB"), "{said}");
    assert_eq!(std::fs::read(store.path("out.db")).unwrap(), expected);

    let again = "sqlite restore --bucket backups --path apps/one -o out.db";
    let error = store.fails(4, again).await;
    assert!(error.contains("output path already exists and is not empty"), "{error}");
    assert!(error.contains("hint: Use -force to overwrite"), "{error}");
    store.does(&format!("{again} -force -txid 0000000000000003 --integrity-check none")).await;
    assert_eq!(store.does(&format!("{again} -if-db-not-exists")).await, "");
    let error = store.fails(2, &format!("{again} -force -txid 0000000000000009")).await;
    assert!(error.contains("no matching backup files available"), "{error}");

    let list = store.does("sqlite ltx --bucket backups --path apps/one -level all -json").await;
    let ends: Vec<&str> = list.split("\"max_txid\":\"").skip(1).map(|it| &it[..16]).collect();
    assert!(list.starts_with("[{\"level\":0,"), "{list}");
    assert_eq!(ends, ["0000000000000002", "0000000000000003", "0000000000000001"]);
    assert!(list.contains("\"timestamp\":\"2027-01-15T08:00:00Z\""), "{list}");
    let plan = store.does(&format!("{again} -force -dry-run -json")).await;
    assert!(plan.contains("\"files\":[{\"level\":3,\"name\":\"0000000000000001-"), "{plan}");
    let nothing = "sqlite restore --bucket backups -o none.db";
    assert_eq!(store.does(&format!("{nothing} -if-replica-exists")).await, "");
    store.fails(2, nothing).await;
}

#[tokio::test]
async fn databases_and_replicas_are_found_in_litestreams_file() {
    let store = Store::local();
    let yaml = "dbs:\n  - path: /data/app.db\n    replica: {type: nats, url: 'nats://127.0.0.1:1', \
                bucket: b}\n";
    std::fs::write(store.path("litestream.yml"), yaml).unwrap();
    let list = store.does("sqlite databases -config litestream.yml -json").await;
    assert_eq!(list, "[{\"path\":\"/data/app.db\",\"replica\":\"nats\"}]\n");
    let error = store.fails(3, "sqlite ltx -config litestream.yml /data/app.db").await;
    assert!(error.contains("Connection refused"), "{error}");
    let error = store.fails(2, "sqlite ltx -config litestream.yml /data/other.db").await;
    assert!(error.contains("database not found in config"), "{error}");
    let error = store.fails(2, "sqlite restore s3://bucket/db -o x").await;
    assert!(error.contains("`s3`"), "{error}");
}

/// What an application in another process prints.
fn application(path: &str, script: &str) -> String {
    let begin = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n";
    let script = format!("{begin}{script}");
    let done = std::process::Command::new("python3").args(["-c", &script, path]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

const CREATE: &str = "c.execute('PRAGMA journal_mode = WAL')\n\
                      c.execute('CREATE TABLE t (a)')\n\
                      c.execute(\"INSERT INTO t VALUES ('first')\")\nc.commit()";
const INSERT: &str = "c.execute(\"INSERT INTO t VALUES (2)\")\nc.commit()";
const COUNT: &str = "print(c.execute('SELECT count(*) FROM t').fetchone()[0])";

async fn a_database_is_replicated_until_told_to_stop(store: Store) {
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let said = store.does("sqlite replicate -once app.db --bucket backups --path p").await;
    assert!(said.contains("app.db: shipped up to 0000000000000002"), "{said}");
    let restore = "sqlite restore --bucket backups --path p -o out.db -force -integrity-check full";
    store.does(restore).await;
    assert_eq!(application(&store.path("out.db"), COUNT), "1");
    let words = ["sqlite", "replicate", "app.db", "--bucket", "backups", "--path", "p"];
    let running = store.start(&words);
    application(&store.path("app.db"), INSERT);
    eventually("the row is restored", std::time::Duration::from_secs(30), async || {
        store.does(restore).await;
        (application(&store.path("out.db"), COUNT) == "2").then_some(())
    })
    .await;
    application(&store.path("app.db"), INSERT);
    running.signal(Signal::TERM);
    let (_lines, code) = running.end().await;
    assert_eq!(code, 0);
    store.does(restore).await;
    assert_eq!(application(&store.path("out.db"), COUNT), "3", "what came last is shipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_litestreams_name_its_words_are_taken() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let url = format!("{}/backups", store.url());
    let litestream = async |words: &[&str]| finish(store.linked("litestream", words), b"").await;
    let said = litestream(&["replicate", "-once", "app.db", &url]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let said = litestream(&["restore", "-o", "out.db", &url]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(application(&store.path("out.db"), COUNT), "1");
    let said = litestream(&["restore", "-o", "out.db", &url]).await;
    assert_eq!(said.code, 1, "{}", said.err);
    let exec = "python3 -c \"import time; time.sleep(0.5)\"";
    let said = litestream(&["replicate", "-exec", exec, "app.db", &url]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let said = litestream(&["replicate", "-exec", "false", "app.db", &url]).await;
    assert_eq!(said.code, 1, "{}", said.err);
}
