//! Several hubs in one process, which must behave like as many processes.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use jetbridge_core::{GroupName, Outcome, Pattern, Received, Subject};
use tempfile::TempDir;

use super::*;

/// What nobody should ever wait for.
const DEADLINE: Duration = Duration::from_secs(20);

/// A hub that can be stopped.
struct Process {
    hub: Hub,
    tasks: Tasks,
}

impl Process {
    async fn start(dir: &Path) -> Self {
        let tasks = Tasks::new();
        Self { hub: Hub::join(dir, tasks.clone()).await.unwrap(), tasks }
    }

    async fn stop(self) {
        assert_eq!(self.tasks.stop(DEADLINE).await, 0);
    }

    fn is_owner(&self) -> bool {
        matches!(&*self.hub.0.role(), Role::Owner(_))
    }
}

async fn processes(count: usize) -> (TempDir, Vec<Process>) {
    let dir = tempfile::tempdir().unwrap();
    let mut processes = Vec::new();
    for _ in 0..count {
        processes.push(Process::start(dir.path()).await);
    }
    (dir, processes)
}

fn message(subject: &str, payload: impl ToString) -> Message {
    Message::new(Subject::parse(subject).unwrap(), payload.to_string())
}

fn to(pattern: &str) -> Subscribe {
    Subscribe::to(Pattern::parse(pattern).unwrap())
}

fn grouped(pattern: &str, group: &str) -> Subscribe {
    to(pattern).group(GroupName::parse(group).unwrap())
}

async fn next(subscription: &mut Subscription) -> Received {
    let next = tokio::time::timeout(DEADLINE, subscription.next()).await;
    next.expect("a message in time").expect("no end").unwrap()
}

async fn next_payload(subscription: &mut Subscription) -> String {
    match next(subscription).await {
        Received::Message(message) => String::from_utf8(message.payload.to_vec()).unwrap(),
        Received::Dropped(count) => panic!("dropped {count}"),
    }
}

