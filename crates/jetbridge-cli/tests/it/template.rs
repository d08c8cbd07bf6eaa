//! `template`: files in, a document out, on every store.

use crate::binary::Store;

on_every_store!(values_of_a_bucket_are_printed_and_errors_say_where);

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
        "   --> bad.yml:2:4\n   2 | b: (( grabb port ))\n",
    ] {
        assert!(error.contains(line), "{line} is not in {error}");
    }
}
