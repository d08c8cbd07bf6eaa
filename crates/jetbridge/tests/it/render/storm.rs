//! Files under load, through restarts of the server.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jetbridge::template::{Event, Wait};
use jetbridge_core::{Key, PutOpts};
use jetbridge_testkit::{Release, eventually};

use super::{Following, Rig, WITHIN, put_object};

/// Changes of each key, at least.
const CHANGES: usize = 150;
/// States of the file that the reader sees, at least.
const STATES: usize = 12;
/// Characters of the object: many pages of a file.
const OBJECT_CHARS: usize = 60_000;
/// Each change of the object goes with so many of the keys.
const OBJECT_EVERY: usize = 10;

const TEMPLATE: &str = "begin: (( nats \"kv:config/a\" ))\nb: (( nats \"kv:config/b\" ))\n\
                        doc: (( nats \"obj:assets/doc.txt\" ))\nend: (( grab begin ))\n";

/// One reading of the file: both keys, and the object's number.
type Seen = (usize, usize, usize);

/// Takes the file apart; panics if it is not whole and of one state of the bucket.
fn whole(text: &str) -> Seen {
    let lines: Vec<&str> = text.lines().collect();
    let field = |at: usize, name: &str| {
        let line = lines.get(at).unwrap_or_else(|| panic!("{} bytes are cut short", text.len()));
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name} in `{line:.40}`")).trim_matches('"').to_owned()
    };
    let number = |text: &str| text.parse::<usize>().unwrap();
    let (a, b, end) =
        (number(&field(0, "begin")), number(&field(1, "b")), number(&field(3, "end")));
    let doc = field(2, "doc");
    let (name, body) = doc.split_once(' ').unwrap();
    let letter = letter(number(name));
    assert!(body.len() == OBJECT_CHARS && body.chars().all(|c| c == letter), "a mixed object");
    assert_eq!(a, end, "a mixed file");
    assert!(a == b || a == b + 1, "a is written before b: {a} and {b} never were together");
    (a, b, number(name))
}

fn letter(number: usize) -> char {
    char::from(b'a' + u8::try_from(number % 26).unwrap())
}

fn document(number: usize) -> String {
    format!("{number} {}", letter(number).to_string().repeat(OBJECT_CHARS))
}

/// What a reader is told, and tells.
#[derive(Default)]
struct Reading {
    ends: AtomicBool,
    states: AtomicUsize,
}

/// Reads the file for as long as it may.
fn reader(path: PathBuf, reading: Arc<Reading>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut seen: BTreeSet<Seen> = BTreeSet::new();
        while !reading.ends.load(Ordering::Relaxed) {
            seen.insert(whole(&std::fs::read_to_string(&path).unwrap()));
            reading.states.store(seen.len(), Ordering::Relaxed);
        }
    })
}

/// Tries again until the store has taken it: it may be away.
async fn insist<T, E, F>(attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    eventually("a write", WITHIN, async || attempt().await.ok()).await
}

