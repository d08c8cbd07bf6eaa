//! Streams over several handles on one directory, which behave like as many processes.

use std::sync::Mutex;

use jetbridge_core::{
    Clock as _, Discard, Headers, ManualClock, Received, Retention, SystemClock, Tasks,
};
use tempfile::TempDir;

use super::*;
use crate::child::DEADLINE;
use crate::db::Durability;

/// A bus that can be stopped.
pub(super) struct Process {
    pub(super) bus: LocalBus,
    tasks: Tasks,
}

impl Process {
    pub(super) async fn start(dir: &Path) -> Self {
        Self::start_at(dir, Arc::new(SystemClock)).await
    }

    pub(super) async fn start_at(dir: &Path, clock: Arc<dyn jetbridge_core::Clock>) -> Self {
        let tasks = Tasks::new();
        let hub = Hub::join(dir, tasks.clone()).await.unwrap();
        let context = StreamContext { hub, clock, durability: Durability::Process };
        Self { bus: LocalBus::open(dir, context).unwrap(), tasks }
    }

    pub(super) async fn stop(self) {
        self.bus.close().await;
        assert_eq!(self.tasks.stop(DEADLINE).await, 0);
    }
}

pub(super) async fn two() -> (TempDir, Process, Process) {
    let dir = tempfile::tempdir().unwrap();
    let one = Process::start(dir.path()).await;
    let other = Process::start(dir.path()).await;
    (dir, one, other)
}

pub(super) fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

pub(super) fn spec(stream: &str, subjects: &[&str]) -> StreamSpec {
    StreamSpec::new(name(stream), subjects.iter().map(|text| pattern(text)).collect())
}

pub(super) fn message(subject: &str, payload: impl ToString) -> Message {
    Message::new(Subject::parse(subject).unwrap(), payload.to_string())
}

pub(super) async fn append(bus: &LocalBus, subject: &str, payload: impl ToString) -> u64 {
    bus.append(message(subject, payload), AppendOpts::new()).await.unwrap().sequence
}

