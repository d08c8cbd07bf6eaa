//! Global options, where the store comes from, and the words that need none.

use std::path::Path;

use crate::binary::{Store, finish};

#[tokio::test]
async fn options_stand_before_or_after_the_words() {
    let store = Store::at("nats://127.0.0.1:1");
    for line in [
        "--store memory: --json kv add b",
        "kv --store memory: add --json b",
        "kv add b --json --store memory:",
        "--json kv add b -s memory:",
    ] {
        let said = finish(store.bare(&line.split(' ').collect::<Vec<_>>()), b"").await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}: {said:?}");
        assert!(said.text().starts_with("{\"name\":\"b\""), "{line}: {said:?}");
    }
}

#[tokio::test]
async fn the_default_store_is_announced() {
    let store = Store::local();
    let said = finish(store.bare(&["kv", "add", "b"]), b"").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        said.err,
        "no store given: using the embedded store in ./jetbridge-data \
         (choose with --store, --context or JETBRIDGE_STORE)\n"
    );
    assert!(Path::new(&store.path("jetbridge-data")).is_dir());
    let said = finish(store.bare(&["kv", "ls", "--names", "--quiet"]), b"").await;
    assert_eq!((said.text().as_str(), said.err.as_str()), ("b\n", ""));
}

#[tokio::test]
async fn a_flag_beats_a_variable_and_one_variable_another() {
    let store = Store::at("nats://127.0.0.1:1");
    let said = store.run(&["status", "--store", "memory:"]).await;
    assert!(said.text().contains("named by        --store\n"), "{said:?}");
    let mut command = store.bare(&["status"]);
    command.env("NATS_URL", "nats://127.0.0.1:1").env("JETBRIDGE_STORE", "memory:");
    let said = finish(command, b"").await;
    assert!(said.text().contains("named by        JETBRIDGE_STORE\n"), "{said:?}");
}

#[tokio::test]
async fn quiet_leaves_values_and_errors() {
    let store = Store::at("memory:");
    let said = store.run(&["kv", "ls", "-q"]).await;
    assert_eq!((said.code, said.text().as_str(), said.err.as_str()), (0, "", ""));
    let said = store.run(&["pub", "a", "b", "-q"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let said = store.run(&["kv", "get", "none", "k", "-q"]).await;
    assert!(said.err.starts_with("error: "), "{said:?}");
}

#[tokio::test]
async fn completions_and_manual_need_no_store() {
    let store = Store::local();
    for (shell, mark) in [
        ("bash", "complete -F _jetbridge"),
        ("elvish", "edit:completion"),
        ("fish", "complete -c jetbridge"),
        ("powershell", "Register-ArgumentCompleter"),
        ("zsh", "#compdef jetbridge"),
    ] {
        let said = finish(store.bare(&["completions", shell]), b"").await;
        assert!(said.code == 0 && said.text().contains(mark), "{shell}");
        assert_eq!(said.err, "");
    }
    let said = finish(store.bare(&["man"]), b"").await;
    assert!(said.text().contains(".TH jetbridge 1"), "{said:?}");
    let said = finish(store.bare(&["man", "--dir", "pages", "-q"]), b"").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(Path::new(&store.path("pages/jetbridge-kv-put.1")).is_file());
    assert!(!Path::new(&store.path("jetbridge-data")).exists());
}
