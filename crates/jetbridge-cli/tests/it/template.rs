//! `template`: files in, a document out, on every store.

use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use crate::binary::{Said, Store, finish};

on_every_store!(
    values_of_a_bucket_are_printed_and_errors_say_where,
    a_value_is_explained_down_to_its_revision,
);

async fn values_of_a_bucket_are_printed_and_errors_say_where(store: Store) {
    store.does("kv add config").await;
    store.does("kv put config port 5432").await;
    let base = "# kept\nport: (( nats \"kv:config/port\" ))\n";
    std::fs::write(store.path("base.yml"), base).unwrap();
    std::fs::write(store.path("over.yml"), "b: (( grab port ))\na: 1\n").unwrap();
    let merged = store.does("template merge base.yml over.yml").await;
    assert_eq!(merged, "# kept\nport: \"5432\"\nb: \"5432\"\na: 1\n");
    let graft = store.does("template merge --style graft --prune b base.yml over.yml").await;
    assert!(graft.starts_with("a: 1\n") && !graft.contains("kept"), "{graft}");
    let redacted = store.does("template merge --redact base.yml").await;
    assert_eq!(redacted, "# kept\nport: REDACTED\n");
    let said = store.feed(&["template", "json", "-"], b"a: [1, x]\n").await;
    assert_eq!((said.code, said.text().as_str()), (0, "{\"a\":[1,\"x\"]}\n"));

    let bad = "a: (( nats \"kv:config/none\" ))\nb: (( grabb port ))\nc: (( nats \"kv:no/k\" ))\n";
    std::fs::write(store.path("bad.yml"), bad).unwrap();
    let error = store.fails(2, "template merge base.yml bad.yml").await;
    for line in [
        "3 error(s) detected:\n - $.a: failed to get key 'none' from store 'config': ",
        " - $.b: (( grabb )) operator not defined; did you mean (( grab ))?\n",
        " - $.c: failed to access KV store 'no': ",
        " --> bad.yml:2:4\n  |\n2 | b: (( grabb port ))\n",
    ] {
        assert!(error.contains(line), "{line} is not in {error}");
    }
}