async fn read(bus: &LocalBus, stream: &str, read: ReadStream) -> Vec<(u64, String)> {
    let messages: Vec<StreamMessage> =
        bus.read_stream(&name(stream), read).try_collect().await.unwrap();
    let text = |it: &StreamMessage| String::from_utf8(it.message.payload.to_vec()).unwrap();
    messages.iter().map(|it| (it.sequence, text(it))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_appends_the_others_read_and_receive() {
    let (_dir, one, other) = two().await;
    one.bus.create_stream(&spec("S", &["s.>"])).await.unwrap();
    let mut follower = other.bus.read_stream(&name("S"), ReadStream::all().follow());
    let mut subscriber = other.bus.subscribe(Subscribe::to(pattern("s.*"))).await.unwrap();
    let headers = Headers::new().with("H", "v").unwrap();
    let sent = message("s.a", "1").headers(headers);
    let appended = one.bus.append(sent.clone(), AppendOpts::new()).await.unwrap();
    assert_eq!((appended.sequence, appended.duplicate), (1, false));
    let followed = tokio::time::timeout(DEADLINE, follower.next()).await.unwrap();
    let followed = followed.unwrap().unwrap();
    assert_eq!((followed.sequence, &followed.message), (1, &sent));
    let received = tokio::time::timeout(DEADLINE, subscriber.next()).await.unwrap();
    assert_eq!(received.unwrap().unwrap(), Received::Message(sent));
    // A plain publish on a kept subject is kept, from a process that did not make the stream.
    other.bus.publish(message("s.b", "2")).await.unwrap();
    other.bus.flush().await.unwrap();
    assert_eq!(read(&one.bus, "S", ReadStream::all()).await, [(1, "1".into()), (2, "2".into())]);
    let filtered = ReadStream::all().filter(pattern("s.b"));
    assert_eq!(read(&one.bus, "S", filtered).await, [(2, "2".into())]);
    let filtered = ReadStream::all().filter(pattern("*.b")).after(1);
    assert_eq!(read(&one.bus, "S", filtered).await, [(2, "2".into())]);
    drop(follower);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_or_deleted_elsewhere_is_known_at_once() {
    let (_dir, one, other) = two().await;
    for round in 0..20 {
        let missing = other.bus.append(message("s", "x"), AppendOpts::new()).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{round}");
        one.bus.create_stream(&spec("S", &["s"])).await.unwrap();
        assert_eq!(append(&other.bus, "s", round).await, 1);
        let mut follower = other.bus.read_stream(&name("S"), ReadStream::all().after(1).follow());
        let wait = tokio::time::timeout(DEADLINE, follower.next());
        let delete = async { one.bus.delete_stream(&name("S")).await.unwrap() };
        let (end, deleted) = tokio::join!(wait, delete);
        assert!(deleted);
        assert_eq!(end.unwrap().unwrap().unwrap_err().kind(), ErrorKind::NotFound);
        assert!(follower.next().await.is_none(), "an error ends the stream");
    }
    assert!(!one.bus.delete_stream(&name("S")).await.unwrap());
    assert!(other.bus.streams().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_kept_and_changed() {
    let (dir, one, other) = two().await;
    let mut wanted = spec("S", &["s.>"]);
    wanted.max_messages = Some(3);
    let made = one.bus.create_stream(&wanted).await.unwrap();
    assert_eq!(made.spec, wanted);
    assert_eq!(other.bus.create_stream(&wanted).await.unwrap().created, made.created);
    let mut different = wanted.clone();
    different.max_messages = Some(4);
    let error = other.bus.create_stream(&different).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.fact("differs"), Some("max_messages"));
    let error = other.bus.create_stream(&spec("T", &["*.a"])).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("other")), (ErrorKind::InvalidInput, Some("S")));
    for number in 0..5 {
        append(&other.bus, "s.a", number).await;
    }
    different.max_messages = Some(2);
    different.subjects = vec![pattern("r")];
    let info = one.bus.update_stream(&different).await.unwrap();
    assert_eq!((info.messages, info.first_sequence, info.last_sequence), (2, 4, 5));
    assert_eq!(append(&other.bus, "r", "x").await, 6);
    let error = other.bus.append(message("s.a", "x"), AppendOpts::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "no longer its subject");
    different.retention = Retention::WorkQueue;
    let error = one.bus.update_stream(&different).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    one.stop().await;
    other.stop().await;
    // And all of it is there when the store is opened again.
    let again = Process::start(dir.path()).await;
    let infos = again.bus.streams().await.unwrap();
    assert_eq!((infos.len(), infos[0].messages, infos[0].created), (1, 2, made.created));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_twice_is_kept_once() {
    let (_dir, one, other) = two().await;
    let mut wanted = spec("S", &["s"]);
    wanted.duplicate_window = Some(Duration::from_secs(60));
    let clock = ManualClock::new(SystemClock.now());
    let dir = tempfile::tempdir().unwrap();
    let timed = Process::start_at(dir.path(), Arc::new(clock.clone())).await;
    one.bus.create_stream(&wanted).await.unwrap();
    timed.bus.create_stream(&wanted).await.unwrap();
    let opts = || AppendOpts::new().id("id");
    let first = one.bus.append(message("s", 1), opts()).await.unwrap();
    let second = other.bus.append(message("s", 1), opts()).await.unwrap();
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((second.sequence, second.duplicate), (1, true));
    timed.bus.append(message("s", 1), opts()).await.unwrap();
    clock.advance(Duration::from_secs(59));
    assert!(timed.bus.append(message("s", 1), opts()).await.unwrap().duplicate);
    clock.advance(Duration::from_secs(1));
    assert!(!timed.bus.append(message("s", 1), opts()).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_over_processes() {
    let (_dir, one, other) = two().await;
    one.bus.create_stream(&spec("S", &["s.>"])).await.unwrap();
    let expecting = |sequence| AppendOpts::new().expect_last_on_subject(sequence);
    let winners = Mutex::new(0);
    let race = |bus: LocalBus| {
        let winners = &winners;
        async move {
            for round in 0..50 {
                match bus.append(message("s.a", round), expecting(round)).await {
                    Ok(_) => *winners.lock().unwrap() += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                }
                let caught_up = async {
                    while bus.stream(&name("S")).await.unwrap().last_sequence <= round {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(DEADLINE, caught_up).await.unwrap();
            }
        }
    };
    tokio::join!(race(one.bus.clone()), race(other.bus.clone()));
    assert_eq!(*winners.lock().unwrap(), 50, "one of two wins each round");
    let error = one.bus.append(message("s.a", "x"), expecting(3)).await.unwrap_err();
    assert_eq!(error.present_revision().map(|revision| revision.0), Some(50));
    let elsewhere = AppendOpts::new().stream(name("T"));
    let error = one.bus.append(message("s.a", "x"), elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_let_the_oldest_go_or_refuse_the_newest() {
    let (_dir, one, _other) = two().await;
    let mut old = spec("OLD", &["old.>"]);
    (old.max_messages, old.max_messages_per_subject) = (Some(4), Some(2));
    one.bus.create_stream(&old).await.unwrap();
    for (subject, number) in ["old.a", "old.a", "old.b", "old.a"].iter().zip(1..) {
        append(&one.bus, subject, number).await;
    }
    let kept = read(&one.bus, "OLD", ReadStream::all()).await;
    assert_eq!(kept.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3, 4]);
    append(&one.bus, "old.c", 5).await;
    append(&one.bus, "old.d", 6).await;
    let kept = read(&one.bus, "OLD", ReadStream::all()).await;
    assert_eq!(kept.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [3, 4, 5, 6]);

    let mut new = spec("NEW", &["new"]);
    (new.discard, new.max_bytes, new.max_message_bytes) = (Discard::New, Some(30), Some(20));
    one.bus.create_stream(&new).await.unwrap();
    append(&one.bus, "new", "x".repeat(20)).await;
    for size in [21, 5] {
        let refused = one.bus.append(message("new", "x".repeat(size)), AppendOpts::new()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded, "{size}");
    }
    append(&one.bus, "new", "x".repeat(4)).await;
    let info = one.bus.stream(&name("NEW")).await.unwrap();
    assert_eq!((info.messages, info.bytes), (2, 30));
    // Nobody waits for the answer to a publish.
    one.bus.publish(message("new", "too much")).await.unwrap();
    assert_eq!(one.bus.stream(&name("NEW")).await.unwrap().messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_gone_even_before_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(SystemClock.now());
    let process = Process::start_at(dir.path(), Arc::new(clock.clone())).await;
    let mut aging = spec("S", &["s"]);
    aging.max_age = Some(Duration::from_secs(10));
    process.bus.create_stream(&aging).await.unwrap();
    for number in 0..1_500 {
        append(&process.bus, "s", number).await;
    }
    clock.advance(Duration::from_secs(9));
    append(&process.bus, "s", "young").await;
    clock.advance(Duration::from_secs(1));
    let kept = read(&process.bus, "S", ReadStream::all()).await;
    assert_eq!(kept, [(1_501, "young".to_owned())]);
    // More than one transaction lets go.
    let info = process.bus.stream(&name("S")).await.unwrap();
    assert_eq!((info.messages, info.first_sequence, info.last_sequence), (1, 1_501, 1_501));
    clock.advance(Duration::from_secs(10));
    let info = process.bus.stream(&name("S")).await.unwrap();
    assert_eq!((info.messages, info.bytes, info.first_sequence), (0, 0, 1_502));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_what_it_names() {
    let (_dir, one, other) = two().await;
    one.bus.create_stream(&spec("S", &["s.>"])).await.unwrap();
    for number in 0..10 {
        append(&one.bus, &format!("s.{}", number % 2), number).await;
    }
    assert_eq!(other.bus.purge_stream(&name("S"), Some(&pattern("s.1"))).await.unwrap(), 5);
    let info = one.bus.stream(&name("S")).await.unwrap();
    assert_eq!((info.messages, info.first_sequence, info.last_sequence), (5, 1, 10));
    assert_eq!(other.bus.purge_stream(&name("S"), None).await.unwrap(), 5);
    let info = one.bus.stream(&name("S")).await.unwrap();
    assert_eq!((info.messages, info.bytes, info.first_sequence), (0, 0, 11));
    assert_eq!(append(&other.bus, "s.0", "x").await, 11, "sequences are never used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_in_every_process_see_all_of_many_writers_in_order() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 250;
    let (_dir, one, other) = two().await;
    one.bus.create_stream(&spec("S", &["s.>"])).await.unwrap();
    let follow = |bus: &LocalBus| {
        let messages = bus.read_stream(&name("S"), ReadStream::all().follow());
        let sequences = messages.map_ok(|it| it.sequence);
        let take = usize::try_from(WRITERS * EACH).unwrap();
        sequences.take(take).try_collect::<Vec<u64>>()
    };
    let followers = async { tokio::try_join!(follow(&one.bus), follow(&other.bus)) };
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let bus = if writer % 2 == 0 { one.bus.clone() } else { other.bus.clone() };
        writers.spawn(async move {
            for number in 0..EACH {
                append(&bus, &format!("s.{writer}"), number).await;
            }
        });
    }
    let (seen, _written) = tokio::join!(tokio::time::timeout(DEADLINE, followers), async {
        while writers.join_next().await.is_some() {}
    });
    let (one, other) = seen.unwrap().unwrap();
    assert_eq!(one, (1..=WRITERS * EACH).collect::<Vec<_>>());
    assert_eq!(one, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_a_stream_is_no_stream_and_is_cleared_away() {
    let (dir, one, other) = two().await;
    let streams = dir.path().join(STREAMS_DIRECTORY);
    one.bus.create_stream(&spec("GONE", &["gone"])).await.unwrap();
    let leftovers = [streams.join(format!("S.{:016x}", 1)), streams.join(format!("S.{:016x}", 2))];
    // Killed after making the directory, and after making the database in it.
    for leftover in &leftovers {
        std::fs::create_dir(leftover).unwrap();
    }
    let context = StreamContext {
        hub: other.bus.hub.clone(),
        clock: Arc::new(SystemClock),
        durability: Durability::Process,
    };
    let half_made = Catalog::open(streams.clone(), context).unwrap();
    assert_eq!(half_made.known().await.unwrap().all().count(), 1);
    half_made.close().await;
    assert_eq!(one.bus.stream(&name("S")).await.unwrap_err().kind(), ErrorKind::NotFound);
    other.bus.create_stream(&spec("S", &["s"])).await.unwrap();
    assert_eq!(append(&one.bus, "s", "x").await, 1);
    assert!(leftovers.iter().all(|leftover| !leftover.exists()));
    assert!(other.bus.delete_stream(&name("GONE")).await.unwrap());
    let left = std::fs::read_dir(&streams).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(left, 1, "one stream, one directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_stream_says_so_and_disturbs_no_other() {
    let (dir, one, other) = two().await;
    one.bus.create_stream(&spec("GOOD", &["good"])).await.unwrap();
    let damaged = dir.path().join(STREAMS_DIRECTORY).join(format!("BAD.{:016x}", 1));
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("stream.db"), "no database, but long enough to look for a header")
        .unwrap();
    other.bus.create_stream(&spec("BETTER", &["better"])).await.unwrap();
    let third = Process::start(dir.path()).await;
    for process in [&one, &other, &third] {
        append(&process.bus, "good", "x").await;
        process.bus.publish(message("bad", "x")).await.unwrap();
        let corrupt = process.bus.stream(&name("BAD")).await.unwrap_err();
        assert_eq!(corrupt.kind(), ErrorKind::Corrupt);
        let maybe = process.bus.append(message("bad", "x"), AppendOpts::new()).await.unwrap_err();
        assert_eq!((maybe.kind(), maybe.fact("stream")), (ErrorKind::Corrupt, Some("BAD")));
    }
    let refused = one.bus.create_stream(&spec("BAD", &["bad"])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(third.bus.delete_stream(&name("BAD")).await.unwrap());
    other.bus.create_stream(&spec("BAD", &["bad"])).await.unwrap();
    assert_eq!(append(&one.bus, "bad", "x").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_readers_with_a_word() {
    let (_dir, one, other) = two().await;
    one.bus.create_stream(&spec("S", &["s"])).await.unwrap();
    let mut follower = other.bus.read_stream(&name("S"), ReadStream::all().follow());
    let (end, ()) = tokio::join!(follower.next(), async {
        tokio::task::yield_now().await;
        other.stop().await;
    });
    assert_eq!(end.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}
