//! `copy` between a directory and servers, as its user runs it.

use jetbridge_testkit::Release;
use serde_json::Value;

use crate::binary::Store;

async fn a_machine_is_left(release: Release) {
    let server = Store::nats(release).await;
    let old = Store::local();
    old.does("kv add settings").await;
    old.does("kv put settings port 8080").await;
    old.does("object add files").await;
    std::fs::write(old.path("in"), vec![1; 300_000]).unwrap();
    old.does("object put files in").await;
    old.does("stream add ORDERS --subjects orders.>").await;
    old.does("pub orders.eu chairs --jetstream").await;

    let (from, to) = (old.url().to_owned(), server.url().to_owned());
    let said = old.run(&["copy", &from, &to, "--dry-run"]).await;
    assert_eq!((said.code, said.text().lines().count()), (0, 4), "{said:?}");
    assert_eq!(server.does("kv ls").await, "");

    let said = old.run(&["copy", &from, &to, "--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let rows: Vec<Value> =
        said.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let copied: Vec<_> = rows.iter().map(|row| (&row["kind"], &row["copied"])).collect();
    assert_eq!(
        format!("{copied:?}"),
        r#"[(String("kv"), Number(1)), (String("object"), Number(1)), (String("stream"), Number(1))]"#
    );
    assert!(rows.iter().all(|row| row["verified"] == true), "{rows:?}");
    assert_eq!(server.does("kv get settings port").await, "8080");
    assert_eq!(server.does("stream ls").await.lines().count(), 2);

    server.does("kv put settings port 9090").await;
    let said = old.run(&["copy", &from, &to, "--bucket", "settings"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.text().contains("1 newer in the destination: port"), "{said:?}");
    assert_eq!(server.does("kv get settings port").await, "9090");
}

jetbridge_testkit::on_every_server!(a_machine_is_left);

#[tokio::test]
async fn what_is_no_copy_is_refused() {
    let store = Store::local();
    store.does("kv add b").await;
    let url = store.url().to_owned();
    for (words, why) in [
        (vec!["copy", &url, &url], "the same store"),
        (vec!["copy", "memory:", &url], "this process"),
        (vec!["copy", "local:no-such-directory", "memory:"], "is not there"),
        (vec!["copy", &url, "memory:", "--bucket", "c"], "nothing of that name"),
        (vec!["copy", &url, "memory:", "--store", "memory:"], "no meaning"),
    ] {
        let said = store.run(&words).await;
        assert_eq!(said.code, 2, "{words:?}: {said:?}");
        assert!(said.err.contains(why), "{words:?}: {said:?}");
    }
    let said = store.run(&["copy", &url, "nats://127.0.0.1:1", "--timeout", "1s"]).await;
    assert_eq!(said.code, 3, "{said:?}");
}
