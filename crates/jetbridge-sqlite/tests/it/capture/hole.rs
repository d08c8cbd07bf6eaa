//! The log is moved into the file, restarted and overwritten while nobody holds it: what was
//! written to it before is seen by nobody who trusts the log that is found.

use super::source::{Source, closed};

#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    Fewer,
    Same,
    More,
}

async fn missed(mode: &str, after: After, app_closes: bool) {
    let source = Source::new();
    let mut app = source.app();
    app.run("PRAGMA journal_mode = WAL");
    app.run("PRAGMA wal_autocheckpoint = 0");
    app.run("CREATE TABLE h (id INTEGER PRIMARY KEY, v INTEGER, pad TEXT)");
    app.run("INSERT INTO h SELECT value, 0, hex(zeroblob(400)) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')");
    let mut options = super::source::options(source.dir());
    // The capture leaves the log as it is.
    options.checkpoint_pages = u32::MAX;
    let capture = source.capture_as(options.clone()).await;
    let txid = source.check(&capture).await;
    closed(capture).await;
    // Frames behind the place that was read, on pages of their own.
    for id in 1..=6 {
        app.run(&format!("UPDATE h SET v = 1 WHERE id = {id}"));
    }
    app.run(&format!("PRAGMA wal_checkpoint({mode})"));
    if app_closes {
        app.run("close");
        app.run("open");
        app.run("PRAGMA wal_autocheckpoint = 0");
    }
    // They are overwritten, by fewer than before, as many, or more.
    let count = match after {
        After::Nothing => 0,
        After::Fewer => 1,
        After::Same => 6,
        After::More => 40,
    };
    for step in 0..count {
        app.run(&format!("UPDATE h SET v = 2 + {step} WHERE id = 20 - {step} % 3"));
    }
    let capture = source.capture_as(options).await;
    source.check(&capture).await;
    assert_eq!(source.folder.counts().1, 1, "one base");
    let sizes = source.folder.sizes_after(txid);
    assert!(sizes.iter().all(|pages| *pages <= 12), "{sizes:?}");
    closed(capture).await;
}

macro_rules! hole {
    ($($name:ident: $mode:literal, $app_closes:literal;)+) => {
        $(#[tokio::test]
        async fn $name() {
            for after in [After::Nothing, After::Fewer, After::Same, After::More] {
                missed($mode, after, $app_closes).await;
            }
        })+
    };
}

hole! {
    nothing_is_missed_after_passive: "PASSIVE", false;
    nothing_is_missed_after_full: "FULL", false;
    nothing_is_missed_after_restart: "RESTART", false;
    nothing_is_missed_after_truncate: "TRUNCATE", false;
    nothing_is_missed_after_passive_and_a_new_log: "PASSIVE", true;
    nothing_is_missed_after_truncate_and_a_new_log: "TRUNCATE", true;
}
