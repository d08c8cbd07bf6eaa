//! Every case of `tests/cases`: input files, options, what is on disk and in stores; expected
//! output, errors or warnings.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jetbridge_core::{
    Backend, BucketName, BucketSpec, Headers, Key, MemoryBackend, ObjectName, ObjectPut, Open,
    PutOpts, body_of,
};
use jetbridge_template::{Input, Options, Server, Sources, Streams, Style, render};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    files: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files that operators read.
    #[serde(default)]
    disk: BTreeMap<String, String>,
    /// Values by `bucket/key`.
    #[serde(default)]
    keys: BTreeMap<String, String>,
    /// Objects by `bucket/name`: a body, or `[content type, body]`; `\xFF` is a byte.
    #[serde(default)]
    objects: BTreeMap<String, Object>,
    output: Option<String>,
    errors: Option<String>,
    warnings: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Object {
    Typed([String; 2]),
    Body(String),
}

fn options(case: &Case) -> Options {
    let mut options = Options::default();
    options.env.clone_from(&case.env);
    for flag in &case.flags {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("--prune", path) => options.prune.push(path.to_owned()),
            ("--cherry-pick", path) => options.cherry_pick.push(path.to_owned()),
            ("--skip-eval", _) => options.skip_eval = true,
            ("--fallback-append", _) => options.fallback_append = true,
            ("--go-patch", _) => options.go_patch = true,
            ("--multi-doc", _) => options.streams = Streams::Merge,
            ("--style", "graft") => options.style = Style::Graft,
            ("--redact", _) => options.redact = true,
            ("--id-key", key) => options.array_merge_key = Some(key.to_owned()),
            _ => panic!("{}: no flag {flag}", case.name),
        }
    }
    options
}

/// The store of a case; whatever names another server does not find it.
struct Shelf(Arc<MemoryBackend>);

#[async_trait]
impl Sources for Shelf {
    async fn open(&self, server: &Server) -> jetbridge_core::Result<Arc<dyn Backend>> {
        assert_eq!(*server, Server::Default);
        Ok(Arc::<MemoryBackend>::clone(&self.0))
    }

    fn is_secret(&self, bucket: &str) -> bool {
        bucket == "secrets"
    }
}

async fn shelf(case: &Case) -> Shelf {
    let store = Arc::new(MemoryBackend::new());
    let ensure = || Open::ensure(BucketSpec::default());
    for (path, value) in &case.keys {
        let (bucket, key) = path.split_once('/').unwrap();
        let kv = store.kv(&BucketName::parse(bucket).unwrap(), ensure()).await.unwrap();
        let value = value.clone().into();
        kv.put(&Key::parse(key).unwrap(), value, PutOpts::new()).await.unwrap();
    }
    for (path, object) in &case.objects {
        let (bucket, name) = path.split_once('/').unwrap();
        let objects = store.objects(&BucketName::parse(bucket).unwrap(), ensure()).await.unwrap();
        let mut headers = Headers::new();
        let body = match object {
            Object::Body(body) => body,
            Object::Typed([content, body]) => {
                headers.set("Content-Type", content).unwrap();
                body
            }
        };
        let body: Vec<u8> = body
            .split("\\xFF")
            .map(|part| part.as_bytes().to_vec())
            .collect::<Vec<_>>()
            .join(&0xFF);
        let put = ObjectPut::new().headers(headers);
        objects.put(&ObjectName::parse(name).unwrap(), body_of(body), put).await.unwrap();
    }
    Shelf(store)
}

async fn check(case: &Case) -> Option<String> {
    let disk = tempfile::tempdir().unwrap();
    for (name, text) in &case.disk {
        std::fs::write(disk.path().join(name), text).unwrap();
    }
    let mut options = options(case);
    options.file_base = Some(disk.path().to_owned());
    let inputs = case.files.iter().enumerate();
    let inputs = inputs.map(|(n, text)| Input::new(format!("{}.yml", n + 1), text.as_str()));
    let result = render(inputs.collect(), &options, &shelf(case).await).await;
    let (expected, found) = match (&case.output, &case.errors, result) {
        (Some(expected), None, Ok(rendered)) => {
            let warnings: String =
                rendered.warnings.iter().map(|warning| format!("{warning}\n")).collect();
            let said = case.warnings.clone().unwrap_or_default();
            if warnings.trim_end() != said.trim_end() {
                return Some(format!("{}: warns\n{warnings}", case.name));
            }
            (expected, rendered.text)
        }
        (None, Some(expected), Err(failure)) => (expected, failure.to_string()),
        (_, _, Ok(rendered)) => {
            return Some(format!("{}: no error but\n{}", case.name, rendered.text));
        }
        (_, _, Err(failure)) => return Some(format!("{}: {failure}", case.name)),
    };
    let same = expected.trim_end() == found.trim_end();
    (!same).then(|| format!("{}:\n--- expected\n{expected}\n--- found\n{found}", case.name))
}

/// Every case there is.
fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let found: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        cases.extend(found);
    }
    cases
}

/// What they are called.
pub(crate) fn names() -> Vec<String> {
    all().into_iter().map(|case| case.name).collect()
}

#[tokio::test]
async fn every_case_gives_what_it_says() {
    let cases = all();
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(check(case).await);
    }
    let count = cases.len();
    assert!(count > 200, "only {count} cases were found");
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n\n"));
}
