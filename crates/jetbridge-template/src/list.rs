//! Merging lists: the default rules, and the operators that stand among the elements.

use std::collections::HashMap;

use crate::error::Diagnostic;
use crate::merge::{Merger, body_of};
use crate::tree::{At, Node, shown};

/// Which entry an operator means.
#[derive(Debug, PartialEq)]
enum Target {
    Index(i64),
    Entry { key: Option<String>, name: String },
}

#[derive(Debug, PartialEq)]
enum Verb {
    /// Elements before any operator.
    Default,
    Append,
    Prepend,
    Replace,
    Inline,
    Merge {
        key: Option<String>,
    },
    Insert {
        after: bool,
        target: Target,
    },
    Delete(Target),
}

/// An operator and the elements that it owns.
struct Part {
    verb: Verb,
    text: String,
    items: Vec<Node>,
}

/// Merges `new` over `old`: each operator owns the elements behind it, from left to right.
pub(crate) fn merge(merger: &mut Merger, old: Vec<Node>, new: Vec<Node>, at: At) -> Vec<Node> {
    let mut result = old;
    for step in steps(new) {
        match apply(merger, result, step, at) {
            Some(merged) => result = merged,
            None => return Vec::new(),
        }
    }
    result
}

fn steps(items: Vec<Node>) -> Vec<Part> {
    let mut steps: Vec<Part> = Vec::new();
    for item in items {
        let verb = item.as_str().and_then(verb_of);
        match (verb, steps.last_mut()) {
            (Some(verb), _) => {
                let text = item.as_str().unwrap_or_default().to_owned();
                steps.push(Part { verb, text, items: Vec::new() });
            }
            (None, Some(step)) => step.items.push(item),
            (None, None) => {
                steps.push(Part { verb: Verb::Default, text: String::new(), items: vec![item] });
            }
        }
    }
    steps
}

fn apply(merger: &mut Merger, old: Vec<Node>, step: Part, at: At) -> Option<Vec<Node>> {
    match step.verb {
        Verb::Default => Some(default(merger, old, step.items)),
        Verb::Append => Some(insert(merger, old, None, step.items)),
        Verb::Prepend => Some(insert(merger, old, Some(0), step.items)),
        Verb::Replace => Some(insert(merger, Vec::new(), None, step.items)),
        Verb::Inline => Some(inline(merger, old, step.items)),
        Verb::Merge { key } => {
            let key = key.unwrap_or_else(|| merger.id_key().to_owned());
            check_keys(merger, "new", &step.items, &key)?;
            check_keys(merger, "original", &old, &key)?;
            Some(by_key(merger, old, step.items, &key))
        }
        Verb::Insert { after, target } => {
            let position = find_insert(merger, &old, &step.items, &target, at)?;
            let position = if after { position + 1 } else { position };
            if position > old.len() {
                out_of_bounds(merger, at, i64::try_from(position).unwrap_or(i64::MAX));
                return None;
            }
            Some(insert(merger, old, Some(position), step.items))
        }
        Verb::Delete(target) => {
            if !step.items.is_empty() {
                merger.fail(
                    at,
                    format!(
                        "item in array directly after {} must be one of the array operators \
                         'append', 'prepend', 'delete', or 'insert'",
                        step.text
                    ),
                );
                return None;
            }
            delete(merger, old, &target, at)
        }
    }
}

fn default(merger: &mut Merger, old: Vec<Node>, new: Vec<Node>) -> Vec<Node> {
    let key = merger.id_key().to_owned();
    let fits = |items: &[Node]| {
        items.iter().all(|item| item.as_map().is_some_and(|map| map.contains_key(key.as_str())))
    };
    if fits(&old) && fits(&new) {
        let odd = |items: &[Node]| {
            items.iter().any(|item| id_of(item, &key).is_some_and(|id| !is_scalar(id)))
        };
        if !odd(&old) && !odd(&new) {
            return by_key(merger, old, new, &key);
        }
        let path = merger.path_text();
        let warning = Diagnostic::at(
            path,
            format!("the value of `{key}` is a map or a list, so elements are merged by position"),
        );
        if !merger.warnings.contains(&warning) {
            merger.warnings.push(warning);
        }
    }
    if merger.append { insert(merger, old, None, new) } else { inline(merger, old, new) }
}

fn is_scalar(node: &Node) -> bool {
    node.as_map().is_none() && node.as_list().is_none()
}

