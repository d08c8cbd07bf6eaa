//! Real processes that are killed while they append or consume.

use std::collections::BTreeSet;

use super::tests::{Process, message, name, spec};
use super::*;
use crate::child::{self, Child, DEADLINE, say};

/// Not a test of its own: what the children run.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((dir, mut commands)) = child::role() else { return };
    let process = Process::start(&dir).await;
    say("ready");
    while let Some(command) = commands.next_line().await.unwrap() {
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["append", tag] => append_for_ever(&process.bus, tag).await,
            ["consume", how] => consume(&process.bus, how == "ack").await,
            _ => panic!("no such command: {command}"),
        }
    }
}

/// Several callers at once, so that commits are shared; says what has been acknowledged.
async fn append_for_ever(bus: &LocalBus, tag: &str) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4 {
        let (bus, tag) = (bus.clone(), tag.to_owned());
        callers.spawn(async move {
            for number in 0.. {
                let id = format!("{tag}-{caller}-{number}");
                let appended = bus.append(message("s", &id), AppendOpts::new().id(&id)).await;
                say(&format!("{} {id}", appended.unwrap().sequence));
            }
        });
    }
    callers.join_all().await;
}

async fn consume(bus: &LocalBus, acknowledges: bool) {
    let wanted = Consume::new(name("S"), ConsumerName::parse("c").unwrap()).ack_wait(ACK_WAIT);
    let mut deliveries = bus.consume(wanted).await.unwrap();
    let mut held = Vec::new();
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery.unwrap();
        let (sequence, attempt) = (delivery.sequence, delivery.attempt);
        if acknowledges {
            delivery.ack().await.unwrap();
        } else {
            held.push(delivery);
        }
        say(&format!("{sequence} {attempt}"));
    }
}

const ACK_WAIT: Duration = Duration::from_secs(1);

async fn start(dir: &Path) -> Child {
    Child::start(dir, "bus::crash_tests::child").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Process::start(dir.path()).await;
    keeper.bus.create_stream(&spec("S", &["s"])).await.unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..4 {
        let mut children = [start(dir.path()).await, start(dir.path()).await];
        for (number, child) in children.iter_mut().enumerate() {
            child.order(&format!("append {round}{number}")).await;
        }
        for _ in 0..50 {
            for child in &mut children {
                acknowledged.insert(child.line().await);
            }
        }
        for child in children {
            acknowledged.extend(child.kill().await);
        }
    }
    let stored: Vec<StreamMessage> =
        keeper.bus.read_stream(&name("S"), ReadStream::all()).try_collect().await.unwrap();
    let text = |it: &StreamMessage| String::from_utf8(it.message.payload.to_vec()).unwrap();
    let lines: BTreeSet<String> =
        stored.iter().map(|it| format!("{} {}", it.sequence, text(it))).collect();
    // The last line of a killed child may be cut short.
    let missing: Vec<_> = acknowledged.difference(&lines).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let payloads: BTreeSet<String> = stored.iter().map(text).collect();
    assert_eq!(payloads.len(), stored.len(), "nothing is there twice");
    let sequences: Vec<u64> = stored.iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, (1..=u64::try_from(stored.len()).unwrap()).collect::<Vec<_>>());
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_in_hand_comes_again_and_nothing_else() {
    const MESSAGES: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let keeper = Process::start(dir.path()).await;
    keeper.bus.create_stream(&spec("S", &["s"])).await.unwrap();
    for number in 0..MESSAGES {
        keeper.bus.append(message("s", number), AppendOpts::new()).await.unwrap();
    }
    let mut careless = start(dir.path()).await;
    careless.order("consume hold").await;
    let mut held = BTreeSet::new();
    for _ in 0..20 {
        held.insert(careless.line().await);
    }
    held.extend(careless.kill().await);
    let held: BTreeSet<u64> =
        held.iter().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
    let mut workers = [start(dir.path()).await, start(dir.path()).await];
    for worker in &mut workers {
        worker.order("consume ack").await;
    }
    let [one, other] = &mut workers;
    let mut done = BTreeSet::new();
    let work = async {
        while u64::try_from(done.len()).unwrap() < MESSAGES {
            let line = tokio::select! { line = one.line() => line, line = other.line() => line };
            let (sequence, attempt) = line.split_once(' ').unwrap();
            let (sequence, attempt): (u64, u64) =
                (sequence.parse().unwrap(), attempt.parse().unwrap());
            assert!(done.insert(sequence), "{sequence} was acknowledged and came again");
            // The careless one may have claimed a message and been killed before it said so.
            assert!(attempt == 1 + u64::from(held.contains(&sequence)) || attempt == 2, "{line}");
        }
    };
    tokio::time::timeout(DEADLINE, work).await.unwrap();
    assert_eq!(done, (1..=MESSAGES).collect());
    keeper.stop().await;
}
