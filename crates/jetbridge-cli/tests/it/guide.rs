//! The sessions in the guide: what is typed there prints what stands there.

use std::path::Path;
use std::process::Stdio;

use crate::binary::{Store, finish};

const GUIDE: &str = include_str!("../../../../docs/guide/command.md");
/// A line of the guide that stands for any number of lines.
const ELLIPSIS: &str = "…";

/// A line typed, and the lines it prints.
type Step<'a> = (&'a str, Vec<&'a str>);

fn sessions(page: &str) -> Vec<Vec<Step<'_>>> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let steps = |block| {
        let mut steps: Vec<Step<'_>> = Vec::new();
        for line in str::lines(block) {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(typed), _) => steps.push((typed, Vec::new())),
                (None, Some((_, printed))) => printed.push(line),
                (None, None) => panic!("a session begins with what is typed: {line}"),
            }
        }
        steps
    };
    blocks.map(steps).collect()
}

fn is_like(printed: &str, expected: &[&str]) -> bool {
    match expected.iter().position(|line| *line == ELLIPSIS) {
        None => printed.lines().eq(expected.iter().copied()),
        Some(at) => {
            let lines: Vec<&str> = printed.lines().collect();
            lines.starts_with(&expected[..at]) && lines.ends_with(&expected[at + 1..])
        }
    }
}

async fn the_guide_is_true(store: Store) {
    std::fs::write(store.path("logo.png"), vec![0; 24_031]).unwrap();
    std::fs::create_dir(store.path("dir")).unwrap();
    for line in ["object add assets", "kv add b", "stream add ORDERS --subjects orders.>"] {
        store.does(line).await;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_jetbridge")).parent().unwrap().display().to_string();
    let mut steps = 0;
    // Sessions of two processes at once are the business of `bus`.
    let at_once =
        |(typed, _): &Step<'_>| ["sub ", "reply "].iter().any(|word| typed.contains(word));
    let sessions = sessions(GUIDE).into_iter().filter(|steps| !steps.iter().any(at_once));
    for (typed, expected) in sessions.flatten() {
        let mut shell = store.shell(&format!("exec 2>&1; {typed}"));
        shell.env("PATH", format!("{binary}:/usr/local/bin:/usr/bin:/bin")).stdin(Stdio::null());
        let said = finish(shell, b"").await;
        assert!(is_like(&said.text(), &expected), "$ {typed}\n{}", said.text());
        steps += 1;
    }
    assert!(steps >= 8, "{steps} steps");
}

on_every_store! { the_guide_is_true }
