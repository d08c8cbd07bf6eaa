//! What differs between two documents, by value: not how they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::emit::{self, Style};
use crate::error::{Diagnostic, Failure};
use crate::render::{Files, Input};
use crate::tree::{Map, Node, Value, shown};

/// The fields that tell elements of a list apart, the first that all have.
const ID_FIELDS: [&str; 3] = ["name", "key", "id"];

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// Where, as `a.b.0`; empty for the root.
    pub path: String,
    /// What.
    pub change: Change,
}

/// What has changed; values as YAML.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Entries of a map, or elements of a list, that only the second document has.
    Added(String),
    /// Those that only the first has.
    Removed(String),
    /// One value in place of another of its type.
    Value(String, String),
    /// One value in place of another type's: both types, then both values.
    Type([&'static str; 2], String, String),
    /// The elements of a list in another order: the names of both.
    Order(String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = if self.path.is_empty() { "(root level)" } else { &self.path };
        writeln!(f, "{root}")?;
        let lines = |f: &mut fmt::Formatter<'_>, sign: &str, text: &str| {
            text.lines().try_for_each(|line| writeln!(f, "    {sign} {line}"))
        };
        match &self.change {
            Change::Added(value) => {
                writeln!(f, "  + added:")?;
                lines(f, "+", value)
            }
            Change::Removed(value) => {
                writeln!(f, "  - removed:")?;
                lines(f, "-", value)
            }
            Change::Value(old, new) => {
                writeln!(f, "  ± value change")?;
                lines(f, "-", old)?;
                lines(f, "+", new)
            }
            Change::Type([before, after], old, new) => {
                writeln!(f, "  ± type change from {before} to {after}")?;
                lines(f, "-", old)?;
                lines(f, "+", new)
            }
            Change::Order(old, new) => {
                writeln!(f, "  ⇆ order changed")?;
                lines(f, "-", old)?;
                lines(f, "+", new)
            }
        }
    }
}

/// What is different in `to`, compared with `from`, in the order of `from`. Operators are text.
/// Documents of streams are compared one by one.
///
/// # Errors
/// What is wrong with an input.
pub fn diff(from: Input, to: Input) -> Result<Vec<Difference>, Failure> {
    let files = Files::new(vec![from, to]);
    let (old, new) = (files.parse(0)?, files.parse(1)?);
    if old.len() != new.len() {
        return Err(Failure::one(Diagnostic::top(format!(
            "{} holds {} YAML documents and {} holds {}: they cannot be compared one by one",
            files.inputs[0].name,
            old.len(),
            files.inputs[1].name,
            new.len()
        ))));
    }
    let several = old.len() > 1;
    let mut report = Report { path: Vec::new(), found: Vec::new() };
    for (number, (old, new)) in old.iter().zip(&new).enumerate() {
        if several {
            report.path = vec![format!("(document {})", number + 1)];
        }
        report.compare(old, new);
    }
    Ok(report.found)
}

struct Report {
    path: Vec<String>,
    found: Vec<Difference>,
}

impl Report {
    fn add(&mut self, change: Change) {
        self.found.push(Difference { path: self.path.join("."), change });
    }

    fn below(&mut self, step: String, old: &Node, new: &Node) {
        self.path.push(step);
        self.compare(old, new);
        self.path.pop();
    }

