//! Real processes, and what becomes of the others when one is killed.
//!
//! A child is this test binary once more, running only [`child`], told by a variable which
//! directory to join. It takes commands on its standard input, one a line, and reports on its
//! standard output.

use std::path::Path;
use std::process::Stdio;

use futures_util::StreamExt as _;
use jetbridge_core::{GroupName, Outcome, Pattern, Received, Subject};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const CHILD_DIRECTORY: &str = "JETBRIDGE_TEST_HUB";
/// Marks our lines among those of the test harness.
const MARK: &str = "hub:";

struct Child {
    process: tokio::process::Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    async fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hub::crash_tests::child", "--nocapture"])
            .env(CHILD_DIRECTORY, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut child = Self { process, stdin, lines };
        assert_eq!(child.line().await, "joined");
        child
    }

    async fn line(&mut self) -> String {
        let line = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the child lives");
                if let Some(line) = line.strip_prefix(MARK) {
                    return line.to_owned();
                }
            }
        };
        tokio::time::timeout(DEADLINE, line).await.expect("a line in time")
    }

    /// Sends a command and returns the answer.
    async fn tell(&mut self, command: &str) -> String {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.line().await
    }

    /// As by `kill -9`.
    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// Not a test of its own: what the children run. Without the variable there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "how a parent tells its child what to do")]
async fn child() {
    let Ok(dir) = std::env::var(CHILD_DIRECTORY) else { return };
    let tasks = Tasks::new();
    let hub = Hub::join(Path::new(&dir), tasks.clone()).await.unwrap();
    say("joined");
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await.unwrap() {
        obey(&hub, &tasks, &command).await;
    }
}

fn say(line: &str) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
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
    let owner = Child::start(dir.path()).await;
    let mut second = Child::start(dir.path()).await;
    let mut third = Child::start(dir.path()).await;
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
    assert_eq!(answer.payload, second.process.id().unwrap().to_string());
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
    let mut owner = Child::start(dir.path()).await;
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
        let mut child = Child::start(dir.path()).await;
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
    let (mut slow, mut quick) = (Child::start(dir.path()).await, Child::start(dir.path()).await);
    assert_eq!(slow.tell("sub large").await, "ok");
    assert_eq!(quick.tell("sub n").await, "ok");
    let pid = rustix::process::Pid::from_raw(i32::try_from(slow.process.id().unwrap()).unwrap());
    let pid = pid.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // More than the kernel and the connection's buffer hold.
    const LARGE: usize = 64;
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
    let owner = Child::start(dir.path()).await;
    let mut watcher = Child::start(dir.path()).await;
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
