//! What happens to a document after its operators: prune, sort, cherry-pick.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::expr::literal;
use crate::tree::{At, Map, Node, Step, Value, path_text};

type Errors = Vec<(Vec<Step>, At, String)>;

/// Takes away what was marked or named; what is not there is not missed.
pub(crate) fn prune(root: &mut Node, marked: &[Vec<Step>], named: &[String]) {
    let mut paths: BTreeSet<Vec<Step>> = marked.iter().cloned().collect();
    paths.extend(named.iter().filter_map(|name| find(root, name).ok()));
    // From the last to the first, so that an index is still right when its turn comes.
    for path in paths.iter().rev() {
        let Some((last, parent)) = path.split_last() else { continue };
        match (root.at_path_mut(parent).map(|node| &mut node.value), last) {
            (Some(Value::Map(map)), Step::Key(key)) => drop(map.shift_remove(key)),
            (Some(Value::List(items)), Step::Index(index)) if *index < items.len() => {
                items.remove(*index);
            }
            _ => {}
        }
    }
}

/// Sorts the lists that were marked.
pub(crate) fn sort(
    root: &mut Node,
    marked: &[(Vec<Step>, Option<String>)],
    id_key: &str,
) -> Errors {
    let mut errors = Errors::new();
    for (path, key) in marked {
        let Some(node) = root.at_path_mut(path) else { continue };
        let at = node.at;
        let Value::List(items) = &mut node.value else { continue };
        let key = key.as_deref().unwrap_or(id_key);
        match sort_list(items, key) {
            Ok(()) => {}
            Err(what) => errors.push((path.clone(), at, what)),
        }
    }
    errors
}

fn sort_list(items: &mut [Node], key: &str) -> Result<(), String> {
    let numeric = |kind: &'static str| if kind == "float64" { "int" } else { kind };
    let kinds: BTreeSet<_> = items.iter().map(|item| numeric(item.kind())).collect();
    if kinds.len() > 1 {
        return Err(
            "is a list with different types (not a list with homogeneous entry types)".to_owned()
        );
    }
    if kinds.contains("slice") {
        return Err(
            "is a list with list entries (not a list with maps, strings or numbers)".to_owned()
        );
    }
    if kinds.contains("map") {
        let ids: Option<BTreeSet<_>> = items
            .iter()
            .map(|item| item.as_map().and_then(|map| map.get(key)).map(|id| numeric(id.kind())))
            .collect();
        match ids {
            None => {
                return Err(format!(
                    "is a list with map entries, where some do not contain {key} (not a list with \
                     map entries each containing {key})"
                ));
            }
            Some(kinds) if kinds.len() > 1 => {
                return Err(format!("is a list whose entries have {key}s of different types"));
            }
            Some(_) => {}
        }
    }
    items.sort_by(|a, b| order(id(a, key), id(b, key)));
    Ok(())
}

fn id<'a>(item: &'a Node, key: &str) -> &'a Node {
    item.as_map().and_then(|map| map.get(key)).unwrap_or(item)
}

fn order(a: &Node, b: &Node) -> Ordering {
    let float = |node: &Node| match node.value {
        Value::Int(n) => Some(crate::tree::as_float(n)),
        Value::Float(f) => Some(f),
        _ => None,
    };
    match (&a.value, &b.value) {
        (Value::Str(a), Value::Str(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        _ => match (float(a), float(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => Ordering::Equal,
        },
    }
}

/// A document of the picked paths alone, in the order of the original.
pub(crate) fn pick(root: &Node, picks: &[String]) -> Result<Node, Errors> {
    let mut errors = Errors::new();
    let mut paths = BTreeSet::new();
    for pick in picks {
        match find(root, pick) {
            Ok(path) => drop(paths.insert(path)),
            Err(what) => errors.push((Vec::new(), At::default(), what)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let picked = keep(root, &paths, &mut Vec::new()).unwrap_or_else(Node::map);
    Ok(picked)
}

fn keep(node: &Node, picks: &BTreeSet<Vec<Step>>, path: &mut Vec<Step>) -> Option<Node> {
    if picks.contains(path) {
        return Some(node.clone());
    }
    if !picks.iter().any(|pick| pick.starts_with(path)) {
        return None;
    }
    let mut child = |step: Step, node: &Node| {
        path.push(step);
        let kept = keep(node, picks, path);
        path.pop();
        kept
    };
    let value = match &node.value {
        Value::Map(map) => {
            let entries = map.iter().filter_map(|(key, value)| {
                Some((Arc::clone(key), child(Step::Key(Arc::clone(key)), value)?))
            });
            Value::Map(Box::new(entries.collect::<Map>()))
        }
        Value::List(items) => {
            let kept = items.iter().enumerate();
            Value::List(kept.filter_map(|(i, item)| child(Step::Index(i), item)).collect())
        }
        _ => return None,
    };
    let extras = node.extras.clone();
    Some(Node {
        value,
        extras,
        raw: None,
        at: node.at,
        layout: node.layout,
        indent: node.indent,
        secret: node.secret,
    })
}

/// The path that `text` names in `root`.
pub(crate) fn find(root: &Node, text: &str) -> Result<Vec<Step>, String> {
    let mut path = Vec::new();
    let mut node = root;
    for name in literal(text)? {
        let Some((step, child)) = node.child(&name) else {
            let place = path_text(&path);
            return Err(format!("`{place}.{name}` could not be found in the datastructure"));
        };
        path.push(step);
        node = child;
    }
    Ok(path)
}
