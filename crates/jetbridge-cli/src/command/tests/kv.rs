//! `kv`.

use super::*;

async fn with_bucket(options: &str) -> Terminal {
    let terminal = Terminal::new();
    terminal.does(&format!("kv add b{options}")).await;
    terminal
}

#[tokio::test]
async fn put_prints_the_revision_and_get_the_bytes() {
    let terminal = with_bucket("").await;
    assert_eq!(terminal.does("kv put b k one").await, "revision 1\n");
    assert_eq!(terminal.does("kv put b k two").await, "revision 2\n");
    assert_eq!(terminal.does("kv get b k").await, "two");
    assert_eq!(terminal.does("kv put b n -5").await, "revision 3\n");
    assert_eq!(terminal.does("kv get b n").await, "-5");
    let json = terminal.json("kv put b k three").await;
    assert_eq!((&json["key"], &json["revision"]), (&"k".into(), &4.into()));
}

#[tokio::test]
async fn get_as_json_has_what_is_known() {
    let terminal = with_bucket(" --history 5").await;
    terminal.does("kv put b k one --ttl 1h -H A:1 -H A:2").await;
    terminal.does("kv put b k two").await;
    let first = terminal.json("kv get b k --revision 1").await;
    assert_eq!(first["value"], "one");
    assert_eq!(first["headers"]["A"], serde_json::json!(["1", "2"]));
    assert!(first["expires"].as_str().unwrap() > first["written"].as_str().unwrap());
    let second = terminal.json("kv get b k").await;
    assert_eq!((&second["value"], &second["revision"]), (&"two".into(), &2.into()));
    assert!(second.get("expires").is_none() && second.get("headers").is_none());
}

#[tokio::test]
async fn what_is_not_there_is_a_no_and_a_bucket_an_error() {
    let terminal = with_bucket("").await;
    assert_eq!(terminal.denies("kv get b k").await, "no key `k` in `b`\n");
    assert_eq!(terminal.denies("kv get b k --quiet").await, "");
    assert_eq!(
        terminal.denies("kv get b k --json").await,
        "{\"absent\":\"key\",\"name\":\"k\",\"in\":\"b\"}\n"
    );
    for line in ["kv ttl b k", "kv expire b k 1s", "kv del b k", "kv history b k"] {
        assert_eq!(terminal.denies(line).await, "no key `k` in `b`\n", "{line}");
    }
    assert_eq!(terminal.denies("kv revert b k 7").await, "no stored revision `7` in `b`\n");
    assert_eq!(terminal.does("kv del b k --force").await, "");
    assert_eq!(terminal.fails("kv get none k").await, ErrorKind::NotFound);
    assert_eq!(terminal.fails("kv rm none").await, ErrorKind::NotFound);
    assert_eq!(terminal.does("kv rm none --force").await, "");
}

#[tokio::test]
async fn conditions_hold_or_conflict() {
    let terminal = with_bucket("").await;
    terminal.does("kv create b k 1").await;
    assert_eq!(terminal.fails("kv create b k 2").await, ErrorKind::Conflict);
    assert_eq!(terminal.fails("kv put b k 2 --if-absent").await, ErrorKind::Conflict);
    assert_eq!(terminal.fails("kv put b k 2 --revision 9").await, ErrorKind::Conflict);
    assert_eq!(terminal.does("kv put b k 2 --revision 1").await, "revision 2\n");
    assert_eq!(terminal.does("kv update b k 3 2").await, "revision 3\n");
    assert_eq!(terminal.fails("kv del b k --revision 2").await, ErrorKind::Conflict);
    assert_eq!(terminal.fails("kv del b k j --revision 3").await, ErrorKind::InvalidInput);
    assert_eq!(terminal.does("kv del b k --revision 3").await, "revision 4\n");
}

