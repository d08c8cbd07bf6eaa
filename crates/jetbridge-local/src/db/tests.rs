use std::sync::atomic::AtomicUsize;

use super::*;

const MIGRATIONS: &[&str] = &["CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER NOT NULL)"];

fn options() -> DbOptions {
    DbOptions {
        durability: Durability::Process,
        migrations: MIGRATIONS,
        committed: Arc::new(|| {}),
    }
}

fn open(dir: &Path) -> Database {
    Database::open(dir.join("data.db"), options()).unwrap()
}

async fn insert(db: &Database, key: i64) -> Result<u64> {
    db.write("t.insert", move |tx| {
        tx.state.sequence += 1;
        tx.sql().execute("INSERT INTO t VALUES (?1, 0)", [key])?;
        Ok(tx.state.sequence)
    })
    .await
}

fn count(db: &Database) -> i64 {
    db.read("t.count", |sql| Ok(sql.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_two_openers_share_one_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16_i64 {
        let db = if writer % 2 == 0 { a.clone() } else { b.clone() };
        writers.spawn(async move {
            let mut given = Vec::new();
            for i in 0..50 {
                given.push(insert(&db, writer * 1000 + i).await.unwrap());
            }
            given
        });
    }
    let mut given: Vec<u64> = writers.join_all().await.into_iter().flatten().collect();
    given.sort_unstable();
    assert_eq!(given, (1..=800).collect::<Vec<u64>>());
    assert_eq!((count(&a), a.state("t").unwrap()), (800, b.state("t").unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_half_way_takes_nothing_of_its_group_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut jobs = tokio::task::JoinSet::new();
    for key in 0..100_i64 {
        let db = db.clone();
        jobs.spawn(async move {
            let written = db
                .write("t.pair", move |tx| {
                    tx.state.sequence += 1;
                    tx.sql().execute("INSERT INTO t VALUES (?1, 1)", [key])?;
                    if key % 10 == 0 {
                        let said = Error::new(ErrorKind::Conflict, "t.pair");
                        return Err(said.into());
                    }
                    // Every seventh violates the primary key.
                    let second = if key % 7 == 0 { key } else { key + 1000 };
                    tx.sql().execute("INSERT INTO t VALUES (?1, 2)", [second])?;
                    Ok(())
                })
                .await;
            assert_eq!(written.is_ok(), key % 10 != 0 && key % 7 != 0, "{key}");
        });
    }
    jobs.join_all().await;
    let good = (0..100).filter(|key| key % 10 != 0 && key % 7 != 0).count();
    assert_eq!(count(&db), i64::try_from(2 * good).unwrap());
    assert_eq!(db.state("t").unwrap().sequence, u64::try_from(good).unwrap());
}

#[tokio::test]
async fn a_refusal_before_any_change_keeps_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let refused: Result<()> = db
        .write("t.refuse", |tx| {
            tx.state.sequence += 1;
            Err(Error::new(ErrorKind::Conflict, "t.refuse").into())
        })
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(db.state("t").unwrap(), State::default());
}

#[tokio::test]
async fn every_handle_of_a_deleted_database_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    a.write("t.delete", |tx| {
        tx.state.deleted = true;
        Ok(tx.sql().execute_batch("ALTER TABLE t RENAME TO deleted_t")?)
    })
    .await
    .unwrap();
    let read = b.read("t.count", |sql| {
        Ok(sql.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(insert(&b, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    for name in ["data.db", "data.db-wal", "data.db-shm"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert_eq!(insert(&b, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(a.state("t").unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_group_that_changed_something_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let announced = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&announced);
    let committed = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let options = DbOptions { committed, ..options() };
    let db = Database::open(dir.path().join("data.db"), options).unwrap();
    insert(&db, 1).await.unwrap();
    db.write("t.nothing", |_tx| Ok(())).await.unwrap();
    assert_eq!(announced.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn closing_waits_for_writes_and_ends_the_handle() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Process, Durability::Full] {
        let path = dir.path().join(format!("{durability:?}.db"));
        let db = Database::open(path.clone(), DbOptions { durability, ..options() }).unwrap();
        insert(&db, 1).await.unwrap();
        assert_eq!(count(&db), 1);
        db.close().await;
        db.close().await;
        assert_eq!(insert(&db, 2).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(db.state("t").unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(!path.with_extension("db-wal").exists(), "the last one folds the log in");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.db");
    let refused = |kind: ErrorKind| {
        let error = Database::open(path.clone(), options()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.hint_text().is_some(), "{error:?}");
        std::fs::remove_file(&path).unwrap();
    };
    std::fs::write(&path, "no database, but text that is long enough to be read as a header")
        .unwrap();
    refused(ErrorKind::Corrupt);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE foreign_table (x)").unwrap();
    refused(ErrorKind::Corrupt);
    open(dir.path()).close().await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    refused(ErrorKind::Unsupported);
}

#[test]
fn a_leader_whose_runtime_stops_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime();
    let db = open(dir.path());
    // Another opener has the turn, so the lead goes to a blocking thread that waits for it.
    let other = TurnLock::open(&dir.path().join("data.db")).unwrap();
    let turn = other.acquire().unwrap();
    let task = first.spawn({
        let db = db.clone();
        async move { insert(&db, 1).await }
    });
    first.block_on(tokio::task::yield_now());
    drop(task);
    first.shutdown_background();
    drop(turn);
    runtime().block_on(insert(&db, 2)).unwrap();
}

#[tokio::test]
async fn a_panic_in_a_job_is_its_callers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let panicking = db.write("t.panic", |tx| -> JobResult<()> {
        tx.sql().execute("INSERT INTO t VALUES (1, 0)", [])?;
        panic!("as a bug would")
    });
    assert!(panicking.await.is_err());
    assert_eq!(insert(&db, 2).await.unwrap(), 1);
    assert_eq!(count(&db), 1);
}

#[tokio::test]
async fn a_leader_dropped_before_it_commits_leaves_the_others_a_leader() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut first = Box::pin(insert(&db, 1));
    let mut second = Box::pin(insert(&db, 2));
    // The first leads and lets others go first; the second queues behind it.
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    drop(first);
    second.await.unwrap();
    // The dropped one may have been taken along, or not.
    assert!((1..=2).contains(&count(&db)));
}

#[tokio::test]
async fn callers_on_one_thread_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let committed = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let options = DbOptions { committed, ..options() };
    let db = Database::open(dir.path().join("data.db"), options).unwrap();
    let writes = futures_util::future::join_all((0..64).map(|key| insert(&db, key)));
    assert!(writes.await.into_iter().all(|written| written.is_ok()));
    assert!(commits.load(Ordering::Relaxed) < 16, "{commits:?} commits for 64 writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_does_not_grow_with_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let written: usize = 64 << 20;
    let value = vec![7_u8; 64 << 10];
    for key in 0..i64::try_from(written / value.len()).unwrap() {
        let value = value.clone();
        db.write("t.insert", move |tx| {
            // The same few rows again and again: the database stays small.
            const SQL: &str = "INSERT INTO t VALUES (?1, ?2) \
                               ON CONFLICT (k) DO UPDATE SET v = excluded.v";
            tx.sql().execute(SQL, rusqlite::params![key % 4, value])?;
            Ok(())
        })
        .await
        .unwrap();
    }
    let log = std::fs::metadata(dir.path().join("data.db-wal")).unwrap().len();
    assert!(log < written as u64 / 2, "the log has {log} bytes");
}