fn id_of<'a>(item: &'a Node, key: &str) -> Option<&'a Node> {
    item.as_map()?.get(key)
}

fn inline(merger: &mut Merger, old: Vec<Node>, new: Vec<Node>) -> Vec<Node> {
    let mut result = Vec::with_capacity(old.len().max(new.len()));
    let mut old = old.into_iter();
    for (index, item) in new.into_iter().enumerate() {
        result.push(merger.node_at(index, old.next(), item));
    }
    result.extend(old);
    result
}

fn insert(merger: &mut Merger, old: Vec<Node>, at: Option<usize>, new: Vec<Node>) -> Vec<Node> {
    let mut result = old;
    let tail = at.map(|at| result.split_off(at));
    for item in new {
        let node = merger.node_at(result.len(), None, item);
        result.push(node);
    }
    result.extend(tail.into_iter().flatten());
    result
}

fn by_key(merger: &mut Merger, old: Vec<Node>, new: Vec<Node>, key: &str) -> Vec<Node> {
    let id = |item: &Node| id_of(item, key).map(|id| (id.kind(), shown(id))).unwrap_or_default();
    let known: HashMap<_, usize> =
        old.iter().enumerate().rev().map(|(index, item)| (id(item), index)).collect();
    let mut result: Vec<Option<Node>> = old.into_iter().map(Some).collect();
    let mut updates: HashMap<usize, Node> = HashMap::new();
    let mut added = Vec::new();
    for item in new {
        match known.get(&id(&item)) {
            // Of several new elements with one id the last one counts.
            Some(index) => drop(updates.insert(*index, item)),
            None => added.push(item),
        }
    }
    let mut updates: Vec<_> = updates.into_iter().collect();
    updates.sort_by_key(|(index, _)| *index);
    for (index, item) in updates {
        let present = result[index].take();
        result[index] = Some(merger.node_at(index, present, item));
    }
    let mut result: Vec<Node> = result.into_iter().flatten().collect();
    for item in added {
        let node = merger.node_at(result.len(), None, item);
        result.push(node);
    }
    result
}

/// Says which element is no map with `key`, if any.
fn check_keys(merger: &mut Merger, which: &str, items: &[Node], key: &str) -> Option<()> {
    for (index, item) in items.iter().enumerate() {
        let message = match item.as_map() {
            None if item.is_null() => {
                format!("{which} object is nil, not a map - cannot merge by key")
            }
            None => format!("{which} object is a {}, not a map - cannot merge by key", item.kind()),
            Some(map) => match map.get(key) {
                None => {
                    format!("{which} object does not contain the key '{key}' - cannot merge by key")
                }
                Some(id) if !is_scalar(id) => format!(
                    "{which} object's key '{key}' cannot have a value which is a hash or \
                     sequence - cannot merge by key"
                ),
                Some(_) => continue,
            },
        };
        merger.fail_at(index, item.at, message);
        return None;
    }
    Some(())
}

fn out_of_bounds(merger: &mut Merger, at: At, index: i64) {
    merger.fail(
        at,
        format!("unable to modify the list, because specified index {index} is out of bounds"),
    );
}

fn find_insert(
    merger: &mut Merger,
    old: &[Node],
    new: &[Node],
    target: &Target,
    at: At,
) -> Option<usize> {
    let (key, name) = match target {
        Target::Index(index) => match usize::try_from(*index) {
            Ok(index) => return Some(index),
            Err(_) => {
                out_of_bounds(merger, at, *index);
                return None;
            }
        },
        Target::Entry { key, name } => {
            (key.clone().unwrap_or_else(|| merger.id_key().to_owned()), name)
        }
    };
    check_keys(merger, "new", new, &key)?;
    check_keys(merger, "original", old, &key)?;
    let position = |name: &str| {
        old.iter().position(|item| id_of(item, &key).is_some_and(|id| shown(id) == name))
    };
    let Some(index) = position(name) else {
        not_found(merger, at, Some(&key), name);
        return None;
    };
    for item in new {
        let id = id_of(item, &key).map(shown).unwrap_or_default();
        if position(&id).is_some() {
            merger.fail(
                item.at,
                format!(
                    "unable to insert, because new list entry '{key}: {id}' is detected multiple \
                     times"
                ),
            );
            return None;
        }
    }
    Some(index)
}

fn not_found(merger: &mut Merger, at: At, key: Option<&str>, name: &str) {
    let what = key.map_or_else(|| name.to_owned(), |key| format!("{key}: {name}"));
    merger.fail(at, format!("unable to find specified modification point with '{what}'"));
}

