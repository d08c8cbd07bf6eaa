//! What goes wrong: the exit code, the text, and the hint that helps.

use jetbridge_testkit::{NatsServer, Release, ServerOptions};
use serde_json::Value;

use crate::binary::{Store, finish};

async fn exit_codes_say_what_to_do_next(store: Store) {
    store.does("kv add b --max-value-size 1KiB").await;
    store.does("kv put b k text").await;
    for (code, line) in [
        (1, "kv get b none"),
        (2, "kv get none k"),
        (2, "object get none k"),
        (2, "stream info none"),
        (2, "kv rm none"),
        (2, "pub nobody.keeps.this x -J"),
        (2, "kv del b k j --revision 1"),
        (4, "kv put b k v --if-absent"),
        (4, "kv put b k v --revision 77"),
        (4, "kv incr b k"),
        (4, "kv add b --history 9"),
    ] {
        let err = store.fails(code, line).await;
        assert!(!err.is_empty(), "{line}");
        assert!(code == 1 || err.starts_with("error: "), "{line}: {err}");
    }
    let said = store.feed(&["kv", "put", "b", "k", "-"], &[b'x'; 4096]).await;
    assert_eq!(said.code, 3, "{said:?}");
    let err = store.fails(4, "kv incr b k").await;
    assert!(err.ends_with("\n\nhint: count under another key, or put a number there first\n"));
}

async fn an_absent_bucket_is_told_how_to_make(store: Store) {
    let err = store.fails(2, "kv get none k").await;
    assert!(err.ends_with("\n\nhint: create it with `jetbridge kv add none`\n"), "{err}");
    let err = store.fails(2, "object get none k").await;
    assert!(err.ends_with("\n\nhint: create it with `jetbridge object add none`\n"), "{err}");
}

async fn too_much_on_stdin_is_told_with_the_limit(store: Store) {
    store.does("kv add b").await;
    let status: Value = serde_json::from_str(&store.does("status --json").await).unwrap();
    let max = status["capabilities"]["value_bytes_max"].as_u64().unwrap();
    let bytes = vec![b'x'; usize::try_from(max).unwrap() + 5];
    let (piped, size) = (format!("over {max}"), bytes.len().to_string());
    std::fs::write(store.path("large"), &bytes).unwrap();
    for words in [&["kv", "put", "b", "k", "-"][..], &["pub", "a", "-"]] {
        let mut command = store.command(words);
        command.stdin(std::fs::File::open(store.path("large")).unwrap());
        for (said, size) in
            [(store.feed(words, &bytes).await, &piped), (finish(command, b"").await, &size)]
        {
            assert_eq!(said.code, 3, "{said:?}");
            assert!(said.err.contains(&format!("bytes={size}")), "{said:?}");
            assert!(said.err.contains(&format!("bytes_max={max}")), "{said:?}");
            assert!(said.err.contains("\n\nhint: store it as an object: "), "{said:?}");
        }
    }
}

on_every_store! {
    too_much_on_stdin_is_told_with_the_limit,
    an_absent_bucket_is_told_how_to_make,
    exit_codes_say_what_to_do_next,
}

/// Nobody listens on port 1.
const NOBODY: &str = "nats://127.0.0.1:1";

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let store = Store::at(NOBODY);
    for line in ["kv ls", "status", "pub a b", "sub a", "object ls b"] {
        let err = store.fails(3, line).await;
        assert!(err.starts_with("error: nats.connect: unavailable: "), "{line}: {err}");
        assert!(err.contains("\n  caused by: ") && err.contains("\n\nhint: "), "{line}: {err}");
    }
    let said = store.run(&["doctor"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.text().contains("\nfail  connection  "), "{said:?}");
    assert!(said.text().contains("\n      hint: "), "{said:?}");
    let said = store.run(&["doctor", "--json"]).await;
    let json: Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((said.code, &json["verdict"]), (3, &"fail".into()));
}

/// What is typed, and the first line of the answer behind `error: `.
const BAD_ARGUMENTS: &[(&str, &str)] = &[
    ("kv frob", "unrecognized subcommand 'frob'"),
    ("kv get", "the following required arguments were not provided:"),
    (
        "kv get a.b k",
        "invalid value 'a.b' for '<BUCKET>': '.' is not allowed, only letters, digits, `-` and \
         `_` are",
    ),
    (
        "kv put b k v --ttl 5",
        "invalid value '5' for '--ttl <DURATION>': `5` has no unit; write it as `5s`, `250ms` or \
         `1h30m`",
    ),
    (
        "kv put b k v --ttl 0s",
        "invalid value '0s' for '--ttl <DURATION>': it must be longer than zero",
    ),
    (
        "kv put b k v --if-absent --revision 1",
        "the argument '--if-absent' cannot be used with '--revision <N>'",
    ),
    ("kv add b --history 65", "invalid value '65' for '--history <N>': 65 is not in 1..=64"),
    (
        "kv add b --max-bytes 1XB",
        "invalid value '1XB' for '--max-bytes <SIZE>': `1XB` is not a size; write bytes, or \
         `64KiB`, `1GiB`",
    ),
    (
        "kv expire b k soon",
        "invalid value 'soon' for '<DURATION|never>': `soon` is not a duration; write it as \
         `5s`, `250ms` or `1h30m`",
    ),
    ("kv incr b k much", "invalid value 'much' for '[N]': invalid digit found in string"),
    ("pub a..b x", "invalid value 'a..b' for '<SUBJECT>': a token between dots is empty"),
    ("pub a.* x", "invalid value 'a.*' for '<SUBJECT>': wildcards are not allowed here"),
    ("sub a b", "unexpected argument 'b' found"),
    ("stream add S", "the following required arguments were not provided:"),
    ("reply q", "the following required arguments were not provided:"),
    ("pub a x --id 1", "the following required arguments were not provided:"),
    (
        "pub a x -H novalue",
        "invalid value 'novalue' for '--header <NAME: VALUE>': write it as `Name: value`",
    ),
];

