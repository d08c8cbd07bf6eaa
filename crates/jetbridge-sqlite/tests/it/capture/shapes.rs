//! Databases of every shape, and what changes it.

use super::source::{Source, closed};

async fn changes_shape(page_size: u32, auto_vacuum: &str) {
    let source = Source::new();
    let mut app = source.app();
    app.run(&format!("PRAGMA page_size = {page_size}"));
    app.run(&format!("PRAGMA auto_vacuum = {auto_vacuum}"));
    app.run("PRAGMA journal_mode = WAL");
    app.write(10);
    let capture = source.capture().await;
    source.check(&capture).await;
    let fill = "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400) \
                INSERT INTO big (pad) SELECT hex(randomblob(200 + i % 7 * 300)) FROM c";
    for step in [
        "CREATE TABLE big (id INTEGER PRIMARY KEY, pad TEXT)",
        fill,
        "CREATE INDEX big_pad ON big (pad)",
        "DELETE FROM big WHERE id % 3 = 0",
        "PRAGMA incremental_vacuum(5)",
        "VACUUM",
        fill,
        "DELETE FROM big WHERE id > 100",
        "PRAGMA incremental_vacuum",
        // Shrinks and grows again within one look.
        "BEGIN; DROP INDEX big_pad; DROP TABLE big; COMMIT; VACUUM; \
         CREATE TABLE big (id INTEGER PRIMARY KEY, pad TEXT); \
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400) \
         INSERT INTO big (pad) SELECT hex(zeroblob(900)) FROM c; \
         DELETE FROM big WHERE id % 2",
        "DROP TABLE big",
        "VACUUM",
    ] {
        app.run(step);
        source.check(&capture).await;
    }
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
    app.write(30);
    app.run("VACUUM");
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let capture = source.capture().await;
    source.check(&capture).await;
    assert_eq!(source.folder.counts().1, 1, "one base");
    closed(capture).await;
}

macro_rules! shapes {
    ($($name:ident: $page_size:literal, $auto_vacuum:literal;)+) => {
        $(#[tokio::test]
        async fn $name() {
            changes_shape($page_size, $auto_vacuum).await;
        })+
    };
}

shapes! {
    pages_of_512: 512, "NONE";
    pages_of_1024: 1024, "FULL";
    pages_of_2048: 2048, "INCREMENTAL";
    pages_of_4096: 4096, "NONE";
    pages_of_4096_vacuumed: 4096, "FULL";
    pages_of_8192: 8192, "INCREMENTAL";
    pages_of_16384: 16384, "FULL";
    pages_of_32768: 32768, "NONE";
    pages_of_65536: 65536, "INCREMENTAL";
}
