//! A changed file changes what changed, and nothing else.

use jetbridge_core::{BucketKind, BucketName};
use jetbridge_testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Rig, WITHIN};

fn handler(name: &str, word: &str) -> String {
    format!(
        "  - {{name: {name}, subject: '{name}.>', stream: {name}, durable: d, \
         run: [sh, -c, 'echo {word} >> {name}']}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_starts_stops_and_changes_sections() {
    let a = handler("a", "one");
    let mut rig = Rig::start(&format!("handlers:\n{a}{}", handler("b", "one"))).await;
    rig.append("a.x", "").await;
    rig.append("b.x", "").await;
    rig.wait_lines("a", 1).await;
    rig.wait_lines("b", 1).await;

    rig.rewrite(&format!(
        "buckets: {{config: {{history: 3}}}}\nhandlers:\n{a}{}{}",
        handler("b", "two"),
        handler("c", "one")
    ));
    let reloaded = rig.agent.reload().await.unwrap();
    let names = |ids: &[jetbridge_agent::SectionId]| -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&reloaded.started), ["bucket config (kv)", "handler c"]);
    assert_eq!(names(&reloaded.changed), ["handler b"]);
    assert!(reloaded.stopped.is_empty());
    rig.append("b.y", "").await;
    assert_eq!(rig.wait_lines("b", 2).await, ["one", "two"]);
    let bucket = BucketName::parse("config").unwrap();
    eventually("the bucket is made", WITHIN, async || {
        rig.backend.bucket(BucketKind::Kv, &bucket).await.ok()
    })
    .await;

    rig.rewrite("handlers: {}");
    let problems = rig.agent.reload().await.unwrap_err();
    assert!(problems[0].message().unwrap().ends_with("`handlers` is a list"), "{problems:?}");
    rig.append("a.y", "").await;
    rig.wait_lines("a", 2).await;

    rig.rewrite(&format!("handlers:\n{a}"));
    let reloaded = rig.agent.reload().await.unwrap();
    assert_eq!(names(&reloaded.stopped), ["bucket config (kv)", "handler b", "handler c"]);
    assert_eq!(rig.agent.sections(), 1);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_leaves_the_present_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::start("http: {listen: '127.0.0.1:0'}").await;
    let before = rig.agent.http_address().unwrap();
    rig.rewrite(&format!("http: {{listen: '{}'}}", taken.local_addr().unwrap()));
    assert_eq!(rig.agent.reload().await.unwrap_err().len(), 1);
    assert_eq!(rig.agent.http_address(), Some(before));
    assert!(tokio::net::TcpStream::connect(before).await.is_ok(), "it still listens");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_one_that_is_listened_on() {
    let mut rig = Rig::start("http: {listen: '127.0.0.1:0'}").await;
    let before = rig.agent.http_address().unwrap();
    assert_eq!(rig.agent.http_url(), Some(format!("http://{before}")));
    for (text, status) in [
        // Other settings keep the port that was picked, and so does naming it.
        ("http: {listen: '127.0.0.1:0', token: s}".to_owned(), 401),
        (format!("http: {{listen: '{before}'}}"), 200),
        (format!("http: {{listen: '{before}', token: s}}"), 401),
        (format!("http: {{listen: '0.0.0.0:{}', token: s}}", before.port()), 401),
        (format!("http: {{listen: '{before}', max_body: 1KiB}}"), 200),
    ] {
        rig.rewrite(&text);
        rig.agent.reload().await.unwrap();
        let (answered, _) = crate::http::get(before, "/v1/status", "").await;
        assert_eq!(answered, status, "{text}");
        let port = rig.agent.http_address().unwrap().port();
        assert_eq!(port, before.port(), "{text}");
    }
    // What cannot be had leaves what is there, as it is.
    let cannot = format!("http: {{listen: '203.0.113.1:{}', token: s}}", before.port());
    rig.rewrite(&cannot);
    assert_eq!(rig.agent.reload().await.unwrap_err().len(), 1);
    assert_eq!(crate::http::get(before, "/v1/status", "").await.0, 200);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.rewrite(&format!("http: {{listen: '{other}'}}"));
    rig.agent.reload().await.unwrap();
    assert_eq!(rig.agent.http_address(), Some(other));
    assert!(tokio::net::TcpStream::connect(before).await.is_err(), "nothing listens there");
    assert!(rig.stop().await.0.is_clean());
}

