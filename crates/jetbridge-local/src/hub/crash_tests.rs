//! Real processes, and what becomes of the others when one is killed.

use std::path::Path;

use futures_util::StreamExt as _;
use jetbridge_core::{GroupName, Outcome, Pattern, Received, Subject};

use super::*;
use crate::child::{self, Child, DEADLINE, say};

/// Not a test of its own: what the children run.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((dir, mut commands)) = child::role() else { return };
    let tasks = Tasks::new();
    let hub = Hub::join(&dir, tasks.clone()).await.unwrap();
    say("ready");
    while let Some(command) = commands.next_line().await.unwrap() {
        obey(&hub, &tasks, &command).await;
    }
}

async fn start(dir: &Path) -> Child {
    Child::start(dir, "hub::crash_tests::child").await
}

async fn obey(hub: &Hub, tasks: &Tasks, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        ["sub", pattern] => {
            report(hub, tasks, Subscribe::to(Pattern::parse(pattern).unwrap())).await
        }
        ["sub", pattern, group] => {
            let subscribe = Subscribe::to(Pattern::parse(pattern).unwrap());
            report(hub, tasks, subscribe.group(GroupName::parse(group).unwrap())).await;
        }
        ["serve", pattern] => serve(hub, tasks, pattern).await,
        ["watch", topic] => {
            let mut wakes = hub.wakes(topic);
            say("ok");
            tasks.spawn_until_stop(async move {
                while wakes.next().await {
                    say("woken");
                }
            });
        }
        _ => panic!("no such command: {command}"),
    }
}

/// Reports what a subscription receives.
async fn report(hub: &Hub, tasks: &Tasks, subscribe: Subscribe) {
    let mut subscription = hub.subscribe(subscribe).await.unwrap();
    say("ok");
    tasks.spawn_until_stop(async move {
        while let Some(received) = subscription.next().await {
            match received.unwrap() {
                Received::Message(message) => say(&shown(&message)),
                Received::Dropped(count) => say(&format!("dropped {count}")),
            }
        }
    });
}

fn shown(message: &Message) -> String {
    let shown = &message.payload[..message.payload.len().min(16)];
    String::from_utf8_lossy(shown).into_owned()
}

/// Answers requests with its process id; swallows those that ask to be `swallowed`.
async fn serve(hub: &Hub, tasks: &Tasks, pattern: &str) {
    let pattern = Pattern::parse(pattern).unwrap();
    let mut requests = hub.subscribe(Subscribe::to(pattern)).await.unwrap();
    say("ok");
    let hub = hub.clone();
    tasks.spawn_until_stop(async move {
        while let Some(Ok(Received::Message(request))) = requests.next().await {
            if request.payload == "swallow" {
                say("swallowed");
                continue;
            }
            let answer = Message::new(request.reply.unwrap(), std::process::id().to_string());
            hub.publish(&answer).await.unwrap();
        }
    });
}