/// Answers with the request's payload after `name`.
fn respond(process: &Process, mut requests: Subscription, name: &'static str) {
    let hub = process.hub.clone();
    process.tasks.spawn_until_stop(async move {
        while let Some(Ok(Received::Message(request))) = requests.next().await {
            let payload = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
            hub.publish(&Message::new(request.reply.unwrap(), payload)).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_every_process_once() {
    let (_dir, processes) = processes(3).await;
    assert!(processes[0].is_owner() && !processes[1].is_owner());
    let mut subscriptions = Vec::new();
    for process in &processes {
        subscriptions.push(process.hub.subscribe(to("a.*")).await.unwrap());
        subscriptions.push(process.hub.subscribe(to("a.>")).await.unwrap());
    }
    for (number, process) in processes.iter().enumerate() {
        process.hub.publish(&message("a.b", number)).await.unwrap();
        process.hub.publish(&message("b.b", "not asked for")).await.unwrap();
        process.hub.flush().await.unwrap();
    }
    for subscription in &mut subscriptions {
        let mut seen = Vec::new();
        for _ in 0..processes.len() {
            seen.push(next_payload(subscription).await);
        }
        seen.sort_unstable();
        assert_eq!(seen, ["0", "1", "2"]);
    }
    for process in processes {
        process.stop().await;
    }
    for subscription in &mut subscriptions {
        assert!(subscription.next().await.is_none(), "no message came twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_publisher_stay_in_order() {
    let (_dir, processes) = processes(3).await;
    let mut subscription = processes[2].hub.subscribe(to("n")).await.unwrap();
    for number in 0..5_000 {
        processes[1].hub.publish(&message("n", number)).await.unwrap();
    }
    for number in 0..5_000 {
        assert_eq!(next_payload(&mut subscription).await, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_each_message_once_and_everyone_has_a_share() {
    let (_dir, processes) = processes(3).await;
    let mut members = Vec::new();
    for process in &processes {
        // Two patterns, one group: a group is known by its name.
        members.push(process.hub.subscribe(grouped("jobs.*", "g")).await.unwrap());
        members.push(process.hub.subscribe(grouped("jobs.>", "g")).await.unwrap());
    }
    let mut everybody = processes[1].hub.subscribe(to("jobs.>")).await.unwrap();
    const EACH: usize = 300;
    for (sender, process) in processes.iter().enumerate() {
        for number in 0..EACH {
            process.hub.publish(&message("jobs.x", sender * EACH + number)).await.unwrap();
        }
        process.hub.flush().await.unwrap();
    }
    for _ in 0..3 * EACH {
        next_payload(&mut everybody).await;
    }
    for process in processes {
        process.stop().await;
    }
    let (mut all, mut shares) = (Vec::new(), Vec::new());
    for member in members {
        let share: Vec<_> = member.map(Result::unwrap).collect().await;
        shares.push(share.len());
        all.extend(share.into_iter().map(|received| match received {
            Received::Message(message) => message.payload,
            Received::Dropped(count) => panic!("dropped {count}"),
        }));
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), shares.iter().sum::<usize>()), (3 * EACH, 3 * EACH));
    // A fair share is 150 of 900; a quarter of it is missed by chance less than once in 10^20.
    assert!(shares.iter().all(|share| *share > EACH / 8), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_by_any_process_or_refused_at_once() {
    let (_dir, processes) = processes(3).await;
    for asker in &processes {
        let begun = Instant::now();
        let error = asker.hub.request(message("q", "?"), DEADLINE).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(begun.elapsed() < DEADLINE / 4, "nobody listens, and it waited");
    }
    for (responder, name) in processes.iter().zip(["0", "1", "2"]) {
        let requests = responder.hub.subscribe(to(&format!("q.{name}"))).await.unwrap();
        respond(responder, requests, name);
        for asker in &processes {
            let subject = format!("q.{name}");
            let answer = asker.hub.request(message(&subject, "?"), DEADLINE).await.unwrap();
            assert_eq!(answer.payload, format!("{name}:?"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_fails_by_its_deadline_and_may_have_been_applied() {
    let (_dir, processes) = processes(2).await;
    let _mute = processes[0].hub.subscribe(to("q")).await.unwrap();
    for asker in &processes {
        let error =
            asker.hub.request(message("q", "?"), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_owner_leaves_another_takes_over_and_nothing_published_meanwhile_is_lost() {
    let (dir, mut processes) = processes(4).await;
    let mut subscription = processes[3].hub.subscribe(to("n")).await.unwrap();
    let publisher = processes[2].hub.clone();
    let publishing = Arc::new(tokio::sync::Barrier::new(2));
    let started = Arc::clone(&publishing);
    let publish = async move {
        for number in 0..20_000 {
            publisher.publish(&message("n", number)).await.unwrap();
            if number == 1_000 {
                started.wait().await;
            }
        }
        publisher.flush().await
    };
    let take_over = async {
        publishing.wait().await;
        processes.remove(0).stop().await;
    };
    let receive = async {
        for number in 0..20_000 {
            assert_eq!(next_payload(&mut subscription).await, number.to_string());
        }
    };
    let (flushed, (), ()) = tokio::join!(publish, take_over, receive);
    flushed.unwrap();
    for process in &processes {
        process.hub.flush().await.unwrap();
    }
    assert_eq!(processes.iter().filter(|process| process.is_owner()).count(), 1);
    let late = Process::start(dir.path()).await;
    late.hub.publish(&message("n", "late")).await.unwrap();
    assert_eq!(next_payload(&mut subscription).await, "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_after_the_other_may_own_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let process = Process::start(dir.path()).await;
        assert!(process.is_owner());
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_hub_says_so() {
    let (_dir, mut processes) = processes(1).await;
    let Process { hub, tasks } = processes.remove(0);
    let mut subscription = hub.subscribe(to("a")).await.unwrap();
    let mut wakes = hub.wakes("t");
    assert_eq!(tasks.stop(DEADLINE).await, 0);
    for result in [
        hub.publish(&message("a", 1)).await,
        hub.flush().await,
        hub.subscribe(to("a")).await.map(drop),
        hub.request(message("a", 1), DEADLINE).await.map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(subscription.next().await.is_none());
    assert!(!wakes.next().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_what_it_missed_and_holds_up_nobody() {
    let (_dir, processes) = processes(2).await;
    for (slow, publisher) in [(0, 1), (1, 0), (1, 1)] {
        let mut slow = processes[slow].hub.subscribe(to("n").capacity(10)).await.unwrap();
        let mut quick = processes[0].hub.subscribe(to("n")).await.unwrap();
        for number in 0..25 {
            processes[publisher].hub.publish(&message("n", number)).await.unwrap();
        }
        for number in 0..25 {
            assert_eq!(next_payload(&mut quick).await, number.to_string());
        }
        // The connection to the slow reader's process is in order: behind this, nothing comes.
        let mut marker = processes[1].hub.subscribe(to("marker")).await.unwrap();
        processes[publisher].hub.publish(&message("marker", "")).await.unwrap();
        next_payload(&mut marker).await;
        for number in 0..10 {
            assert_eq!(next_payload(&mut slow).await, number.to_string());
        }
        assert_eq!(next(&mut slow).await, Received::Dropped(15));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_reach_every_process_and_coalesce() {
    let (_dir, processes) = processes(3).await;
    for waker in &processes {
        let mut waiting: Vec<Wakes> =
            processes.iter().map(|process| process.hub.wakes("t")).collect();
        // The first wake-up for those who are not the owner is the owner's "now I know you".
        for (process, wakes) in processes.iter().zip(&mut waiting) {
            if !process.is_owner() {
                assert!(tokio::time::timeout(DEADLINE, wakes.next()).await.unwrap());
            }
        }
        waker.hub.wake("t");
        waker.hub.wake("other");
        for wakes in &mut waiting {
            assert!(tokio::time::timeout(DEADLINE, wakes.next()).await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_over_takeovers() {
    let (dir, processes) = processes(2).await;
    let watcher = Process::start(dir.path()).await;
    let mut wakes = watcher.hub.wakes("t");
    let written = Arc::new(AtomicU64::new(0));
    for process in processes {
        const COMMITS: u64 = 200;
        let seen = Arc::clone(&written);
        let goal = written.load(Ordering::SeqCst) + COMMITS;
        let read = async {
            while seen.load(Ordering::SeqCst) < goal {
                let woken = tokio::time::timeout(DEADLINE, wakes.next()).await;
                assert!(woken.expect("woken for every commit"));
            }
        };
        let write = async {
            for _ in 0..COMMITS {
                written.fetch_add(1, Ordering::SeqCst);
                process.hub.wake("t");
                tokio::task::yield_now().await;
            }
            process.stop().await;
        };
        tokio::join!(read, write);
    }
    watcher.hub.flush().await.unwrap();
    assert!(watcher.is_owner());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_waits_for_is_not_told_and_none_is_lost_when_somebody_does() {
    let (_dir, processes) = processes(3).await;
    let written = AtomicU64::new(0);
    for round in 1..=100 {
        for (waker, watcher) in [(1, 0), (1, 2), (2, 1), (0, 1)] {
            let (waker, watcher) = (&processes[waker].hub, &processes[watcher].hub);
            let goal = written.load(Ordering::SeqCst) + 1;
            waker.wake("t");
            if round % 10 == 0 && !matches!(&*waker.0.role(), Role::Owner(_)) {
                let hushed = async {
                    while !waker.0.outbox.is_hushed("t") {
                        // The last watcher may still be on its way out.
                        waker.wake("t");
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(DEADLINE, hushed).await.expect("nobody waits");
            }
            let write = async {
                tokio::task::yield_now().await;
                written.fetch_add(1, Ordering::SeqCst);
                waker.wake("t");
            };
            let read = async {
                let mut wakes = watcher.wakes("t");
                while written.load(Ordering::SeqCst) < goal {
                    let woken = tokio::time::timeout(DEADLINE, wakes.next()).await;
                    assert!(woken.expect("woken for what was written"));
                }
            };
            tokio::join!(read, write);
        }
    }
}

#[test]
fn new_interest_in_a_topic_may_overtake_the_end_of_the_old() {
    let local = Local::new(1).unwrap();
    let (receiver, first) = local.watch("t");
    let ended = local.unwatch("t");
    drop(receiver);
    let (_receiver, second) = local.watch("t");
    let dir = tempfile::tempdir().unwrap();
    let ownership = Place::open(dir.path()).unwrap().try_own().unwrap().unwrap();
    let owner = Owner::new(1, Arc::new(Local::new(1).unwrap()), ownership);
    let connection = Arc::new(connection::Connection::new(2));
    let mut interest = owner::Interest::default();
    for frame in [first, second, ended] {
        assert_eq!(interest.apply(&owner, &connection, frame.unwrap()), None);
    }
    assert_eq!(interest.topics.len(), 1, "it is still waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscriptions_come_and_go() {
    let (_dir, processes) = processes(2).await;
    let mut subscriptions = Vec::new();
    for number in 0..1_000 {
        let process = &processes[number % 2];
        subscriptions.push(process.hub.subscribe(to(&format!("s.{number}.*"))).await.unwrap());
    }
    for number in 0..1_000 {
        processes[0].hub.publish(&message(&format!("s.{number}.x"), number)).await.unwrap();
    }
    for (number, subscription) in subscriptions.iter_mut().enumerate() {
        assert_eq!(next_payload(subscription).await, number.to_string());
    }
    drop(subscriptions);
    processes[1].hub.flush().await.unwrap();
    let error = processes[0].hub.request(message("s.1.x", ""), DEADLINE).await.unwrap_err();
    assert_eq!(error.message(), Some("nobody listens on the subject"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_the_largest_passes() {
    let (_dir, processes) = processes(2).await;
    let mut subscription = processes[0].hub.subscribe(to("n")).await.unwrap();
    let sized = |bytes: usize| Message::new(Subject::parse("n").unwrap(), vec![1_u8; bytes]);
    let error = processes[1].hub.publish(&sized(MESSAGE_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    processes[1].hub.publish(&sized(MESSAGE_BYTES_MAX)).await.unwrap();
    let Received::Message(largest) = next(&mut subscription).await else { panic!("dropped") };
    assert_eq!(largest.payload.len(), MESSAGE_BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_told_apart() {
    let (dir, processes) = processes(1).await;
    let place = Place::open(dir.path()).unwrap();
    let mut stream = place.connect().await.unwrap();
    let mut hello = bytes::BytesMut::new();
    Frame::Hello { member: 1, rejoins: false }.encode(&mut hello);
    let version_at = 4 + 1 + 4;
    hello[version_at] += 1;
    tokio::io::AsyncWriteExt::write_all(&mut stream, &hello).await.unwrap();
    let mut frames = serve::FrameReader::new(stream.into_split().0);
    assert_eq!(frames.next().await.unwrap(), Some(Frame::Welcome));
    assert_eq!(frames.next().await.unwrap(), None);
    processes[0].hub.flush().await.unwrap();
}