fn delete(merger: &mut Merger, old: Vec<Node>, target: &Target, at: At) -> Option<Vec<Node>> {
    let simple = !old.is_empty() && old.iter().all(is_scalar);
    let position = match target {
        Target::Index(index) => {
            let found = usize::try_from(*index).ok().filter(|index| *index < old.len());
            if found.is_none() {
                out_of_bounds(merger, at, *index);
            }
            found?
        }
        Target::Entry { key: None, name } if simple => {
            let found = old.iter().position(|item| shown(item) == *name);
            if found.is_none() {
                not_found(merger, at, None, name);
            }
            found?
        }
        Target::Entry { key, name } => {
            let key = key.clone().unwrap_or_else(|| merger.id_key().to_owned());
            check_keys(merger, "original", &old, &key)?;
            let found =
                old.iter().position(|item| id_of(item, &key).is_some_and(|id| shown(id) == *name));
            if found.is_none() {
                not_found(merger, at, Some(&key), name);
            }
            found?
        }
    };
    let mut old = old;
    old.remove(position);
    Some(old)
}

fn verb_of(text: &str) -> Option<Verb> {
    let body = body_of(text)?;
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let rest = rest.trim();
    match word {
        "append" if rest.is_empty() => Some(Verb::Append),
        "prepend" if rest.is_empty() => Some(Verb::Prepend),
        "replace" if rest.is_empty() => Some(Verb::Replace),
        "inline" if rest.is_empty() => Some(Verb::Inline),
        "merge" if rest.is_empty() => Some(Verb::Merge { key: None }),
        "merge" => {
            let key = rest.strip_prefix("on")?.strip_prefix(char::is_whitespace)?.trim();
            Some(Verb::Merge { key: Some(key.to_owned()) })
        }
        "insert" => {
            let (place, target) = rest.split_once(char::is_whitespace)?;
            let after = match place {
                "after" => true,
                "before" => false,
                _ => return None,
            };
            target_of(target.trim(), Bare::No).map(|target| Verb::Insert { after, target })
        }
        "delete" if !rest.is_empty() => target_of(rest, Bare::Yes).map(Verb::Delete),
        _ => None,
    }
}

/// Whether a name may stand without quotes.
#[derive(Clone, Copy, PartialEq)]
enum Bare {
    No,
    Yes,
}

fn target_of(text: &str, bare: Bare) -> Option<Target> {
    if let Ok(index) = text.parse::<i64>() {
        return Some(Target::Index(index));
    }
    let entry = |key: &str, name: &str| Target::Entry {
        key: (!key.is_empty()).then(|| key.to_owned()),
        name: name.trim().to_owned(),
    };
    if let Some(quoted) = text.strip_suffix('"')
        && let Some((key, name)) = quoted.split_once('"')
    {
        return (!name.is_empty() && !key.trim().contains(' ')).then(|| entry(key.trim(), name));
    }
    match (bare, text.split_once(char::is_whitespace)) {
        (Bare::No, _) => None,
        (Bare::Yes, Some((key, name))) => Some(entry(key, name)),
        (Bare::Yes, None) => Some(entry("", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_of_lists_are_recognised() {
        assert_eq!(verb_of("(( append ))"), Some(Verb::Append));
        assert_eq!(verb_of("((merge on id))"), Some(Verb::Merge { key: Some("id".into()) }));
        let entry = |key: Option<&str>, name: &str| Target::Entry {
            key: key.map(Into::into),
            name: name.into(),
        };
        let cases = [
            ("(( insert after \"a\" ))", Verb::Insert { after: true, target: entry(None, "a") }),
            (
                "(( insert before id \"a b\" ))",
                Verb::Insert { after: false, target: entry(Some("id"), "a b") },
            ),
            ("(( insert before 0 ))", Verb::Insert { after: false, target: Target::Index(0) }),
            ("(( delete -1 ))", Verb::Delete(Target::Index(-1))),
            ("(( delete a ))", Verb::Delete(entry(None, "a"))),
            ("(( delete id \"a\" ))", Verb::Delete(entry(Some("id"), "a"))),
        ];
        for (text, expected) in cases {
            assert_eq!(verb_of(text), Some(expected), "{text}");
        }
        for text in ["append", "(( append x ))", "(( insert a ))", "(( grab x ))"] {
            assert_eq!(verb_of(text), None, "{text}");
        }
    }
}
