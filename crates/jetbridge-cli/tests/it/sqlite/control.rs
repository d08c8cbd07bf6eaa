//! A running replicator, told what to do over its socket, as Litestream's users do.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jetbridge_testkit::{Release, eventually};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::{COUNT, CREATE, INSERT, application};
use crate::binary::{Running, Store, finish};

const WITHIN: Duration = Duration::from_secs(30);

/// A table with a row that its index does not have.
const BROKEN_INDEX: &str = "
c.execute('PRAGMA journal_mode = WAL')
c.execute('CREATE TABLE t (a)')
c.execute('CREATE INDEX i ON t (a)')
c.commit()
c.execute('PRAGMA writable_schema = 1')
row = c.execute(\"SELECT * FROM sqlite_master WHERE name = 'i'\").fetchone()
c.execute(\"DELETE FROM sqlite_master WHERE name = 'i'\")
c.commit()
c.close()
c = sqlite3.connect(sys.argv[1])
c.execute('INSERT INTO t VALUES (1)')
c.execute('PRAGMA writable_schema = 1')
c.execute('INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)', row)
c.commit()";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn file(store: &Store) -> String {
    format!(
        "socket: {{enabled: true, path: {}}}\nvalidation: {{interval: 200ms}}\ndbs:\n  \
         - path: {}\n    replica: {{type: nats, url: '{}', bucket: backups, path: a}}\n",
        store.path("ctl.sock"),
        store.path("app.db"),
        store.url()
    )
}

/// A replicator that has begun.
async fn running(store: &Store) -> Running {
    running_on(store, &file(store)).await
}

async fn running_on(store: &Store, text: &str) -> Running {
    std::fs::write(store.path("litestream.yml"), text).unwrap();
    let running = store.start(&["sqlite", "replicate", "-config", "litestream.yml"]);
    eventually("the socket answers", WITHIN, async || {
        let said = store.run(&["sqlite", "list", "-socket", "ctl.sock", "-json"]).await;
        (said.code == 0 && said.text().contains("replicating")).then_some(())
    })
    .await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicator_is_told_over_its_socket() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let replicator = running(&store).await;
    let mode = std::fs::metadata(store.path("ctl.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let told = async |line: &str| {
        json(&store.does(&format!("sqlite {line} -socket ctl.sock -json")).await)
    };
    let info = told("info").await;
    assert_eq!(info["database_count"], 1);
    for field in ["version", "pid", "uptime_seconds", "started_at"] {
        assert!(!info[field].is_null(), "{field} in {info}");
    }
    let list = told("list").await;
    assert_eq!(list["databases"][0]["path"], store.path("app.db"));
    assert_eq!(list["databases"][0]["status"], "replicating");

    application(&store.path("app.db"), INSERT);
    let synced = told("sync app.db -wait -timeout 20").await;
    assert_eq!(synced["txid"], synced["replica_txid"], "{synced}");
    let expected = ["db_path", "duration_ms", "replica_txid", "txid"];
    assert_eq!(synced.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    store.does(&format!("sqlite restore -o out.db {}/backups/a", store.url())).await;
    assert_eq!(application(&store.path("out.db"), COUNT), "2");

    assert_eq!(told("start app.db").await["status"], "already_running");
    let stopped = told("stop app.db").await;
    assert_eq!((&stopped["status"], &stopped["state"]), (&"stopped".into(), &"stopped".into()));
    assert_eq!(told("stop app.db").await["status"], "already_stopped");
    assert_eq!(told("list").await["databases"][0]["status"], "stopped");
    let error = store.fails(4, "sqlite sync app.db -wait -socket ctl.sock").await;
    assert!(error.contains("not replicated now"), "{error}");
    application(&store.path("app.db"), INSERT);
    assert_eq!(told("start app.db").await["status"], "started");
    told("sync app.db -wait").await;
    let error = store.fails(2, "sqlite sync none.db -socket ctl.sock").await;
    assert!(error.contains("database not found"), "{error}");

    application(&store.path("other.db"), CREATE);
    let url = format!("{}/backups/other", store.url());
    let register = format!("register other.db -replica {url}");
    assert_eq!(told(&register).await["status"], "registered");
    assert_eq!(told(&register).await["status"], "already_registered");
    told("sync other.db -wait").await;
    assert_eq!(told("unregister other.db -dry-run").await["dry_run"], true);
    let gone = told("unregister other.db").await;
    assert_eq!((&gone["status"], &gone["final_txid"]), (&"unregistered".into(), &2.into()));
    assert_eq!(told("unregister other.db").await["status"], "already_unregistered");
    store.does(&format!("sqlite restore -o other-out.db {url}")).await;

    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
    let error = store.fails(3, "sqlite info -socket ctl.sock").await;
    assert!(error.contains("failed to connect to control socket"), "{error}");
}

/// As the guide writes it: relative to where the replicator runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_relative_path_is_found_by_any_spelling() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let relative = file(&store).replace(&store.path("app.db"), "app.db");
    let replicator = running_on(&store, &relative).await;
    let whole = store.path("app.db");
    for path in ["app.db", "./app.db", &whole] {
        let synced = store.does(&format!("sqlite sync {path} -wait -socket ctl.sock -json")).await;
        assert_eq!(json(&synced)["db_path"], whole);
        let status = format!("sqlite status -config litestream.yml {path} -json");
        let rows = json(&store.does(&status).await);
        assert_eq!((rows.as_array().unwrap().len(), &rows[0]["status"]), (1, &"ok".into()));
    }
    let register = format!("sqlite register app.db -replica {}/backups/b", store.url());
    let told = json(&store.does(&format!("{register} -socket ctl.sock -json")).await);
    assert_eq!(told["status"], "already_registered");
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_reads_the_file_that_was_named_whatever_a_replicator_says() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let replicator = running(&store).await;
    store.does("sqlite status -socket ctl.sock").await;
    std::fs::write(store.path("broken.yml"), "dbs: [").unwrap();
    for named in ["broken.yml", "missing.yml"] {
        let line = format!("sqlite status -config {named} -socket ctl.sock");
        let error = store.fails(2, &line).await;
        assert!(error.contains(named), "{error}");
    }
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_does_not_ship_everything_fails() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let replicator = running(&store).await;
    store.does("sqlite sync app.db -wait -socket ctl.sock").await;
    store.server().kill();
    application(&store.path("app.db"), INSERT);
    let stop = ["sqlite", "stop", "app.db", "-timeout", "2", "-socket", "ctl.sock"];
    let said = finish(store.command(&stop), b"").await;
    assert!(said.code != 0 && format!("{said:?}").contains("not shipped in time"), "{said:?}");

    // What was stopped that way can be gone on with.
    store.server().restart().await;
    store.does("sqlite start app.db -socket ctl.sock").await;
    store.does("sqlite sync app.db -wait -socket ctl.sock").await;
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
}

/// Asks for something, and goes away as soon as the replicator says `state` of the database.
async fn asked_and_cut_off(store: &Store, (route, timeout): (&str, u64), state: &str) {
    let body = format!("{{\"path\": {:?}, \"timeout\": {timeout}}}", store.path("app.db"));
    let mut asking = UnixStream::connect(store.path("ctl.sock")).await.unwrap();
    let head = format!(
        "POST {route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    asking.write_all(head.as_bytes()).await.unwrap();
    eventually("it is begun with", WITHIN, async || is(store, state).await).await;
    let mut answer = [0];
    assert!(asking.try_read(&mut answer).is_err(), "it was answered at once");
}

/// Something if the replicator says `state` of its database.
async fn is(store: &Store, state: &str) -> Option<()> {
    let list = json(&store.does("sqlite list -socket ctl.sock -json").await);
    (list["databases"][0]["status"] == state).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_cut_off_are_worked_to_the_end() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let mut text = file(&store);
    text.push_str("    restore-if-db-not-exists: true\n");
    let replicator = running_on(&store, &text).await;
    store.does("sqlite sync app.db -wait -socket ctl.sock").await;
    store.server().kill();
    application(&store.path("app.db"), INSERT);
    asked_and_cut_off(&store, ("/stop", 8), "stopped").await;
    // The one that was stopped may still hold the database: it is waited for.
    store.does("sqlite start app.db -socket ctl.sock").await;
    is(&store, "replicating").await.unwrap();
    store.server().restart().await;
    store.does("sqlite sync app.db -wait -socket ctl.sock").await;

    // To begin, it must ask a server that is not there.
    store.does("sqlite stop app.db -socket ctl.sock").await;
    store.server().kill();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(store.path(&format!("app.db{suffix}"))).unwrap_or_default();
    }
    asked_and_cut_off(&store, ("/start", 30), "open").await;
    store.server().restart().await;
    eventually("it begins", WITHIN, async || is(&store, "replicating").await).await;
    store.does("sqlite sync app.db -wait -socket ctl.sock").await;
    assert_eq!(application(&store.path("app.db"), COUNT), "2");
    application(&store.path("app.db"), INSERT);
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
    store.does(&format!("sqlite restore -o out.db {}/backups/a", store.url())).await;
    assert_eq!(application(&store.path("out.db"), COUNT), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_how_databases_do() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    std::fs::write(store.path("litestream.yml"), file(&store)).unwrap();
    let status = "sqlite status -config litestream.yml -json";
    let row = json(&store.does(status).await)[0].clone();
    assert_eq!((&row["status"], &row["local_txid"]), (&"no database".into(), &"-".into()));
    application(&store.path("app.db"), CREATE);
    let row = json(&store.does(status).await)[0].clone();
    assert_eq!(row["status"], "not initialized");

    let replicator = running(&store).await;
    let row = eventually("a restore was verified", WITHIN, async || {
        let row = json(&store.does(status).await)[0].clone();
        let verified = &row["replication"]["last_verified_restore"];
        verified["txid"].is_string().then_some(row)
    })
    .await;
    assert_eq!((&row["status"], &row["local_txid"]), (&"ok".into(), &"0000000000000002".into()));
    let replication = &row["replication"];
    assert_eq!((&replication["caught_up"], &replication["lag_s"]), (&true.into(), &0.0.into()));
    assert!(replication["restorable"]["oldest_unix_s"].is_number(), "{replication}");
    let text = store.does("sqlite status -config litestream.yml").await;
    assert!(text.contains("restorable") && text.contains("0.0s"), "{text}");
    let error = store.fails(4, "sqlite reset app.db").await;
    assert!(error.contains("another process captures this database"), "{error}");

    // An outage is said while it lasts, and how long ago it was afterwards.
    store.server().kill();
    application(&store.path("app.db"), INSERT);
    eventually("the lag grows", WITHIN, async || {
        let row = json(&store.does(status).await)[0]["replication"].clone();
        let late = row["lag_s"].as_f64().unwrap() > 1.0;
        (late && row["error"].is_string()).then_some(())
    })
    .await;
    store.server().restart().await;
    let row = eventually("it goes on", WITHIN, async || {
        let row = json(&store.does(status).await)[0]["replication"].clone();
        (row["caught_up"] == true && row["txid"] == "0000000000000003").then_some(row)
    })
    .await;
    assert!(row["error"].is_null() && row["last_error"]["age_s"].is_number(), "{row}");

    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
    let row = json(&store.does(status).await)[0].clone();
    assert_eq!((&row["status"], &row["local_txid"]), (&"ok".into(), &"0000000000000003".into()));
    let reset = json(&store.does("sqlite reset app.db -dry-run -json").await);
    assert_eq!((&reset["removed"], &reset["exists"]), (&false.into(), &true.into()));
    store.does("sqlite reset app.db").await;
    let row = json(&store.does(status).await)[0].clone();
    assert_eq!(row["status"], "not initialized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_proven_and_one_that_is_broken_is_told() {
    let store = Store::local();
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    store.does("sqlite replicate -once app.db --bucket backups --path p").await;
    std::fs::create_dir(store.path("room")).unwrap();
    let left = || std::fs::read_dir(store.path("room")).unwrap().count();
    let said = store.does("sqlite verify --bucket backups --path p -dir room").await;
    assert_eq!(left(), 0);
    assert!(said.contains("can be restored to transaction 0000000000000002"), "{said}");
    let list = store.does("object ls backups").await;
    let newest = list.split_whitespace().find(|word| word.contains("/0/")).unwrap();
    store.does(&format!("object del backups {newest}")).await;
    store.fails(2, "sqlite verify --bucket backups --path p -txid 0000000000000002").await;

    // Every byte as it was captured, and SQLite finds it wrong.
    application(&store.path("broken.db"), BROKEN_INDEX);
    store.does("sqlite replicate -once broken.db --bucket backups --path q").await;
    store.does("sqlite restore --bucket backups --path q -o out.db").await;
    let error = store.fails(4, "sqlite verify --bucket backups --path q -dir room").await;
    assert!(error.contains("integrity check failed"), "{error}");
    assert_eq!(left(), 0);
}

#[tokio::test]
async fn a_store_is_no_url_of_a_replica() {
    let store = Store::local();
    for line in ["sqlite replicate app.db local:data", "sqlite restore local:data -o x.db"] {
        let error = store.fails(2, line).await;
        assert!(error.contains("write `--store local:data --bucket BUCKET"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_refuses_what_is_too_large_or_no_request() {
    let store = Store::nats(Release::Newest).await;
    store.does("object add backups").await;
    application(&store.path("app.db"), CREATE);
    let replicator = running(&store).await;
    let ask = |body: &str| {
        let head = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                    b=sys.argv[2].encode()\n\
                    s.sendall(b'POST /sync HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\
                    Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n'%len(b)+b)\n\
                    print(b''.join(iter(lambda:s.recv(4096),b'')).decode())";
        let mut python = std::process::Command::new("python3");
        python.args(["-c", head, &store.path("ctl.sock"), body]);
        String::from_utf8(python.output().unwrap().stdout).unwrap()
    };
    let path = |letters: usize| format!("{{\"path\": \"{}\"}}", "x".repeat(letters));
    let refused = ask(&path(70_000));
    assert!(refused.contains("length limit exceeded"), "{refused}");
    // What is as long as may be is looked for.
    let read = ask(&path(60_000));
    assert!(read.contains("404 Not Found"), "{read}");
    assert!(ask("{}").contains("path required"));
    assert!(ask("nothing").contains("400 Bad Request"));
    let said = finish(store.command(&["sqlite", "info", "-socket", "ctl.sock"]), b"").await;
    assert_eq!(said.code, 0, "{said:?}");
    replicator.signal(Signal::TERM);
    assert_eq!(replicator.end().await.1, 0);
}