#[tokio::test]
async fn numbers_are_added_to() {
    let terminal = with_bucket("").await;
    for (line, sum) in [
        ("kv incr b n", "1\n"),
        ("kv incr b n 41", "42\n"),
        ("kv decr b n 2", "40\n"),
        ("kv incr b n -50", "-10\n"),
        ("kv decr b n", "-11\n"),
    ] {
        assert_eq!(terminal.does(line).await, sum, "{line}");
    }
    assert_eq!(terminal.json("kv incr b n 0").await["value"], -11);
    assert_eq!(terminal.does("kv get b n").await, "-11");
    assert_eq!(terminal.fails("kv decr b n -9223372036854775808").await, ErrorKind::InvalidInput);
    terminal.does("kv put b text x").await;
    assert_eq!(terminal.fails("kv incr b text").await, ErrorKind::Corrupt);
    assert_eq!(terminal.does("kv incr b bin 258 --encoding le64").await, "258\n");
    let json = terminal.json("kv get b bin").await;
    assert_eq!(json["value"], "\u{2}\u{1}\0\0\0\0\0\0");
}

#[tokio::test]
async fn a_value_that_is_not_text_is_base64() {
    let terminal = with_bucket("").await;
    terminal.does("kv incr b bin 255 --encoding be64").await;
    let json = terminal.json("kv get b bin").await;
    assert!(json.get("value").is_none());
    assert_eq!(json["value_base64"], "AAAAAAAAAP8=");
}

#[tokio::test]
async fn expiry_is_set_shown_and_cleared() {
    let terminal = with_bucket("").await;
    terminal.does("kv put b k v -H A:1").await;
    assert_eq!(terminal.does("kv ttl b k").await, "never\n");
    assert_eq!(terminal.json("kv ttl b k").await["ttl_ms"], serde_json::Value::Null);
    assert_eq!(terminal.does("kv expire b k 1h30m").await, "revision 2\n");
    let left = terminal.json("kv ttl b k").await["ttl_ms"].as_u64().unwrap();
    assert!((5_300_000..=5_400_000).contains(&left), "{left}");
    assert!(terminal.does("kv ttl b k").await.starts_with("1h29m"));
    let entry = terminal.json("kv get b k").await;
    assert_eq!((&entry["value"], &entry["headers"]["A"][0]), (&"v".into(), &"1".into()));
    terminal.does("kv expire b k never").await;
    assert_eq!(terminal.does("kv ttl b k").await, "never\n");

    terminal.does("kv add aging --ttl 1h").await;
    terminal.does("kv put aging k v").await;
    assert!(terminal.does("kv ttl aging k").await.starts_with("59m59"));
}

#[tokio::test]
async fn keys_are_listed_counted_and_cleared() {
    let terminal = with_bucket("").await;
    for key in ["app.db.host", "app.db.port", "app.name", "user:1", "user:2", "a\u{1b}b"] {
        terminal.run_words(&["kv", "put", "b", key, "v"]).await.ended.unwrap();
    }
    let sorted = |text: String, by: char| {
        let mut keys: Vec<String> =
            text.split(by).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        keys.sort();
        keys
    };
    let all = ["a\\u{1b}b", "app.db.host", "app.db.port", "app.name", "user:1", "user:2"];
    assert_eq!(sorted(terminal.does("kv keys b").await, '\n'), all);
    assert_eq!(sorted(terminal.does("kv ls b").await, '\n'), all);
    let exact = sorted(terminal.does("kv keys b -0").await, '\0');
    assert_eq!(exact[0], "a\u{1b}b");
    for (choice, count) in [
        ("", "6\n"),
        (" >", "6\n"),
        (" app.db.*", "2\n"),
        (" app.>", "3\n"),
        (" user:1", "1\n"),
        (" --prefix user:", "2\n"),
    ] {
        assert_eq!(terminal.does(&format!("kv count b{choice}")).await, count, "{choice}");
    }
    assert_eq!(terminal.fails("kv keys b user:*").await, ErrorKind::InvalidInput);
    assert_eq!(terminal.does("kv clear b app.db.*").await, "2\n");
    assert_eq!(terminal.does("kv count b").await, "4\n");
    terminal.does("kv clear b").await;
    assert_eq!(terminal.json("kv count b").await["value"], 0);
}