async fn ends_right_and_is_never_partial(rig: Rig) {
    rig.write("t.yml", TEMPLATE);
    let (kv, objects) = (rig.kv("config").await, rig.objects("assets").await);
    let keys = ["a", "b"].map(|key| Key::parse(key).unwrap());
    let write = async |number: usize| {
        if number.is_multiple_of(OBJECT_EVERY) {
            insist(|| put_object(&*objects, "doc.txt", document(number))).await;
        }
        for key in &keys {
            insist(|| kv.put(key, number.to_string().into(), PutOpts::new())).await;
        }
    };
    write(0).await;
    let mut following = Following::start(rig.renderer(rig.spec()));
    following.written().await;
    let reading = Arc::new(Reading::default());
    let thread = reader(rig.path("app.yml"), Arc::clone(&reading));
    let mut number = 0;
    while number < CHANGES || reading.states.load(Ordering::Relaxed) < STATES {
        assert!(!thread.is_finished(), "a reader saw a partial or mixed file");
        number += 1;
        write(number).await;
        if number == CHANGES / 2
            && let Some(server) = &rig.server
        {
            server.restart().await;
        }
    }
    let last = number / OBJECT_EVERY * OBJECT_EVERY;
    let path = rig.path("app.yml");
    eventually("the file is what the store says", WITHIN, async || {
        (whole(&std::fs::read_to_string(&path).unwrap()) == (number, number, last)).then_some(())
    })
    .await;
    reading.ends.store(true, Ordering::Relaxed);
    thread.join().expect("no reader saw a partial or mixed file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_2_9_25() {
    ends_right_and_is_never_partial(Rig::nats(Release::Oldest).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_2_15_2() {
    ends_right_and_is_never_partial(Rig::nats(Release::Newest).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local() {
    ends_right_and_is_never_partial(Rig::local().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_the_last_good_file_and_ends_with_the_right_one() {
    let rig = Rig::nats(Release::Newest).await;
    rig.put("config", "k", "1").await;
    rig.write("t.yml", "k: (( nats \"kv:config/k\" ))\n");
    let mut following = Following::start(rig.renderer(rig.spec()));
    following.written().await;
    let server = rig.server.as_ref().unwrap();
    server.kill();
    let why = following
        .next(|event| match event {
            Event::Deaf(why) => why,
            Event::Rendered(_) => None,
            _ => None,
        })
        .await;
    assert!(why.starts_with("config of the default store: "), "{why}");
    // A changed template needs the values again, and they cannot be had.
    rig.write("t.yml", "now: (( nats \"kv:config/k\" ))\n");
    let failure = following.failure().await;
    assert!(failure.contains("$.now: failed to "), "{failure}");
    assert_eq!(rig.read("app.yml"), "k: \"1\"\n");
    server.restart().await;
    following.written().await;
    assert_eq!(rig.read("app.yml"), "now: \"1\"\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_what_is_not_read_any_more_is_no_trouble() {
    let rig = Rig::nats(Release::Newest).await;
    rig.put("config", "k", "1").await;
    rig.write("t.yml", "k: (( nats \"kv:config/k\" ))\n");
    let mut following = Following::start(rig.renderer(rig.spec()));
    following.written().await;
    rig.server.as_ref().unwrap().kill();
    let mut deaf = async |wanted: bool| {
        let is_wanted = |event: Event| matches!(event, Event::Deaf(why) if why.is_some() == wanted);
        following.next(|event| is_wanted(event).then_some(())).await;
    };
    deaf(true).await;
    rig.write("t.yml", "k: 1\n");
    deaf(false).await;
    // It may have been read while it was being written.
    eventually("what the template says now", WITHIN, async || {
        (rig.read("app.yml") == "k: 1\n").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_gathered() {
    let rig = Rig::memory();
    rig.put("config", "k", "0").await;
    rig.write("t.yml", "k: (( nats \"kv:config/k\" ))\n");
    let mut spec = rig.spec();
    spec.wait = Wait { min: Duration::from_millis(300), max: Duration::from_secs(30) };
    let mut following = Following::start(rig.renderer(spec));
    following.written().await;
    for number in 1..=50 {
        rig.put("config", "k", &number.to_string()).await;
    }
    following.written().await;
    assert_eq!(rig.read("app.yml"), "k: \"50\"\n", "all changes make one rendering");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_new_names_and_local_files_are_changes() {
    let rig = Rig::memory();
    rig.put("config", "which", "x").await;
    rig.put("config", "x", "1").await;
    rig.write("note.txt", "one");
    let text = format!(
        "v: (( nats (concat \"kv:config/\" (nats \"kv:config/which\")) || \"none\" ))\n\
         f: (( file \"{}\" ))\n",
        rig.path("note.txt").display()
    );
    rig.write("t.yml", &text);
    let mut following = Following::start(rig.renderer(rig.spec()));
    following.written().await;
    assert_eq!(rig.read("app.yml"), "v: \"1\"\nf: one\n");
    rig.put("config", "which", "y").await;
    following.written().await;
    assert_eq!(rig.read("app.yml"), "v: none\nf: one\n");
    rig.put("config", "y", "2").await;
    following.written().await;
    assert_eq!(rig.read("app.yml"), "v: \"2\"\nf: one\n");
    let kv = rig.kv("config").await;
    kv.delete(&Key::parse("y").unwrap(), jetbridge_core::DeleteOpts::new()).await.unwrap();
    following.written().await;
    assert_eq!(rig.read("app.yml"), "v: none\nf: one\n");
    rig.write("note.txt", "two");
    eventually("the local file is read again", WITHIN, async || {
        (rig.read("app.yml") == "v: none\nf: two\n").then_some(())
    })
    .await;
}
