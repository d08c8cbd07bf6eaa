use std::fs;

use super::*;
use crate::handler::{Order, Source, Target};
use jetbridge::template::{Missing, Reload};

/// Reads the texts as files `0.yml`, `1.yml`, …; problems come without their folder.
fn read(texts: &[&str]) -> Result<UpFile, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        (0..texts.len()).map(|number| folder.path().join(format!("{number}.yml"))).collect();
    for (path, text) in paths.iter().zip(texts) {
        fs::write(path, text).unwrap();
    }
    let prefix = format!("{}/", folder.path().display());
    UpFile::read(&paths, &Environment::from_iter([("TOKEN", "s3cr3t")])).map_err(|problems| {
        problems
            .iter()
            .map(|problem| problem.message().unwrap_or_default().replace(&prefix, ""))
            .collect()
    })
}

#[track_caller]
fn check_problem(text: &str, expected: &str) {
    assert_eq!(read(&[text]).unwrap_err(), [expected], "{text}");
}

#[test]
fn the_sections_of_the_design_are_read() {
    let file = read(&["
http: {listen: 127.0.0.1:4280, token: '${TOKEN}'}
drain_timeout: 5s
buckets:
  config: {kind: kv, history: 5, ttl: 24h, replicas: 3, storage: file, max_bytes: 1GiB}
  assets: {kind: object}
  plain:
handlers:
  - {subject: 'orders.>', queue: workers, stream: ORDERS, durable: mailer, run: [./send-mail],
     concurrency: 4, order: 'header:Customer', timeout: 5s, attempts: 3, backoff: 1s..1m}
  - {subject: ping, url: 'http://127.0.0.1/x', name: pinger}
"])
    .unwrap();
    assert_eq!(file.drain_timeout(), Duration::from_secs(5));
    assert_eq!(file.http.unwrap().token.unwrap().expose(), "s3cr3t");
    let names: Vec<&str> = file.buckets.iter().map(|bucket| bucket.name.as_str()).collect();
    assert_eq!(names, ["config", "assets", "plain"]);
    let spec = &file.buckets[0].spec;
    assert_eq!((spec.history, spec.replicas, spec.max_bytes), (5, 3, Some(1 << 30)));
    assert_eq!(spec.max_age, Some(Duration::from_secs(86_400)));
    let mailer = &file.handlers[0];
    assert_eq!((mailer.name.as_str(), mailer.concurrency, mailer.attempts), ("mailer", 4, 3));
    assert_eq!(mailer.order, Order::Header("Customer".to_owned()));
    assert_eq!(mailer.backoff, (Duration::from_secs(1), Duration::from_secs(60)));
    assert!(matches!(&mailer.source, Source::Stream { stream, .. } if stream.as_str() == "ORDERS"));
    assert!(matches!(&mailer.target, Target::Run { command, .. } if command == &["./send-mail"]));
    assert_eq!(file.handlers[1].source, Source::Subject { queue: None });
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check_problem("bukets: {}", "0.yml:1:1: there is no section `bukets`");
    check_problem("buckets:\n  b: {histroy: 5}", "0.yml:2:7: unknown key `histroy`");
    check_problem("buckets:\n  b: {history: 99}", "0.yml:2:6: `history` is 1 to 64, not 99");
    check_problem("handlers: [{subject: a}]", "0.yml:1:12: a handler has either `run` or `url`");
    check_problem(
        "handlers: [{subject: a, stream: S, run: x}]",
        "0.yml:1:12: a handler with `stream` needs `durable`",
    );
    check_problem("handlers: [{subject: a, run: x, order: up}]", "0.yml:1:12: this is no order");
    check_problem(
        "http: {listen: '0.0.0.0:80'}",
        "0.yml:1:7: an address that other machines can reach needs a token",
    );
}

#[test]
fn a_template_is_read_with_its_paths_beside_the_file() {
    let file = read(&["
templates:
  - {from: [base.yml, /etc/prod.yml], to: /etc/app/config.yml, mode: '0640',
     check: [app, --check, '{}'], reload: [systemctl, reload, app], wait: 200ms..5s}
  - {name: second, from: t.yml, to: out.yml, reload: {signal: HUP, pid_file: pid}, backup: 3,
     missing: null, secret: [secrets], timeout: 5s}
"])
    .unwrap();
    let [first, second] = &file.templates[..] else { panic!("two: {:?}", file.templates) };
    assert_eq!(first.name, "/etc/app/config.yml");
    assert!(first.render.from[0].is_absolute() && first.render.from[0].ends_with("base.yml"));
    assert_eq!(first.render.from[1], Path::new("/etc/prod.yml"));
    assert_eq!((first.render.mode, first.render.backups), (Some(0o640), 0));
    assert_eq!(first.render.wait.min, Duration::from_millis(200));
    assert_eq!((second.name.as_str(), second.render.backups), ("second", 3));
    assert!(
        matches!(&second.render.reload, Some(Reload::Signal { pid_file, .. }) if pid_file.ends_with("pid"))
    );
    assert_eq!(second.render.options.missing, Missing::Null);
    assert_eq!(second.render.command_timeout, Duration::from_secs(5));
}

#[test]
fn what_a_bucket_keeps_secret_no_template_shows() {
    let file = read(&[
        "templates: [{from: a, to: b, secret: [mine]}, {from: a, to: c}]",
        "buckets: {vault: {secret: true}, files: {kind: object, secret: true}, open: {}}",
    ])
    .unwrap();
    let secrets: Vec<Vec<&str>> = file
        .templates
        .iter()
        .map(|template| template.secret.iter().map(String::as_str).collect())
        .collect();
    assert_eq!(secrets, [vec!["files", "mine", "vault"], vec!["files", "vault"]]);
}

#[test]
fn what_is_wrong_with_a_template_is_said() {
    let one = |more: &str| format!("templates: [{{from: a, to: b{more}}}]");
    check_problem(&one(", mode: rw"), "0.yml:1:13: `mode` is written in octal, as \"0640\"");
    check_problem(
        &one(", wait: 2s..1s"),
        "0.yml:1:13: the first time of `wait` is longer than the second",
    );
    check_problem(&one(", check: []"), "0.yml:1:13: `check` is a program and its arguments");
    check_problem("templates: [{from: [], to: b}]", "0.yml:1:13: `from` names no file");
    check_problem(
        "templates: [{from: b, to: b}]",
        "0.yml:1:13: `to` is one of `from`: a template is never written over",
    );
    let twice = read(&["templates: [{from: a, to: b}, {name: x, from: a, to: b}]"]).unwrap_err();
    assert!(twice[0].starts_with("two templates write ") && twice[0].ends_with('b'), "{twice:?}");
    let odd = read(&[&one(", signal: X")]).unwrap_err();
    assert!(odd[0].contains("unknown key `signal`"), "{odd:?}");
}

#[test]
fn every_problem_of_every_file_is_found() {
    let problems = read(&["a: 1\nb: 2", "drain_timeout: soon\nhandlers: {}"]).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn files_are_joined_and_contradictions_named() {
    let file = read(&[
        "buckets: {a: {history: 2}}\nhandlers: [{subject: a, run: x}]",
        "buckets: {b: {}, a: {history: 2}}\nhandlers: [{subject: b, run: x}]",
    ])
    .unwrap();
    assert_eq!((file.buckets.len(), file.handlers.len()), (2, 2));
    let problems = read(&["buckets: {a: {history: 2}}", "buckets: {a: {history: 3}}"]);
    assert_eq!(problems.unwrap_err(), ["1.yml:1:15: `history` has another value at 0.yml:1:15"]);
    let problems = read(&["handlers: [{subject: a, run: x}, {subject: a, run: y}]"]);
    assert_eq!(problems.unwrap_err(), ["two handlers are called `a`"]);
}

#[test]
fn what_is_wrong_with_http_is_said_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    for (text, words) in [
        ("http: {listen: '0.0.0.0:0'}", "needs a token"),
        ("http: {listen: 'localhost'}", "`localhost` is nowhere to listen: "),
        ("http: {listen: 'no-such-name.invalid:4280'}", "nowhere to listen: "),
        ("http:\n  listen: '127.0.0.1:0'\n  tokens: {r: {token: x}}", "without a `token`"),
        (
            "http:\n  listen: '127.0.0.1:0'\n  token: s3cr3t\n  tokens: {r: {token: s3cr3t}}",
            "the same as another",
        ),
        ("http:\n  listen: '127.0.0.1:0'\n  token: s\n  tokens: {r: {read: [a]}}", "is empty"),
        (
            "http:\n  listen: '127.0.0.1:0'\n  tls: {cert: none.pem, key: none.key}",
            "cannot be read",
        ),
        ("http: {listen: '127.0.0.1:0', names: ['http://jet.example']}", "no name of a machine"),
        ("http: {listen: '127.0.0.1:0', names: ['jet.example:80']}", "no name of a machine"),
        ("http: {listen: '127.0.0.1:0', timeout: 0s}", "more than nothing"),
        ("http: {listen: '127.0.0.1:0', max_body: soon}", "soon"),
        ("buckets: {b: {http: some}}", "none, read, write"),
    ] {
        fs::write(&path, text).unwrap();
        let problems = UpFile::read(std::slice::from_ref(&path), &Environment::default());
        let problem = problems.unwrap_err().remove(0);
        let shown = format!("{problem:?}");
        assert!(shown.contains(words) && shown.contains("up.yml:"), "{text}\n{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

#[test]
fn a_name_is_where_it_resolves_to() {
    let listen = |text: &str| {
        let file = read(&[&format!("http: {{listen: '{text}'}}")]).unwrap();
        file.http.unwrap().listen.to_string()
    };
    assert_eq!(listen("localhost:4280"), "127.0.0.1:4280");
    assert_eq!(listen("127.0.0.1:4280"), "127.0.0.1:4280");
    assert_eq!(listen("[::1]:4280"), "[::1]:4280");
    // What others can reach needs a token by whatever name.
    let problems = read(&["http: {listen: '0.0.0.0:4280'}"]).unwrap_err();
    assert!(problems[0].contains("needs a token"), "{problems:?}");
}
