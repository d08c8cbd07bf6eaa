//! What `check --permissions` prints is enough for everything that runs, and for nothing else.

use std::sync::Arc;

use jetbridge::nats::{Auth, ConnectOptions};
use jetbridge::settings::{Environment, Location};
use jetbridge_agent::{Agent, UpFile};
use jetbridge_core::{AppendOpts, Backend, ErrorKind, Message, StreamName, Subject};
use jetbridge_core::{ReadStream, Secret};
use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};

use crate::rig::WITHIN;

const FILE: &str = "
buckets: {config: {history: 3}, files: {kind: object}}
handlers:
  - {subject: 'jobs.*', stream: JOBS, durable: worker, attempts: 1,
     run: [sh, -c, 'grep -q good && echo x >> done']}
  - {subject: ping, queue: answerers, run: [echo, pong]}
";

async fn connect(server: &NatsServer, user: &str) -> Arc<dyn Backend> {
    let mut options = ConnectOptions::default();
    options.servers = vec![server.url()];
    options.auth =
        Auth::UserPassword { user: user.to_owned(), password: Secret::new("pw".to_owned()) };
    jetbridge::connect(Location::Nats(Box::new(options))).await.unwrap()
}

async fn the_least_is_enough(release: Release) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    std::fs::write(&path, FILE).unwrap();
    let environment = Environment::default();
    let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
    let block = file.permissions(&ConnectOptions::default()).unwrap();
    let users = format!(
        "authorization {{ users: [ {{user: admin, password: pw}}, {{user: up, password: pw, {block}}} ] }}"
    );
    let server = NatsServer::start(release, ServerOptions::new().config(&users)).await;
    let (admin, up) = (connect(&server, "admin").await, connect(&server, "up").await);
    let agent = Agent::start(file, vec![path], environment, Arc::clone(&up)).await.unwrap();

    let bus = admin.bus();
    let message =
        |subject: &str, text: &str| Message::new(Subject::parse(subject).unwrap(), text.to_owned());
    eventually("the stream is made", WITHIN, async || {
        bus.append(message("jobs.a", "good"), AppendOpts::new()).await.ok()
    })
    .await;
    bus.append(message("jobs.b", "bad"), AppendOpts::new()).await.unwrap();
    eventually("the good job is done", WITHIN, async || {
        folder.path().join("done").exists().then_some(())
    })
    .await;
    let answer = eventually("an answer", WITHIN, async || {
        bus.request(message("ping", ""), WITHIN).await.ok()
    })
    .await;
    assert_eq!(answer.payload, "pong\n");
    let dead = StreamName::parse("JETBRIDGE_DEAD_LETTERS").unwrap();
    eventually("the bad job is a dead letter", WITHIN, async || {
        (bus.stream(&dead).await.ok()?.messages == 1).then_some(())
    })
    .await;
    let others = up.bus().append(message("other", ""), AppendOpts::new()).await.unwrap_err();
    assert_eq!(others.kind(), ErrorKind::PermissionDenied, "{others:?}");
    let mut read = up.bus().read_stream(&dead, ReadStream::all());
    let denied = futures_util::StreamExt::next(&mut read).await.unwrap().unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    drop(read);
    assert!(agent.stop().await.is_clean());
    admin.close(WITHIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_2_9_25() {
    the_least_is_enough(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_2_15_2() {
    the_least_is_enough(Release::Newest).await;
}

mod databases {
    use std::path::Path;

    use jetbridge::sqlite::TxidRange;
    use jetbridge::sqlite::follow::Follow;
    use jetbridge::sqlite::restore::Options;
    use jetbridge::sqlite::store::{Level, Replica};
    use jetbridge_core::{BucketName, BucketSpec, Open};

    use super::*;
    use crate::databases::{CREATE, application};

    /// What the server logged of users who published or subscribed to what is denied, but for the
    /// question how much the account may have, which is asked without need.
    fn denied(server: &NatsServer) -> Vec<String> {
        let log = server.log();
        let denied = log.lines().filter(|line| line.contains(" Violation"));
        denied.filter(|line| !line.contains("\"$JS.API.INFO\"")).map(str::to_owned).collect()
    }

    fn database(folder: &Path) -> String {
        let path = folder.join("app.db");
        application(&path, CREATE);
        // Merges, snapshots and deletes at once.
        format!(
            "l0-retention: 1s\nl0-retention-check-interval: 200ms\nlevels: [{{interval: 300ms}}]\n\
             snapshot: {{interval: 1s, retention: 1s}}\n\
             dbs:\n  - path: {}\n    replica: {{bucket: backups, path: a}}\n",
            path.display()
        )
    }

    /// Replicates, merges, deletes, restores and follows as a user who may do nothing else.
    async fn the_least_replicates(release: Release) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("up.yml");
        std::fs::write(&path, database(folder.path())).unwrap();
        let environment = Environment::default();
        let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
        let block = file.permissions(&ConnectOptions::default()).unwrap();
        let users = format!(
            "authorization {{ users: [ {{user: admin, password: pw}}, \
             {{user: up, password: pw, {block}}} ] }}"
        );
        let server = NatsServer::start(release, ServerOptions::new().config(&users)).await;
        let (admin, up) = (connect(&server, "admin").await, connect(&server, "up").await);
        let bucket = BucketName::parse("backups").unwrap();
        admin.objects(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
        let agent = Agent::start(file, vec![path], environment, Arc::clone(&up)).await.unwrap();

        let objects = up.objects(&bucket, Open::existing()).await.unwrap();
        let replica = Replica::new(objects, "a");
        eventually("it is shipped", WITHIN, async || {
            let manifest = replica.manifest().await.ok()?;
            (!manifest.is_empty()).then_some(())
        })
        .await;
        let options = Options::new(folder.path().join("read.db"));
        let (mut follow, _begun) =
            Follow::begin(replica.clone(), &options, &|_bytes| ()).await.unwrap();
        let captured = async || {
            let manifest = replica.manifest().await.ok()?;
            let files = manifest.level(Level::CAPTURED).map(|file| file.range);
            Some(files.collect::<Vec<TxidRange>>())
        };
        let first = eventually("names of files", WITHIN, captured).await;
        let insert = "for n in range(5): c.execute('INSERT INTO t VALUES (2)'); c.commit()";
        application(&folder.path().join("app.db"), insert);
        tokio::time::timeout(WITHIN, follow.next()).await.unwrap().unwrap();
        eventually("levels are merged and the first files deleted", WITHIN, async || {
            let merged = replica.manifest().await.ok()?.last_of(Level::new(1)?).is_some();
            let left = captured().await?;
            (merged && first.iter().all(|file| !left.contains(file))).then_some(())
        })
        .await;
        assert_eq!(denied(&server), Vec::<String>::new());

        // It would say so.
        let message = Message::new(Subject::parse("other").unwrap(), "");
        up.bus().append(message, AppendOpts::new()).await.unwrap_err();
        let said = async || (denied(&server).len() == 1).then_some(());
        eventually("what is denied is in the log", WITHIN, said).await;
        assert!(agent.stop().await.is_clean());
        admin.close(WITHIN).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_nats_2_9_25() {
        the_least_replicates(Release::Oldest).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_nats_2_15_2() {
        the_least_replicates(Release::Newest).await;
    }
}
