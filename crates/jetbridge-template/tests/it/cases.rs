//! Every case of `tests/cases`: input files, options, expected output or errors.

use std::collections::BTreeMap;
use std::path::Path;

use jetbridge_template::{Input, Options, Streams, Style, merge};
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
    output: Option<String>,
    errors: Option<String>,
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

fn check(case: &Case) -> Option<String> {
    let inputs = case.files.iter().enumerate();
    let inputs = inputs.map(|(n, text)| Input::new(format!("{}.yml", n + 1), text.as_str()));
    let result = merge(inputs.collect(), &options(case));
    let (expected, found) = match (&case.output, &case.errors, result) {
        (Some(expected), None, Ok(rendered)) => (expected, rendered.text),
        (None, Some(expected), Err(failure)) => (expected, failure.to_string()),
        (_, _, Ok(rendered)) => {
            return Some(format!("{}: no error but\n{}", case.name, rendered.text));
        }
        (_, _, Err(failure)) => return Some(format!("{}: {failure}", case.name)),
    };
    let same = expected.trim_end() == found.trim_end();
    (!same).then(|| format!("{}:\n--- expected\n{expected}\n--- found\n{found}", case.name))
}

#[test]
fn every_case_gives_what_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let found: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        cases += found.len();
        wrong.extend(found.iter().filter_map(check));
    }
    assert!(cases > 100, "only {cases} cases were found");
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n\n"));
}
