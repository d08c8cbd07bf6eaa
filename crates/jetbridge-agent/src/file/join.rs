//! Several files, one process: the same name with two different values is a problem.

use std::path::PathBuf;

use jetbridge::settings::{Entry, Node, Value};
use jetbridge_core::{Error, ErrorKind};

/// Compares each file with those before it.
pub(super) fn check(trees: &[(Node, PathBuf)], problems: &mut Vec<Error>) {
    for (at, (tree, _)) in trees.iter().enumerate() {
        for (earlier, _) in &trees[..at] {
            compare(earlier, tree, problems);
        }
    }
}

fn compare(earlier: &Node, later: &Node, problems: &mut Vec<Error>) {
    for entry in later.entries() {
        let Some(known) = earlier.entry(&entry.name) else { continue };
        match (&known.node.value, &entry.node.value) {
            (Value::List(_), Value::List(_)) | (Value::Null, _) | (_, Value::Null) => {}
            (Value::Map(_), Value::Map(_)) => compare(&known.node, &entry.node, problems),
            _ if same(&known.node, &entry.node) => {}
            _ => problems.push(differs(known, entry)),
        }
    }
}

fn differs(known: &Entry, entry: &Entry) -> Error {
    let message = format!("{}: `{}` has another value at {}", entry.place, entry.name, known.place);
    Error::new(ErrorKind::InvalidInput, "settings.read")
        .because(message)
        .hint("keep one of the two")
}

/// True if both say the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
        (Value::Null, Value::Null) => true,
        _ => false,
    }
}
