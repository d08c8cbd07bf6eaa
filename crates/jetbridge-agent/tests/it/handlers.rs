//! Messages to commands.

use futures_util::StreamExt as _;
use jetbridge_core::{AppendOpts, Headers, Message, ReadStream, StreamName, Subject};
use jetbridge_testkit::eventually;

use crate::rig::{Rig, WITHIN};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_keeps_is_handled_once_each_and_in_order_of_its_key() {
    let rig = Rig::start(
        "handlers:\n  - {subject: 'orders.*', stream: ORDERS, durable: mail, concurrency: 8, \
         order: subject, run: [sh, -c, 'read line; echo \"$JETBRIDGE_SUBJECT $line\" >> done']}",
    )
    .await;
    for number in 0..30 {
        rig.append(&format!("orders.{}", number % 3), &format!("{number}\n")).await;
    }
    let lines = rig.wait_lines("done", 30).await;
    for key in 0..3 {
        let of_key: Vec<usize> = lines
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("orders.{key} ")))
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(of_key, (0..10).map(|n| n * 3 + key).collect::<Vec<_>>());
    }
    let (report, _folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_message_is_not_overtaken_by_those_of_its_key() {
    let rig = Rig::start(
        "handlers:\n  - {subject: 'orders.*', stream: ORDERS, durable: mail, concurrency: 4, \
         order: subject, backoff: 50ms, run: [sh, -c, 'read n; test $n != 1 -o \
         $JETBRIDGE_ATTEMPT = 3 || exit 1; echo $n >> done']}",
    )
    .await;
    for number in 1..=4 {
        rig.append("orders.a", &format!("{number}\n")).await;
    }
    assert_eq!(rig.wait_lines("done", 4).await, ["1", "2", "3", "4"]);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_tried_again_and_becomes_a_dead_letter() {
    let rig = Rig::start(
        "handlers:\n  - {subject: 'jobs.>', stream: JOBS, durable: worker, attempts: 3, \
         backoff: 10ms, run: [sh, -c, 'echo $JETBRIDGE_ATTEMPT >> tries; echo broken >&2; exit 7']}",
    )
    .await;
    rig.append("jobs.a", "payload").await;
    assert_eq!(rig.wait_lines("tries", 3).await, ["1", "2", "3"]);
    let stream = StreamName::parse("JETBRIDGE_DEAD_LETTERS").unwrap();
    let bus = rig.bus();
    let letter = eventually("the dead letter", WITHIN, async || {
        let mut letters = bus.read_stream(&stream, ReadStream::all());
        letters.next().await.map(|letter| letter.unwrap().message)
    })
    .await;
    assert_eq!(letter.subject.as_str(), "jetbridge.dead.JETBRIDGE_DEAD_LETTERS.worker");
    assert_eq!(letter.payload, "payload");
    let header = |name: &str| letter.headers.get(name).unwrap_or_default();
    assert_eq!(header("Jetbridge-Subject"), "jobs.a");
    assert_eq!((header("Jetbridge-Stream"), header("Jetbridge-Sequence")), ("JOBS", "1"));
    assert_eq!(header("Jetbridge-Reason"), "sh ended with exit status: 7: broken");
    let (report, folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("tries")).unwrap(), "1\n2\n3\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_request_is_answered_with_the_output() {
    let rig = Rig::start("handlers: [{subject: ping, run: [sh, -c, 'cat; echo pong']}]").await;
    let (bus, subject) = (rig.bus(), Subject::parse("ping").unwrap());
    let answer = eventually("an answer", WITHIN, async || {
        bus.request(Message::new(subject.clone(), "hello "), WITHIN).await.ok()
    })
    .await;
    assert_eq!(answer.payload, "hello pong\n");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_is_under_way_and_reports_what_it_cannot() {
    let text = |timeout: &str, script: &str| {
        format!(
            "drain_timeout: {timeout}\nhandlers: [{{subject: 'j.>', stream: J, durable: d, \
             run: [sh, -c, 'echo begun >> begun; {script}; echo done >> done']}}]"
        )
    };
    let rig = Rig::start(&text("30s", "until test -e go; do sleep 0.02; done")).await;
    rig.append("j.a", "").await;
    rig.wait_lines("begun", 1).await;
    let go = rig.path("go");
    let stopping = rig.stop();
    let (stopped, ()) = tokio::join!(stopping, async {
        tokio::task::yield_now().await;
        std::fs::write(go, "").unwrap();
    });
    let (report, folder) = stopped;
    assert!(report.is_clean(), "{report:?}");
    assert!(folder.path().join("done").exists(), "the handler was finished");

    let rig = Rig::start(&text("200ms", "sleep 600")).await;
    rig.append("j.a", "").await;
    rig.wait_lines("begun", 1).await;
    let (report, folder) = rig.stop().await;
    let abandoned: u64 = report.sections.values().map(|drained| drained.abandoned).sum();
    assert_eq!(abandoned, 1, "{report:?}");
    assert!(!report.is_clean() && !folder.path().join("done").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_like_names_are_all_kept_and_a_lost_stream_is_made_again() {
    let rig = Rig::start(
        "handlers:\n  - {name: a.b, subject: 'j.>', stream: J, durable: one, attempts: 1, run: 'false'}\n  \
         - {name: a_b, subject: 'j.>', stream: J, durable: two, attempts: 1, run: 'false'}",
    )
    .await;
    let stream = StreamName::parse("JETBRIDGE_DEAD_LETTERS").unwrap();
    let bus = rig.bus();
    let two_letters = async || {
        let letters: Vec<_> = bus.read_stream(&stream, ReadStream::all()).collect().await;
        (letters.len() == 2).then_some(())
    };
    rig.append("j.a", "").await;
    eventually("both letters", WITHIN, two_letters).await;
    assert!(bus.delete_stream(&stream).await.unwrap());
    rig.append("j.b", "").await;
    eventually("both letters, in a new stream", WITHIN, two_letters).await;
    assert!(rig.stop().await.0.is_clean());
}

/// A message may be as large as the store allows, and its dead letter with all that is known of it
/// is larger: as much is kept as fits, once, and the message is not tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_over_the_limit_is_kept_without_what_does_not_fit() {
    let rig = Rig::start(
        "handlers:\n  - {subject: 'jobs.>', stream: JOBS, durable: worker, attempts: 1, \
         run: [sh, -c, 'echo tried >> tries; exit 7']}",
    )
    .await;
    let limit = usize::try_from(rig.backend.capabilities().value_bytes_max).unwrap();
    let (bus, dead) = (rig.bus(), StreamName::parse("JETBRIDGE_DEAD_LETTERS").unwrap());
    rig.append("jobs.first", "").await;
    let own = Headers::new().with("Trace", &"x".repeat(2000)).unwrap();
    for (subject, bytes, headers) in
        [("jobs.headers", limit - 2100, own), ("jobs.payload", limit - 20, Headers::new())]
    {
        let message = Message::new(Subject::parse(subject).unwrap(), vec![b'p'; bytes]);
        bus.append(message.headers(headers), AppendOpts::new()).await.unwrap();
    }
    let letters = eventually("all three letters", WITHIN, async || {
        let letters: Vec<_> = bus.read_stream(&dead, ReadStream::all()).collect().await;
        (letters.len() == 3).then_some(letters)
    })
    .await;
    let letters: Vec<Message> = letters.into_iter().map(|it| it.unwrap().message).collect();
    let headers = &letters[1].headers;
    assert_eq!(headers.get("Jetbridge-Subject"), Some("jobs.headers"));
    assert_eq!(headers.get("Jetbridge-Headers-Left-Out"), Some("1"));
    assert_eq!((headers.get("Trace"), letters[1].payload.len()), (None, limit - 2100));
    assert_eq!((letters[2].headers.len(), letters[2].payload.len()), (0, limit - 20));
    let (report, folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("tries")).unwrap().lines().count(), 3);
}