fn message(subject: &str, payload: impl ToString) -> Message {
    Message::new(Subject::parse(subject).unwrap(), payload.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_is_replaced_and_everything_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let owner = start(dir.path()).await;
    let mut second = start(dir.path()).await;
    let mut third = start(dir.path()).await;
    let tasks = Tasks::new();
    let hub = Hub::join(dir.path(), tasks.clone()).await.unwrap();
    for child in [&mut second, &mut third] {
        assert_eq!(child.tell("sub n").await, "ok");
    }
    assert_eq!(second.tell("serve q").await, "ok");
    owner.kill().await;
    let begun = Instant::now();
    // What is published in the gap waits for the next owner, who waits for the others. What goes
    // into the dead socket before we notice is lost, and flush says so.
    let mut lost = 0;
    for number in 0..100 {
        hub.publish(&message("n", number)).await.unwrap();
        if let Err(error) = hub.flush().await {
            assert_eq!(error.outcome(), Outcome::Unknown);
            lost += 1;
        }
    }
    assert!(lost <= 1, "{lost} times lost");
    assert!(begun.elapsed() < Duration::from_secs(5), "took over after {:?}", begun.elapsed());
    for child in [&mut second, &mut third] {
        for number in lost..100 {
            assert_eq!(child.line().await, number.to_string());
        }
    }
    let answer = hub.request(message("q", ""), DEADLINE).await.unwrap();
    assert_eq!(answer.payload, second.pid().to_string());
    // Again, and whoever is left goes on.
    second.kill().await;
    third.kill().await;
    let error = hub.request(message("q", ""), DEADLINE).await.unwrap_err();
    let nobody = error.message() == Some("nobody listens on the subject");
    assert!(nobody || error.outcome() == Outcome::Unknown, "{error:?}");
    assert_eq!(tasks.stop(DEADLINE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_dies_with_the_owner_fails_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = start(dir.path()).await;
    assert_eq!(owner.tell("serve q").await, "ok");
    let hub = Hub::join(dir.path(), Tasks::new()).await.unwrap();
    let request = hub.request(message("q", "swallow"), DEADLINE);
    let kill = async {
        assert_eq!(owner.line().await, "swallowed");
        owner.kill().await;
        Instant::now()
    };
    let (answer, killed) = tokio::join!(request, kill);
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    assert!(killed.elapsed() < DEADLINE / 4, "it waited for its deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_over_processes_goes_on_without_the_killed_one() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::join(dir.path(), Tasks::new()).await.unwrap();
    let mut children = Vec::new();
    for _ in 0..3 {
        let mut child = start(dir.path()).await;
        assert_eq!(child.tell("sub jobs.> g").await, "ok");
        children.push(child);
    }
    let mut killed = children.pop().unwrap();
    assert_eq!(killed.tell("serve killed").await, "ok");
    killed.kill().await;
    // The owner notices by the end of the connection; until then the killed one has its share.
    let nobody = |error: Error| error.message() == Some("nobody listens on the subject");
    let gone = async {
        let attempt = Duration::from_millis(10);
        while !hub.request(message("killed", ""), attempt).await.is_err_and(nobody) {}
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    for number in 0..200 {
        hub.publish(&message("jobs.x", number)).await.unwrap();
    }
    hub.publish(&message("jobs.x", "end")).await.unwrap();
    let mut all = Vec::new();
    let [one, other] = &mut children[..] else { panic!("two are left") };
    while all.len() < 201 {
        tokio::select! {
            line = one.line() => all.push(line),
            line = other.line() => all.push(line),
        }
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 201, "each message went to one of the two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_holds_up_nobody_and_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::join(dir.path(), Tasks::new()).await.unwrap();
    let (mut slow, mut quick) = (start(dir.path()).await, start(dir.path()).await);
    assert_eq!(slow.tell("sub large").await, "ok");
    assert_eq!(quick.tell("sub n").await, "ok");
    let pid = rustix::process::Pid::from_raw(i32::try_from(slow.pid()).unwrap());
    let pid = pid.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // More than the kernel and the connection's buffer hold.
    const LARGE: usize = 128;
    for number in 0..LARGE {
        let payload = vec![b'x'; MESSAGE_BYTES_MAX / 8];
        let large = Message::new(Subject::parse("large").unwrap(), payload);
        hub.publish(&large).await.unwrap();
        hub.publish(&message("n", number)).await.unwrap();
        assert_eq!(quick.line().await, number.to_string());
    }
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let (mut received, mut dropped) = (0, 0);
    while received + dropped < LARGE {
        match slow.line().await.strip_prefix("dropped ") {
            Some(count) => dropped += count.parse::<usize>().unwrap(),
            None => received += 1,
        }
    }
    assert!(dropped > 0 && received > 0, "{dropped} dropped, {received} received");
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_cross_processes_and_takeovers() {
    let dir = tempfile::tempdir().unwrap();
    let owner = start(dir.path()).await;
    let mut watcher = start(dir.path()).await;
    let hub = Hub::join(dir.path(), Tasks::new()).await.unwrap();
    assert_eq!(watcher.tell("watch t").await, "ok");
    assert_eq!(watcher.line().await, "woken", "the owner knows");
    hub.wake("t");
    assert_eq!(watcher.line().await, "woken");
    owner.kill().await;
    assert_eq!(watcher.line().await, "woken", "a takeover wakes");
    hub.flush().await.unwrap();
    hub.wake("t");
    assert_eq!(watcher.line().await, "woken");
}
