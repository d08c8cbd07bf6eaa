//! The fields of every JSON object, which programs rely on.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::binary::Store;

/// Every path to a value, without positions in lists and without the names in free maps.
fn paths(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk("", value, &mut found);
    found
}

fn walk(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    let free = matches!(at, ".headers" | ".facts");
    match value {
        Value::Object(fields) if !free => {
            for (name, field) in fields {
                walk(&format!("{at}.{name}"), field, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| walk(&format!("{at}[]"), item, found));
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

async fn check(store: &Store, line: &str, fields: &str) {
    let out = store.does(&format!("{line} --json")).await;
    let first = out.lines().next().unwrap_or_else(|| panic!("{line} prints nothing"));
    let found: Vec<String> = paths(&serde_json::from_str(first).unwrap()).into_iter().collect();
    assert_eq!(found.join(" "), fields, "{line}");
}

const BUCKET: &str = ".bytes .created .key_ttl .kind .last_revision .messages .name .sealed \
                      .settings.compressed .settings.description .settings.history \
                      .settings.max_bytes .settings.max_value_size .settings.replicas \
                      .settings.storage .settings.ttl_ms";
const OBJECT_BUCKET: &str = ".bytes .created .key_ttl .kind .last_revision .messages .name \
                             .sealed .settings.compressed .settings.replicas .settings.storage";
const ENTRY: &str = ".expires .headers .key .revision .value .written";
const OBJECT: &str =
    ".bucket .chunks .description .digest .headers .modified .name .revision .size";
const STREAM: &str = ".bytes .consumers .created .first_sequence .last_sequence .messages .name \
                      .settings.discard .settings.dupe_window_ms .settings.max_age_ms \
                      .settings.replicas .settings.retention .settings.storage .settings.subjects";
const MESSAGE: &str = ".payload .sequence .stored .subject";

async fn every_word_of_kv_has_its_fields(store: Store) {
    let settings = "--history 3 --ttl 1h --max-bytes 1MiB --max-value-size 1KiB --description d";
    check(&store, &format!("kv add b {settings}"), BUCKET).await;
    check(&store, "kv edit b --history 4", BUCKET).await;
    check(&store, "kv info b", BUCKET).await;
    check(&store, "kv ls", BUCKET).await;
    check(&store, "kv ls --names", ".name").await;
    // An acknowledgement of a server says no time.
    let time = if store.is_local() { " .written" } else { "" };
    let written = format!(".bucket .key .revision{time}");
    check(&store, "kv put b k v --ttl 30m -H A:1", &written).await;
    check(&store, "kv get b k", &format!(".bucket {ENTRY}")).await;
    check(&store, "kv ttl b k", ".bucket .expires .key .ttl_ms").await;
    check(&store, "kv watch b --count 1", &format!(".change {ENTRY}")).await;
    let keys_only = format!(".change {}", ENTRY.replace(" .value", ""));
    check(&store, "kv watch b --count 1 --keys-only", &keys_only).await;
    check(&store, "kv history b k", &format!(".change {ENTRY}")).await;
    check(&store, "kv keys b", ".key").await;
    check(&store, "kv ls b", ".key").await;
    check(&store, "kv count b", ".value").await;
    check(&store, "kv incr b n", ".value").await;
    check(&store, "kv expire b k never", &written).await;
    check(&store, "kv del b k", ".deleted .name .revision").await;
    check(&store, "kv clear b", ".value").await;
    check(&store, "kv rm b", ".deleted .name").await;
}

async fn every_word_of_object_has_its_fields(store: Store) {
    std::fs::write(store.path("in"), "text").unwrap();
    check(&store, "object add b", OBJECT_BUCKET).await;
    check(&store, "object put b in -H A:1 --description d", OBJECT).await;
    check(&store, "object stat b in", OBJECT).await;
    check(&store, "object ls b", OBJECT).await;
    check(&store, "object get b in", &format!(".body {OBJECT}")).await;
    check(&store, "object get b in -o out", OBJECT).await;
    let change = OBJECT.replace(".chunks", ".change .chunks");
    check(&store, "object watch b --count 1", &change).await;
    let link = ".bucket .chunks .link.bucket .link.name .modified .name .revision .size";
    check(&store, "object link b l in", link).await;
    check(&store, "object del b l", ".deleted .name .revision").await;
    check(&store, "object seal b", OBJECT_BUCKET).await;
}

async fn every_other_word_has_its_fields(store: Store) {
    store.does("kv add b").await;
    check(&store, "stream add S --subjects s.> --max-age 1h --dupe-window 1m", STREAM).await;
    check(&store, "stream info S", STREAM).await;
    check(&store, "stream ls", STREAM).await;
    check(&store, "pub s.a x -J", ".duplicate .sequence .stream").await;
    check(&store, "pub a x", ".bytes .published .subject").await;
    check(&store, "stream view S", MESSAGE).await;
    check(&store, "stream get S 1", MESSAGE).await;
    let status = paths(&serde_json::from_str(&store.does("status --json").await).unwrap());
    for field in ["store", "origin", "backend", "version", "round_trip_ms", "facts"] {
        assert!(status.contains(&format!(".{field}")), "{field}: {status:?}");
    }
    for field in ["capabilities.key_ttl", "buckets[].name", "streams[].settings.subjects"] {
        assert!(status.contains(&format!(".{field}")), "{field}: {status:?}");
    }
    // Whether there is a hint depends on what is found.
    let hints = store.does("doctor").await.contains("hint: ");
    let hint = if hints { " .checks[].hint" } else { "" };
    let rest = ".checks[].name .checks[].verdict .origin .store .verdict";
    check(&store, "doctor", &format!(".checks[].detail{hint} {rest}")).await;
    check(&store, "stream purge S", ".value").await;
    check(&store, "stream rm S", ".deleted .name").await;
}

on_every_store! {
    every_other_word_has_its_fields,
    every_word_of_kv_has_its_fields,
    every_word_of_object_has_its_fields,
}
