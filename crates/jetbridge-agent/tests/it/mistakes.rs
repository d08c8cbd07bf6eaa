//! Files that are wrong in every way at once, and an address that somebody else has.

use std::sync::Arc;

use jetbridge::settings::Environment;
use jetbridge_agent::{Agent, UpFile};
use jetbridge_core::MemoryBackend;

/// A mistake on each line, each in another section.
const WRONG: &str = "drain_timeout: soon
http: {listen: nowhere}
buckets: {c: {histroy: 1}}
handlers: [{subject: 'a b', run: x}]
templates: [{from: a}]
dbs: [{path: a.db, replica: {url: 's3://b/x'}}]
stores: {s: {engine: none}}
limiters: {l: {rate_per_second: fast}}
components: [{wasm: a.wasm, route: hits}]
nonsense: 1
";

#[test]
fn a_mistake_in_every_section_is_said_with_its_place_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.yml", "b.yml"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], WRONG).unwrap();
    std::fs::write(&paths[1], "buckets: {d: {history: none}}\ndrain_timeout: 5s\n").unwrap();
    let problems = UpFile::read(&paths, &Environment::default()).unwrap_err();
    let shown: Vec<String> = problems.iter().map(|problem| format!("{problem:?}")).collect();
    let places = (1..=WRONG.lines().count()).map(|line| format!("a.yml:{line}:"));
    for place in places.chain(["b.yml:1:".to_owned(), "b.yml:2:".to_owned()]) {
        assert!(shown.iter().any(|it| it.contains(&place)), "{place} is not in {shown:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.yml");
    std::fs::write(&path, format!("http: {{listen: '{address}'}}")).unwrap();
    let environment = Environment::default();
    let file = UpFile::read(std::slice::from_ref(&path), &environment).unwrap();
    let store = Arc::new(MemoryBackend::new());
    let error = Agent::start(file, vec![path], environment, store).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains(&address.to_string()), "{shown}");
    assert!(error.hint_text().unwrap_or_default().contains("pick another"), "{error:?}");
}