async fn a_value_is_explained_down_to_its_revision(store: Store) {
    for line in ["kv add config", "kv put config port 1", "kv put config port 5432"] {
        store.does(line).await;
    }
    store.does("kv add secrets").await;
    store.does("kv put secrets api hunter2").await;
    let base = "db:\n  port: 1\n  url: (( concat \"db:\" db.port ))\n";
    let over = "db:\n  port: (( nats \"kv:config/port\" ))\nkey: (( nats \"kv:secrets/api\" ))\n";
    std::fs::write(store.path("base.yml"), base).unwrap();
    std::fs::write(store.path("over.yml"), over).unwrap();
    let said = store.does("template explain db.url base.yml over.yml").await;
    for line in [
        "path            $.db.url\n",
        "value           db:5432\n",
        "from            base.yml:3:8\n",
        "operator        (( concat \"db:\" db.port ))\n",
        "reads           $.db.port\n",
        "reads           kv config/port of the default store, revision 2 of 20",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let said = store.does("template explain db.port base.yml over.yml").await;
    assert!(said.contains("overrode        base.yml:2:9\n"), "{said}");
    assert!(said.contains("from            over.yml:2:9\n"), "{said}");
    let masked = store.does("template explain --secret secrets key base.yml over.yml").await;
    assert!(
        masked.contains("value           \"***\"\n") && !masked.contains("hunter2"),
        "{masked}"
    );
    let error = store.fails(2, "template explain db.none base.yml").await;
    assert!(error.starts_with("1 error(s) detected:\n - `$.db.none` could not be"), "{error}");
}

#[tokio::test]
async fn fan_merges_one_file_under_every_document() {
    let store = Store::at("memory:");
    std::fs::write(store.path("source.yml"), "a: 1\nb: (( grab c ))\n").unwrap();
    std::fs::write(store.path("targets.yml"), "c: 2\n---\nc: 3\na: 4\n").unwrap();
    let said = store.does("template fan source.yml targets.yml").await;
    assert_eq!(said, "---\na: 1\nb: 2\nc: 2\n---\na: 4\nb: 3\nc: 3\n");
    let said = store.feed(&["template", "fan", "source.yml"], b"c: 5\n").await;
    assert_eq!((said.code, said.text().as_str()), (0, "---\na: 1\nb: 5\nc: 5\n"));
    let error = store.fails(2, "template fan targets.yml source.yml").await;
    assert!(error.contains("targets.yml: holds 2 YAML documents"), "{error}");
    let said = store.does("template fan -m targets.yml").await;
    assert_eq!(said, "---\nc: 3\na: 4\n");
}

#[tokio::test]
async fn diff_compares_values_and_exits_with_1_if_they_differ() {
    let store = Store::at("memory:");
    std::fs::write(store.path("a.yml"), "a: 1\nl: [x, y]\nm: {k: v}\ng: 1\n").unwrap();
    std::fs::write(
        store.path("same.yml"),
        "# other\nm: {\"k\": 'v'}\nl:\n- x\n- \"y\"\na: 1.0\ng: 1\n",
    )
    .unwrap();
    std::fs::write(store.path("b.yml"), "a: 2\nl: [y, z]\nm: [1]\nn: 1\n").unwrap();
    assert_eq!(store.does("template diff a.yml same.yml").await, "");
    let said = store.run(&["template", "diff", "a.yml", "b.yml"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    for block in [
        "(root level)\n  - removed:\n    - g: 1\n",
        "(root level)\n  + added:\n    + n: 1\n",
        "a\n  ± value change\n    - 1\n    + 2\n",
        "l\n  - removed:\n    - - x\n",
        "m\n  ± type change from map to list\n",
    ] {
        assert!(said.text().contains(block), "{block} is not in {}", said.text());
    }
    let json = store.run(&["--json", "template", "diff", "a.yml", "b.yml"]).await;
    assert!(
        json.text().contains("{\"change\":\"value\",\"from\":\"1\\n\",\"path\":\"a\""),
        "{json:?}"
    );
}

#[tokio::test]
async fn refs_lists_what_can_be_read() {
    let store = Store::at("memory:");
    let text = "e: prod\na: (( nats \"kv:config/port\" || 1 ))\n\
                b: (( nats (concat \"obj:configs/\" e \".yml\") ))\n\
                c: (( nats (concat \"kv:x/\" a) ))\n\
                d: (( nats@eu \"kv:config/port\" ))\n";
    std::fs::write(store.path("t.yml"), text).unwrap();
    let said = store.does("template refs t.yml").await;
    let words: Vec<Vec<&str>> =
        said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1][..4], ["$.a", "kv", "config", "port"], "{said}");
    assert_eq!(words[2][..4], ["$.b", "object", "configs", "prod.yml"], "{said}");
    assert!(words[2].ends_with(&["computed"]), "{said}");
    assert_eq!(words[3][..4], ["$.c", "?", "?", "?"], "{said}");
    assert_eq!(words[4][..5], ["$.d", "kv", "config", "port", "@eu"], "{said}");
}

/// What `refs --permissions` prints is enough to read it all, and no more than that.
async fn permissions_are_enough(release: Release) {
    let text = "a: (( nats \"kv:config/a\" ))\nb: (( nats \"kv:config/b\" || 1 ))\n\
                c: (( nats \"obj:assets/c\" ))\n";
    let some = Store::at("nats://user:secret@127.0.0.1:4222");
    std::fs::write(some.path("t.yml"), text).unwrap();
    let block = some.does("template refs --permissions t.yml").await;
    let options = ServerOptions::new().config(&format!(
        "accounts {{ A {{ jetstream: enabled, users: [\n{{ user: admin, password: secret }}\n\
         {{ user: user, password: secret\n{block} }}\n] }} }}"
    ));
    let server = NatsServer::start(release, options).await;
    let as_user = |user: &str| server.url().replace("nats://", &format!("nats://{user}:secret@"));
    let admin = Store::at(&as_user("admin"));
    for line in ["kv add config", "kv put config a 1", "object add assets", "kv add other"] {
        admin.does(line).await;
    }
    std::fs::write(admin.path("c"), vec![b'c'; 300_000]).unwrap();
    admin.does("object put assets c").await;
    let user = Store::at(&as_user("user"));
    std::fs::write(user.path("t.yml"), text).unwrap();
    let said = user.does("template merge t.yml").await;
    assert!(said.starts_with("a: \"1\"\nb: 1\nc: ccc"), "{}", &said[..40]);
    std::fs::write(user.path("other.yml"), "a: (( nats \"kv:other/a\" || 1 ))\n").unwrap();
    let error = user.fails(2, "template merge other.yml").await;
    assert!(error.contains("'other': ") && error.contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_of_refs_are_enough_on_the_oldest_server() {
    permissions_are_enough(Release::Oldest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_of_refs_are_enough_on_the_newest_server() {
    permissions_are_enough(Release::Newest).await;
}

#[tokio::test]
async fn under_other_names_it_works_as_those_programs_do() {
    let store = Store::at("memory:");
    std::fs::write(store.path("b.yml"), "b: \"yes\"\na: [1]\n").unwrap();
    for name in ["spruce", "graft"] {
        let run = async |words: &[&str]| -> Said { finish(store.linked(name, words), b"").await };
        let said = run(&["merge", "b.yml"]).await;
        assert_eq!((said.code, said.text().as_str()), (0, "a:\n- 1\nb: \"yes\"\n\n"));
        let said = run(&["merge", "none.yml"]).await;
        assert_eq!(
            (said.code, said.err.as_str()),
            (2, "Error reading file none.yml: open none.yml: no such file or directory\n")
        );
        assert_eq!(run(&["merge", "--nonsense"]).await.code, 1);
        assert_eq!(run(&["nonsense"]).await.code, 1);
        assert_eq!(run(&[]).await.code, 1);
        assert_eq!(run(&["diff", "b.yml", "b.yml"]).await.code, 0);
        let version = run(&["-v"]).await;
        assert!(version.code == 0 && version.err.starts_with(name), "{version:?}");
        let said = run(&["merge"]).await;
        assert_eq!(said.code, 2);
        assert!(said.err.starts_with("Error reading STDIN: no data found."), "{said:?}");
        let said = finish(
            {
                let mut c = store.linked(name, &["json"]);
                c.stdin(std::process::Stdio::piped());
                c
            },
            b"1: a\n",
        )
        .await;
        assert_eq!(said.text(), "{\"1\":\"a\"}\n");
        std::fs::write(store.path("keys.yml"), "1: a\n").unwrap();
        assert_eq!(run(&["json", "--strict", "keys.yml"]).await.code, 2);
    }
}

#[tokio::test]
async fn flags_and_variables_of_spruce_are_heard() {
    let store = Store::at("memory:");
    let base = "l: [{id: a, v: 1}, {id: b, v: 1}]\nn: [1]\na: (( grab n.0 ))\nf: (( file \"note.txt\" ))\n";
    for (name, text) in [
        ("base.yml", base),
        ("over.yml", "l: [{id: b, v: 2}]\nn: [2]\n"),
        ("patch.yml", "- {type: remove, path: /f}\n"),
        ("two.yml", "x: 1\n---\ny: 2\n"),
        ("note.txt", "here"),
        ("deep/note.txt", "hi"),
    ] {
        std::fs::create_dir_all(store.path("deep")).unwrap();
        std::fs::write(store.path(name), text).unwrap();
    }
    for name in ["spruce", "graft"] {
        let run = async |variable: (&str, &str), line: &str, stdin: &[u8]| -> String {
            let mut command = store.linked(name, &line.split(' ').collect::<Vec<_>>());
            command.env(variable.0, variable.1).stdin(std::process::Stdio::piped());
            let said = finish(command, stdin).await;
            assert_eq!(said.code, 0, "{name} {line}: {said:?}");
            said.text()
        };
        let none = ("X", "");
        for (variable, line, stdin, expected) in [
            (none, "merge --skip-eval base.yml", "", "a: (( grab n.0 ))\n"),
            (
                none,
                "merge --skip-eval --prune f --prune l base.yml",
                "",
                "a: (( grab n.0 ))\nn:\n- 1\n\n",
            ),
            (none, "merge --cherry-pick a base.yml over.yml", "", "a: 2\n\n"),
            (
                none,
                "merge --fallback-append --cherry-pick n base.yml over.yml",
                "",
                "n:\n- 1\n- 2\n\n",
            ),
            (none, "merge --go-patch --cherry-pick a base.yml patch.yml", "", "a: 1\n\n"),
            (none, "merge -m two.yml", "", "x: 1\ny: 2\n\n"),
            (none, "merge --cherry-pick a base.yml -", "a: 7\n", "a: 7\n\n"),
            (
                ("DEFAULT_ARRAY_MERGE_KEY", "id"),
                "merge --cherry-pick l base.yml over.yml",
                "",
                "l:\n- id: a\n  v: 1\n- id: b\n  v: 2\n\n",
            ),
            (("SPRUCE_FILE_BASE_PATH", "deep"), "merge --cherry-pick f base.yml", "", "f: hi\n\n"),
            (("GRAFT_FILE_BASE_PATH", "deep"), "merge --cherry-pick f base.yml", "", "f: hi\n\n"),
        ] {
            let said = run(variable, line, stdin.as_bytes()).await;
            assert!(said.starts_with(expected), "{name} {line}: {said}");
        }
    }
}

#[tokio::test]
async fn grafts_default_is_the_server_of_this_machine() {
    let store = Store::at("memory:");
    std::fs::write(store.path("n.yml"), "a: (( nats \"kv:b/k\" ))\n").unwrap();
    let mut command = store.linked("graft", &["merge", "n.yml"]);
    command.env_remove("JETBRIDGE_STORE").env("NATS_URL", "nats://127.0.0.1:1");
    let said = finish(command, b"").await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains(" - $.a: failed to connect to NATS"), "{said:?}");
    assert!(said.err.contains(" --> n.yml:1:4\n"), "{said:?}");
}

#[tokio::test]
async fn redact_makes_no_connection_and_debugging_shows_no_secret() {
    let store = Store::at("memory:");
    let text = "a: (( nats \"kv:b/k\" \"nats://me:s3cr3t@127.0.0.1:1\" ))\n\
                b: (( nats \"kv:b/k\" { url: \"127.0.0.1:1\", tls: true, token: \"s3cr3t\" } ))\n";
    // Graft knows no `token`: it is refused, and still not shown.
    std::fs::write(store.path("n.yml"), text).unwrap();
    for value in ["1", "true"] {
        let mut command = store.linked("graft", &["-T", "merge", "n.yml"]);
        command.env("REDACT", value);
        let said = finish(command, b"").await;
        assert_eq!((said.code, said.text().as_str()), (0, "a: REDACTED\nb: REDACTED\n\n"));
    }
    for (flag, redact) in [("-T", "0"), ("-D", "")] {
        let mut command = store.linked("graft", &[flag, "merge", "n.yml"]);
        command.env("REDACT", redact).env("NATS_PASSWORD", "s3cr3t");
        let said = finish(command, b"").await;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("$.a: failed to connect to NATS"), "{said:?}");
        assert!(!said.err.contains("s3cr3t"), "{said:?}");
    }
}