#[tokio::test]
async fn history_is_oldest_first_and_can_be_reverted_to() {
    let terminal = with_bucket(" --history 10").await;
    terminal.does("kv put b k one").await;
    terminal.does("kv put b k two").await;
    terminal.does("kv del b k").await;
    let text = terminal.does("kv history b k").await;
    let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["put 1 k one", "put 2 k two", "del 3 k"]);
    let out = terminal.does("kv history b k --json").await;
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["change"], &first["value"]), (&"put".into(), &"one".into()));
    assert_eq!(terminal.does("kv revert b k 1").await, "revision 4\n");
    assert_eq!(terminal.does("kv get b k").await, "one");
    terminal.does("kv purge b k").await;
    let after = terminal.run("kv get b k --revision 1").await;
    assert_eq!(after.ended.unwrap(), Status::No);
}

#[tokio::test]
async fn a_watch_ends_after_so_many_changes() {
    let terminal = with_bucket(" --history 5").await;
    terminal.does("kv put b k one").await;
    terminal.does("kv put b j two").await;
    terminal.does("kv del b k").await;
    let changes = |text: String| {
        let change = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        text.lines().map(change).collect::<Vec<_>>()
    };
    let all = terminal.does("kv watch b --history --count 3").await;
    assert_eq!(changes(all), ["put 1 k one", "put 2 j two", "del 3 k"]);
    let later = terminal.does("kv watch b --after 2 --count 1").await;
    assert_eq!(changes(later), ["del 3 k"]);
    let text = terminal.does("kv watch b j --keys-only --json --count 1").await;
    let change: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&change["key"], &change["revision"]), (&"j".into(), &2.into()));
    assert!(change.get("value").is_none());
    let (said, _) = tokio::join!(
        terminal.run("kv watch b --updates-only --json --count 1"),
        terminal.does("kv put b j three")
    );
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((lines[0], lines.len()), (r#"{"change":"caught_up"}"#, 2));
}

#[tokio::test]
async fn buckets_are_made_changed_listed_and_deleted() {
    let terminal = Terminal::new();
    let made = terminal
        .json("kv add b --history 5 --ttl 24h --max-bytes 1GiB --max-value-size 64KiB --storage memory --description text --metadata a=b")
        .await;
    let settings = &made["settings"];
    assert_eq!(settings["history"], 5);
    assert_eq!(settings["ttl_ms"], 86_400_000);
    assert_eq!(settings["max_bytes"], 1 << 30);
    assert_eq!(settings["max_value_size"], 64 << 10);
    assert_eq!(settings["storage"], "memory");
    assert_eq!(settings["description"], "text");
    assert_eq!(settings["metadata"]["a"], "b");
    assert_eq!(
        terminal.fails("kv add b --history 9 --storage memory").await,
        ErrorKind::AlreadyExists
    );
    let edited = terminal.json("kv edit b --history 9 --ttl never --max-bytes -1").await;
    assert_eq!(edited["settings"]["history"], 9);
    assert!(edited["settings"].get("ttl_ms").is_none());
    assert!(edited["settings"].get("max_bytes").is_none());
    assert_eq!(edited["settings"]["max_value_size"], 64 << 10);
    assert_eq!(terminal.does("kv ls --names").await, "b\n");
    assert!(terminal.does("kv ls").await.starts_with("BUCKET  MESSAGES"));
    assert_eq!(terminal.json("kv ls").await["name"], "b");
    assert!(terminal.does("kv status b").await.starts_with("bucket          b\n"));
    let more = terminal.run("kv add more --replicas 3").await;
    assert_eq!(more.err, "warning: copies: this store keeps 1, not 3\n");
    terminal.does("kv rm more").await;
    terminal.does("kv put b k v").await;
    terminal.does("kv rm b k").await;
    assert_eq!(terminal.does("kv count b").await, "0\n");
    assert_eq!(terminal.json("kv rm b").await["deleted"], true);
    let said = terminal.run("kv ls").await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", "no kv buckets\n"));
}