    fn compare(&mut self, old: &Node, new: &Node) {
        match (&old.value, &new.value) {
            _ if old == new => {}
            (Value::Map(_), Value::Map(_)) => self.maps(old, new),
            (Value::List(a), Value::List(b)) => self.lists(a, b),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                self.add(Change::Value(yaml(old), yaml(new)));
            }
            _ if old.kind() == new.kind() => self.add(Change::Value(yaml(old), yaml(new))),
            _ => self.add(Change::Type([noun(old), noun(new)], yaml(old), yaml(new))),
        }
    }

    fn maps(&mut self, old: &Node, new: &Node) {
        let (Some(a), Some(b)) = (old.as_map(), new.as_map()) else { return };
        let only = |left: &Map, right: &Map| -> Map {
            let entries = left.iter().filter(|(key, _)| !right.contains_key(*key));
            entries.map(|(key, node)| (Arc::clone(key), node.clone())).collect()
        };
        let (removed, added) = (only(a, b), only(b, a));
        if !removed.is_empty() {
            self.add(Change::Removed(yaml(&Node::new(Value::Map(Box::new(removed))))));
        }
        if !added.is_empty() {
            self.add(Change::Added(yaml(&Node::new(Value::Map(Box::new(added))))));
        }
        for (key, old) in a {
            if let Some(new) = b.get(key) {
                self.below(key.to_string(), old, new);
            }
        }
    }

    fn lists(&mut self, old: &[Node], new: &[Node]) {
        let keyed = |field: &str| Some((keys(old, Some(field))?, keys(new, Some(field))?));
        if let Some((a, b)) = ID_FIELDS.iter().find_map(|field| keyed(field)) {
            return self.keyed_lists((old, &a), (new, &b));
        }
        if let (Some(a), Some(b)) = (keys(old, None), keys(new, None)) {
            return self.keyed_lists((old, &a), (new, &b));
        }
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            self.below(index.to_string(), old, new);
        }
        let common = old.len().min(new.len());
        self.elements(&old[common..], &new[common..]);
    }

    /// Lists whose elements have names that no two share.
    fn keyed_lists(&mut self, (old, a): (&[Node], &[String]), (new, b): (&[Node], &[String])) {
        let places = |names: &[String]| -> BTreeMap<String, usize> {
            names.iter().cloned().enumerate().map(|(index, name)| (name, index)).collect()
        };
        let (in_old, in_new) = (places(a), places(b));
        let only = |nodes: &[Node], names: &[String], other: &BTreeMap<String, usize>| {
            let pairs = nodes.iter().zip(names).filter(|(_, name)| !other.contains_key(*name));
            pairs.map(|(node, _)| node.clone()).collect::<Vec<_>>()
        };
        self.elements(&only(old, a, &in_new), &only(new, b, &in_old));
        let common = |names: &[String], other: &BTreeMap<String, usize>| {
            let names = names.iter().filter(|name| other.contains_key(*name));
            names.cloned().collect::<Vec<_>>()
        };
        let (before, after) = (common(a, &in_new), common(b, &in_old));
        if before != after {
            self.add(Change::Order(before.join(", "), after.join(", ")));
        }
        for name in before {
            if let (Some(x), Some(y)) = (in_old.get(&name), in_new.get(&name)) {
                self.below(name, &old[*x], &new[*y]);
            }
        }
    }

    fn elements(&mut self, removed: &[Node], added: &[Node]) {
        if !removed.is_empty() {
            self.add(Change::Removed(yaml(&Node::list(removed.to_vec()))));
        }
        if !added.is_empty() {
            self.add(Change::Added(yaml(&Node::list(added.to_vec()))));
        }
    }
}

/// The names of the elements: the values of `field`, or the scalars themselves; `None` unless
/// each has one and no two are the same.
fn keys(items: &[Node], field: Option<&str>) -> Option<Vec<String>> {
    let name = |item: &Node| {
        let id = match field {
            Some(field) => item.as_map()?.get(field)?,
            None => item,
        };
        let scalar = id.as_map().is_none() && id.as_list().is_none();
        scalar.then(|| if field.is_some() { shown(id) } else { yaml(id).trim_end().to_owned() })
    };
    let names: Vec<String> = items.iter().map(name).collect::<Option<_>>()?;
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1]).then_some(names)
}

fn noun(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "string",
        Value::List(_) => "list",
        Value::Map(_) => "map",
    }
}

fn yaml(node: &Node) -> String {
    emit::yaml(node, Style::Graft)
}
