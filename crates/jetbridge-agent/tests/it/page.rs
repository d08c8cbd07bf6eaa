//! The status page over HTTP: what a browser is given and may do, who may see it, and dead
//! letters that are sent again.

use std::net::SocketAddr;
use std::sync::Arc;

use jetbridge_core::{Backend, BucketName, BucketSpec, Key, Open, PutOpts};
use jetbridge_testkit::eventually;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::api::on_every_store;
use crate::rig::{Rig, WITHIN};

on_every_store!(
    a_browser_may_run_nothing_but_the_page_itself,
    who_follows_sees_what_changes_and_does_not_hold_up_the_end,
    a_dead_letter_is_looked_at_and_sent_again
);

/// All that a request is answered with; `more` are header fields.
async fn ask(address: SocketAddr, method: &str, path: &str, more: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = match more.iter().any(|line| line.starts_with("Host:")) {
        true => String::new(),
        false => format!("Host: {address}\r\n"),
    };
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn a_browser_may_run_nothing_but_the_page_itself(backend: Arc<dyn Backend>) {
    let rig = Rig::start_on(
        backend,
        tempfile::tempdir().unwrap(),
        "http: {listen: '127.0.0.1:0'}\nbuckets: {config: {max_bytes: 1MiB}}\n\
         limiters: {api: {period: 1h, burst: 3}}",
    )
    .await;
    let address = rig.agent.http_address().unwrap();
    let page = eventually("everything runs", WITHIN, async || {
        let page = ask(address, "GET", "/", &[]).await;
        // What a limiter has left is not waited for long.
        let is_known = !page.contains("not known");
        (is_known && page.contains("Everything runs")).then_some(page)
    })
    .await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for line in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "cache-control: no-store",
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    for words in ["config (kv)", "0 of 3", "0 B of 1.0 MiB", "<noscript><meta http-equiv"] {
        assert!(body.contains(words), "{words} is not in {body}");
    }
    // A name that somebody lets lead here is not this machine's.
    assert_eq!(status(&ask(address, "GET", "/", &["Host: rebound.example:80"]).await), 421);
    assert_eq!(status(&ask(address, "GET", "/", &["Host: localhost:80"]).await), 200);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_what_the_browser_asks_its_user_for() {
    let rig = Rig::start("http: {listen: '127.0.0.1:0', token: s3cr3t}").await;
    let address = rig.agent.http_address().unwrap();
    for path in ["/", "/events/page", "/dead/JETBRIDGE_DEAD_LETTERS"] {
        let answer = ask(address, "GET", path, &[]).await;
        assert_eq!(status(&answer), 401, "{path}");
        assert!(answer.to_lowercase().contains("www-authenticate: basic realm="), "{answer}");
    }
    let basic = "Authorization: Basic bWU6czNjcjN0";
    assert_eq!(status(&ask(address, "GET", "/", &[basic]).await), 200);
    assert_eq!(status(&ask(address, "GET", "/", &["Authorization: Bearer s3cr3t"]).await), 200);
    assert!(rig.stop().await.0.is_clean());
}

/// Reads events until one holds `words`.
async fn event(lines: &mut tokio::io::Lines<BufReader<TcpStream>>, words: &str) {
    let heard = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(words) {
                return;
            }
        }
        panic!("the events ended without {words}");
    };
    tokio::time::timeout(WITHIN, heard).await.unwrap();
}

async fn who_follows_sees_what_changes_and_does_not_hold_up_the_end(backend: Arc<dyn Backend>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.t"), "v: (( nats \"kv:config/v\" || 1 ))\n").unwrap();
    let text = "http: {listen: '127.0.0.1:0'}\nbuckets: {config: {}}\n\
                templates: [{from: a.t, to: a.yml, wait: '0s..0s'}]";
    let rig = Rig::start_on(backend, folder, text).await;
    let mut stream = TcpStream::connect(rig.agent.http_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /events/page HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    event(&mut lines, "Everything runs").await;
    let config = BucketName::parse("config").unwrap();
    let kv = rig.backend.kv(&config, Open::ensure(BucketSpec::default())).await.unwrap();
    kv.put(&Key::parse("v").unwrap(), "<b>".into(), PutOpts::new()).await.unwrap();
    event(&mut lines, "<ins>+v: &lt;b&gt;</ins>").await;
    let begun = std::time::Instant::now();
    assert!(rig.stop().await.0.is_clean());
    assert!(begun.elapsed() < WITHIN, "the follower was let go");
    while lines.next_line().await.is_ok_and(|line| line.is_some()) {}
}

async fn a_dead_letter_is_looked_at_and_sent_again(backend: Arc<dyn Backend>) {
    let rig = Rig::start_on(
        backend,
        tempfile::tempdir().unwrap(),
        "http: {listen: '127.0.0.1:0'}\nhandlers: [{subject: 'j.>', stream: J, durable: d, \
         attempts: 1, run: [sh, -c, 'test -e mended && cat >> done || { echo no paper >&2; exit 1; }']}]",
    )
    .await;
    let address = rig.agent.http_address().unwrap();
    rig.append("j.a", "<i>chair</i>").await;
    let place = "/dead/JETBRIDGE_DEAD_LETTERS";
    let page = eventually("the letter", WITHIN, async || {
        let page = ask(address, "GET", place, &[]).await;
        page.contains("no paper").then_some(page)
    })
    .await;
    for words in ["&lt;i&gt;chair&lt;/i&gt;", "<h3>j.a</h3>", "Send again", "no paper"] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    std::fs::write(rig.path("mended"), "").unwrap();
    let send = format!("{place}/1");
    let own = format!("Origin: http://{address}");
    for (foreign, expected) in [
        (&[][..], 403),
        (&["Origin: http://evil.example"], 403),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (&[&*own][..], 303),
    ] {
        assert_eq!(status(&ask(address, "POST", &send, foreign).await), expected, "{foreign:?}");
    }
    assert_eq!(status(&ask(address, "GET", &send, &[]).await), 405, "looking sends nothing");
    eventually("it is handled", WITHIN, async || {
        (rig.lines("done") == ["<i>chair</i>"]).then_some(())
    })
    .await;
    let page = ask(address, "GET", &format!("{place}?sent=1"), &[]).await;
    assert!(page.contains("Letter 1 was sent again.") && page.contains(" sent again <time"));
    let gone = ask(address, "POST", &format!("{place}/99"), &[&own]).await;
    assert!(status(&gone) == 502 && gone.contains("this letter is gone"), "{gone}");
    // Streams that are not for dead letters are nobody's business here.
    for path in ["/dead/J", "/dead/OTHER"] {
        assert_eq!(status(&ask(address, "GET", path, &[]).await), 404);
        assert_eq!(status(&ask(address, "POST", &format!("{path}/1"), &[&own]).await), 404);
    }
    assert!(rig.stop().await.0.is_clean());
}
