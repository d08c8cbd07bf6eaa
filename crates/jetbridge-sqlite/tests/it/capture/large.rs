//! Databases past the page at 1 GiB, where SQLite keeps its locks and nothing else.

mod slow {
    use std::sync::Arc;

    use jetbridge_core::Tasks;
    use jetbridge_sqlite::capture::{Capture, Options};
    use jetbridge_sqlite::restore::{self, Overwrite};
    use jetbridge_sqlite::uplink::{FenceOptions, StoreUplink};
    use jetbridge_testkit::Release;
    use rusqlite::Connection;

    use crate::capture::source::{Source, assert_intact};
    use crate::rig::Row;

    const WITHIN: std::time::Duration = std::time::Duration::from_secs(300);

    async fn past_the_lock_page(page_size: u32) {
        let (source, rig) = (Source::new(), Row::Nats(Release::Newest).open().await);
        let application = Connection::open(source.path()).unwrap();
        application
            .execute_batch(&format!(
                "PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, a BLOB);
                 INSERT INTO t (a) VALUES (zeroblob(520000000)), (zeroblob(520000000))"
            ))
            .unwrap();
        let uplink = StoreUplink::new(rig.replica(), FenceOptions::new("a"), Tasks::new());
        let capture = Capture::start(Options::new(source.path()), Arc::new(uplink)).await.unwrap();
        let sync = async || tokio::time::timeout(WITHIN, capture.sync()).await.unwrap().unwrap();
        sync().await;
        // Grows over the lock page while it is replicated, and is written to on both sides.
        application.execute_batch("INSERT INTO t (a) VALUES (zeroblob(60000000))").unwrap();
        for _ in 0..20 {
            let rows = "INSERT INTO t (a) VALUES (randomblob(30000))";
            application.execute_batch(rows).unwrap();
        }
        sync().await;
        let still = source.stilled();
        let txid = sync().await;
        let mut options = restore::Options::new(source.dir().join("restored.db"));
        options.overwrite = Overwrite::Yes;
        let done = restore::restore(&rig.replica(), &options, &|_bytes| ()).await.unwrap();
        assert_eq!(done.txid, txid);
        assert!(done.pages > done.page_size.lock_page(), "{} pages", done.pages);
        assert_intact(&options.output);
        let sums = "SELECT count(*), sum(length(a)), max(id) FROM t";
        let sums_of = |connection: &Connection| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            };
            connection.query_row(sums, [], row).unwrap()
        };
        let restored = Connection::open(&options.output).unwrap();
        assert_eq!(sums_of(&restored), sums_of(&application));
        let blobs = "SELECT a FROM t WHERE id > 3 ORDER BY id";
        let blobs_of = |connection: &Connection| {
            let mut query = connection.prepare(blobs).unwrap();
            let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<_>>()
        };
        assert!(blobs_of(&restored) == blobs_of(&application));
        drop(still);
        assert!(capture.close(WITHIN).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_pages_of_4096() {
        past_the_lock_page(4096).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_pages_of_65536() {
        past_the_lock_page(65536).await;
    }
}