/// What is half asked when the file changes is answered after that, as it was asked.
async fn a_request_under_way_is_not_waited_for(next: impl Fn(u16) -> String) {
    let text = "http: {listen: '127.0.0.1:0'}\nbuckets: {b: {}}";
    let mut rig = Rig::start(text).await;
    let address = rig.agent.http_address().unwrap();
    eventually("everything runs", WITHIN, async || {
        (crate::http::get(address, "/readyz", "").await.0 == 200).then_some(())
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "PUT /v1/kv/b/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                Expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // It is being worked on when it is asked for its body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    rig.rewrite(&format!("http: {}\nbuckets: {{b: {{}}}}", next(address.port())));
    rig.agent.reload().await.unwrap();
    // Whoever comes now is served as the file has it now.
    let now = rig.agent.http_address().unwrap();
    assert_eq!(crate::http::get(now, "/v1/status", "").await.0, 401);
    stream.write_all(b"xy").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_not_waited_for_at_the_same_address() {
    a_request_under_way_is_not_waited_for(|_port| "{listen: '127.0.0.1:0', token: s}".to_owned())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_not_waited_for_when_the_port_is_kept() {
    let next = |port: u16| format!("{{listen: '0.0.0.0:{port}', token: s}}");
    a_request_under_way_is_not_waited_for(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_not_waited_for_at_another_address() {
    let next = |_port: u16| "{listen: '127.0.0.2:0', token: s}".to_owned();
    a_request_under_way_is_not_waited_for(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_is_cut_short_leaves_its_drain_to_the_end() {
    let text = |word: &str| {
        format!(
            "handlers: [{{subject: 'j.>', stream: J, durable: d, run: [sh, -c, \
             'echo begun >> begun; until test -e go; do sleep 0.02; done; echo {word} >> done']}}]"
        )
    };
    let mut rig = Rig::start(&text("one")).await;
    rig.append("j.a", "").await;
    rig.wait_lines("begun", 1).await;
    rig.rewrite(&text("two"));
    let cut = tokio::time::timeout(std::time::Duration::from_millis(100), rig.agent.reload()).await;
    assert!(cut.is_err(), "the changed handler drains");
    std::fs::write(rig.path("go"), "").unwrap();
    let (report, folder) = rig.stop().await;
    assert!(report.is_clean(), "{report:?}");
    let done = std::fs::read_to_string(folder.path().join("done")).unwrap();
    assert_eq!(done, "one\n", "what was under way was finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_does_not_wait_for_the_slowest_section() {
    let slow = |word: &str| {
        format!(
            "  - {{name: slow, subject: 'j.>', stream: J, durable: d, run: [sh, -c, \
             'echo begun >> begun; until test -e go; do sleep 0.02; done; echo {word} >> slow']}}\n"
        )
    };
    let mut rig = Rig::start(&format!("handlers:\n{}{}", slow("one"), handler("b", "one"))).await;
    rig.append("j.a", "").await;
    rig.wait_lines("begun", 1).await;
    rig.append("b.x", "").await;
    rig.wait_lines("b", 1).await;
    let (b, c) = (handler("b", "two"), handler("c", "one"));
    rig.rewrite(&format!("handlers:\n{}{b}{c}", slow("two")));
    let (backend, go) = (std::sync::Arc::clone(&rig.backend), rig.path("go"));
    let (path_b, path_c) = (rig.path("b"), rig.path("c"));
    let others = async {
        let (bus, lines) =
            (backend.bus(), |path| std::fs::read_to_string(path).unwrap_or_default());
        for subject in ["b.y", "c.x"] {
            eventually("a stream keeps the subject", WITHIN, async || {
                let subject = jetbridge_core::Subject::parse(subject).unwrap();
                let message = jetbridge_core::Message::new(subject, "");
                bus.append(message, jetbridge_core::AppendOpts::new()).await.ok()
            })
            .await;
        }
        eventually("the new and the changed run", WITHIN, async || {
            (lines(&path_b) == "one\ntwo\n" && lines(&path_c) == "one\n").then_some(())
        })
        .await;
        std::fs::write(go, "").unwrap();
    };
    let (reloaded, ()) = tokio::join!(rig.agent.reload(), others);
    assert_eq!(reloaded.unwrap().changed.len(), 2);
    assert_eq!(rig.wait_lines("slow", 1).await, ["one"]);
    rig.append("j.b", "").await;
    assert_eq!(rig.wait_lines("slow", 2).await, ["one", "two"]);
    assert!(rig.stop().await.0.is_clean());
}
