//! Merging trees, left to right, exactly as spruce does.
//!
//! Maps merge key by key, lists by their rules in [`list`](crate::list), anything else is
//! replaced; a null replaces with null. Operators are text here, but for `(( prune ))` and
//! `(( sort ))`, which mark a path and leave its value alone.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Diagnostic;
use crate::list;
use crate::tree::{At, Map, Node, Step, Value, path_text};

/// The key that elements of a list are told apart by, where nothing else is said.
pub(crate) const ID_KEY: &str = "name";

/// What merging leaves for later, and what went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merger {
    pub(crate) append: bool,
    pub(crate) id_key: Option<String>,
    /// Keep what was overridden, for [`explain`](crate::Rendered::explain).
    pub(crate) history: Option<HashMap<Vec<Step>, Vec<At>>>,
    pub(crate) prune: Vec<Vec<Step>>,
    /// Paths to sort, with the key to sort by.
    pub(crate) sort: Vec<(Vec<Step>, Option<String>)>,
    pub(crate) errors: Vec<(Vec<Step>, At, String)>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Where merging is.
    pub(crate) path: Vec<Step>,
}

impl Merger {
    /// Lists whose elements prune and sort move.
    pub(crate) fn moved(&self) -> Vec<Vec<Step>> {
        let sorted = self.sort.iter().map(|(path, _)| path.clone());
        let shortened = self.prune.iter().filter_map(|path| match path.split_last() {
            Some((Step::Index(_), list)) => Some(list.to_vec()),
            _ => None,
        });
        sorted.chain(shortened).collect()
    }

    pub(crate) fn id_key(&self) -> &str {
        self.id_key.as_deref().unwrap_or(ID_KEY)
    }

    /// Merges `new` over `root`; both are maps.
    pub(crate) fn merge(&mut self, root: &mut Node, new: Node) {
        let Value::Map(map) = &mut root.value else { return };
        // The first document that holds anything is the base, and its comments stay.
        if map.is_empty() {
            root.extras = new.extras;
        }
        if let Value::Map(new) = new.value {
            self.map(map, *new);
        }
    }

    /// Merges maps into each other, where no path of the document is known.
    pub(crate) fn merge_maps(&mut self, old: &mut Map, new: Map) {
        self.map(old, new);
    }

    pub(crate) fn fail(&mut self, at: At, message: String) {
        self.errors.push((self.path.clone(), at, message));
    }

    pub(crate) fn fail_at(&mut self, index: usize, at: At, message: String) {
        let mut path = self.path.clone();
        path.push(Step::Index(index));
        self.errors.push((path, at, message));
    }

    pub(crate) fn path_text(&self) -> String {
        path_text(&self.path)
    }

    fn map(&mut self, old: &mut Map, mut new: Map) {
        if old.is_empty() {
            // No key meets another one: the entries stay where they are.
            new.iter_mut().for_each(|(key, node)| self.settle_entry(key, node));
            *old = new;
            return;
        }
        for (key, mut node) in new {
            match old.get_mut(&key) {
                Some(present) => {
                    self.path.push(Step::Key(key));
                    self.check_use(&node);
                    let taken = std::mem::take(present);
                    *present = self.node(taken, node);
                    self.path.pop();
                }
                None => {
                    self.settle_entry(&key, &mut node);
                    old.insert(key, node);
                }
            }
        }
    }

    fn settle_entry(&mut self, key: &Arc<str>, node: &mut Node) {
        self.path.push(Step::Key(Arc::clone(key)));
        self.check_use(node);
        self.settle(node);
        self.path.pop();
    }

    /// The value of an entry is no element of a list.
    fn check_use(&mut self, node: &Node) {
        if node.as_str().is_some_and(is_merge_operator) {
            self.fail(
                node.at,
                "inappropriate use of (( merge )) operator outside of a list".to_owned(),
            );
        }
    }

    /// Carries out the operators of lists and the marks in a node that nothing is under yet.
    fn settle(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Map(map) => {
                map.iter_mut().for_each(|(key, node)| self.settle_entry(key, node));
            }
            Value::List(items) => {
                let items = std::mem::take(items);
                node.value = Value::List(self.list(Vec::new(), items, node.at));
            }
            Value::Str(text) => {
                let _marked = self.mark(text);
            }
            _ => {}
        }
    }

    /// As [`Merger::settle`].
    pub(crate) fn fresh(&mut self, mut node: Node) -> Node {
        self.settle(&mut node);
        node
    }

    pub(crate) fn node_at(&mut self, index: usize, old: Option<Node>, new: Node) -> Node {
        self.path.push(Step::Index(index));
        let node = match old {
            Some(old) => self.node(old, new),
            None => self.fresh(new),
        };
        self.path.pop();
        node
    }

    fn node(&mut self, mut old: Node, mut new: Node) -> Node {
        if let Value::Str(text) = &old.value {
            let _marked = self.mark(text);
        }
        if let Value::Str(text) = &new.value
            && self.mark(text)
        {
            return old;
        }
        match (&mut old.value, new.value) {
            (Value::Map(map), Value::Map(entries)) => {
                self.map(map, *entries);
                old
            }
            (Value::List(items), Value::List(added)) => {
                let items = std::mem::take(items);
                old.value = Value::List(self.list(items, added, new.at));
                old
            }
            (_, value) => {
                if let Some(history) = &mut self.history {
                    history.entry(self.path.clone()).or_default().push(old.at);
                }
                new.value = value;
                new.dress_as(&mut old.extras);
                self.fresh(new)
            }
        }
    }

    /// Remembers the path if `text` is `(( prune ))` or `(( sort … ))`.
    fn mark(&mut self, text: &str) -> bool {
        let Some(body) = body_of(text) else { return false };
        let mut words = body.split_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("prune"), ..) => {
                self.prune.push(self.path.clone());
                true
            }
            (Some("sort"), None, ..) => self.mark_sort(None),
            (Some("sort"), Some("by"), Some(key), None) => self.mark_sort(Some(key.to_owned())),
            _ => false,
        }
    }

    fn mark_sort(&mut self, key: Option<String>) -> bool {
        if !self.sort.iter().any(|(path, _)| *path == self.path) {
            self.sort.push((self.path.clone(), key));
        }
        true
    }

    fn list(&mut self, old: Vec<Node>, new: Vec<Node>, at: At) -> Vec<Node> {
        list::merge(self, old, new, at)
    }
}

/// What stands between `((` and `))`, if `text` is that and nothing else.
pub(crate) fn body_of(text: &str) -> Option<&str> {
    Some(text.strip_prefix("((")?.strip_suffix("))")?.trim())
}

fn is_merge_operator(text: &str) -> bool {
    body_of(text.trim_start()).is_some_and(|body| {
        body == "merge" || body.strip_prefix("merge").is_some_and(|rest| rest.starts_with(' '))
    })
}
