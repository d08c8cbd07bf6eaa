//! Servers that stand still, in the middle of what is sent and of what is read, or that are not
//! there yet.

use std::sync::Arc;
use std::time::Duration;

use jetbridge_sqlite::restore::{Options, restore};
use jetbridge_sqlite::upkeep::UpkeepOptions;
use jetbridge_sqlite::{Replication, capture};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use tokio::time::timeout;

use super::interop::{application, insert, rows};
use super::rig::{Rig, connect};

/// How long a start, or what comes behind an outage, may take.
const WITHIN: Duration = Duration::from_secs(90);

async fn served() -> (Arc<NatsServer>, Rig) {
    let server = Arc::new(NatsServer::start(Release::Newest, ServerOptions::default()).await);
    let backend = Arc::new(connect(&server.url()).await);
    let rig = Rig::over(backend, Box::new(Arc::clone(&server))).await;
    (server, rig)
}

async fn replicate(rig: &Rig, name: &str) -> Replication {
    let options = capture::Options::new(rig.dir.path().join(name));
    Replication::start(options, rig.replica(), UpkeepOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_while_the_server_is_down_waits_for_it() {
    let (server, rig) = served().await;
    let database = rig.dir.path().join("app.db");
    let application = application(&database);
    insert(&application, 100);
    server.kill();
    let replication = replicate(&rig, "app.db").await;
    let mut status = replication.status();
    let failing = timeout(WITHIN, status.wait_for(|it| it.error.is_some())).await;
    assert!(!failing.unwrap().unwrap().caught_up);
    server.restart().await;
    timeout(WITHIN, replication.sync()).await.unwrap().unwrap();
    let output = rig.dir.path().join("out.db");
    restore(&rig.replica(), &Options::new(&output), &|_bytes| ()).await.unwrap();
    assert_eq!(rows(&output), rows(&database));
    assert!(replication.close(WITHIN).await);
}

mod slow {
    use super::*;

    const FROZEN: Duration = Duration::from_secs(30);
    /// Rows of 400 bytes: some 60 MB, which take a while to send and to read.
    const ROWS: u32 = 120_000;

    async fn freeze(server: &NatsServer) {
        server.pause().await;
        tokio::time::sleep(FROZEN).await;
        server.resume();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_frozen_in_mid_put_and_in_mid_get_is_outlived() {
        let (server, rig) = served().await;
        let database = rig.dir.path().join("app.db");
        let application = application(&database);
        insert(&application, ROWS);
        let replication = replicate(&rig, "app.db").await;
        let parts = async || {
            let manifest = rig.replica().manifest().await.unwrap();
            manifest.files().count()
        };
        // The base is on its way, and not there.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = parts().await;
        freeze(&server).await;
        timeout(WITHIN, replication.sync()).await.unwrap().unwrap();
        assert!(parts().await > before, "it was all there before the server froze");

        let output = rig.dir.path().join("out.db");
        let options = Options::new(&output);
        let replica = rig.replica();
        let bytes = std::sync::atomic::AtomicU64::new(0);
        let count = |more: u64| {
            bytes.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
        };
        let frozen = async {
            while bytes.load(std::sync::atomic::Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            freeze(&server).await;
        };
        let restoring = timeout(FROZEN + WITHIN, restore(&replica, &options, &count));
        let (restored, ()) = tokio::join!(restoring, frozen);
        restored.unwrap().unwrap();
        assert_eq!(rows(&output), rows(&database));
        assert!(replication.close(WITHIN).await);
    }
}