#[tokio::test]
async fn bad_arguments_are_named_with_what_to_write() {
    let store = Store::at("memory:");
    for (line, expected) in BAD_ARGUMENTS {
        let err = store.fails(2, line).await;
        let first = err.lines().next().and_then(|line| line.strip_prefix("error: "));
        assert_eq!(first, Some(*expected), "{line}");
    }
}

#[tokio::test]
async fn what_only_a_store_can_tell_is_told_by_it() {
    let store = Store::at("memory:");
    let err = store.fails(2, "kv get none k --store memory: --context c").await;
    assert!(err.contains("`--store` and `--context` exclude each other"), "{err}");
    let err = store.fails(2, "kv keys b user:*").await;
    assert!(err.ends_with("hint: for the keys that begin with it, write --prefix 'user:'\n"));
    let long = "x".repeat(1025);
    for key in ["", &long] {
        let said = store.run(&["kv", "get", "b", key]).await;
        assert_eq!((said.code, said.out.len()), (2, 0), "{said:?}");
    }
}

#[tokio::test]
async fn errors_are_json_when_values_are() {
    let store = Store::at("memory:");
    let err = store.fails(2, "kv get none k --json").await;
    let error: Value = serde_json::from_str(&err).unwrap();
    let error = &error["error"];
    assert_eq!(error["kind"], "not found");
    assert_eq!(error["facts"]["bucket"], "none");
    assert_eq!(error["hint"], "create it with `jetbridge kv add none`");
    assert_eq!(error["exit"], 2);
    let err = store.fails(2, "--json kv get").await;
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["kind"], "usage");
}

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let store = Store::at("nats://ann:s3cr3t@127.0.0.1:1");
    for line in ["kv ls", "doctor", "doctor --json", "kv ls -vv", "status --json"] {
        let said = store.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(!format!("{}{}", said.text(), said.err).contains("s3cr3t"), "{line}: {said:?}");
    }
}

#[tokio::test]
async fn a_full_disk_behind_stdout_is_a_failure() {
    let store = Store::at("memory:");
    let mut command = store.command(&["status"]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let said = finish(command, b"").await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.starts_with("error: stdout.write: unavailable: "), "{said:?}");
}

const ONLY_ALLOWED: &str = r#"authorization { users: [
    { user: ann, password: secret, permissions: {
        publish: ["allowed.>", "_INBOX.>"], subscribe: ["_INBOX.>"]
    } }
] }"#;

/// The defect: "published", and nothing was.
#[tokio::test]
async fn a_message_that_may_not_be_published_is_a_failure() {
    for release in [Release::Oldest, Release::Newest] {
        let server = NatsServer::start(release, ServerOptions::new().config(ONLY_ALLOWED)).await;
        let store = Store::at(&server.url().replace("nats://", "nats://ann:secret@"));
        store.does("pub allowed.a x --count 10").await;
        for line in ["pub denied.a x", "pub denied.a x --count 10", "pub denied.a x -J"] {
            let err = store.fails(2, line).await;
            assert!(err.contains(": permission denied: ") && err.contains("denied.a"), "{err}");
            assert!(
                err.ends_with("\n\nhint: add it to the user's `publish` permissions\n"),
                "{err}"
            );
            assert!(!err.contains("published "), "{err}");
            assert!(err.lines().count() <= 4, "{err}");
        }
    }
}

#[tokio::test]
async fn a_server_without_jetstream_says_so() {
    for release in [Release::Oldest, Release::Newest] {
        let server = NatsServer::start(release, ServerOptions::new().without_jetstream()).await;
        let store = Store::at(&server.url());
        store.does("pub a x").await;
        for line in ["pub a x -J", "kv ls", "kv get b k", "object ls b", "stream ls"] {
            let err = store.fails(2, line).await;
            assert!(
                err.contains("unsupported: the server runs without JetStream"),
                "{line}: {err}"
            );
            assert!(err.contains("\n\nhint: enable JetStream: "), "{line}: {err}");
        }
    }
}
