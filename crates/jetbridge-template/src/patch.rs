//! go-patch files: lists of `{type: replace|remove|test, path: /a/b?/name=x/0/-, value: …}`,
//! applied in their turn among the files.

use std::sync::Arc;

use crate::tree::{DEPTH_MAX, Map, Node, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Key(String),
    Index(i64),
    /// Behind the last element.
    End,
    Item {
        key: String,
        value: String,
    },
}

/// Where an element is taken, seen from the one that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Itself,
    /// The element before or behind it.
    Neighbour(i64),
    /// The gap before it (0) or behind it (1).
    Gap(usize),
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    token: Token,
    /// What is not there is made; holds for all steps behind it too.
    optional: bool,
    beside: Beside,
}

/// Applies the operations of `document` to `root`; an error says which and why.
pub(crate) fn apply(root: &mut Node, document: Node) -> Result<(), String> {
    let operations = operations(document).map_err(|what| {
        format!(
            "Root of YAML document is not a hash/map. Tried parsing it as go-patch, but got: {what}"
        )
    })?;
    for Operation { path, steps, change } in &operations {
        let at = Cursor { path };
        match change {
            Change::Replace(value) => at.replace(root, steps, value.clone())?,
            Change::Remove => at.remove(root, steps)?,
            Change::Test(value) => at.test(root, steps, value)?,
        }
    }
    Ok(())
}

struct Operation {
    path: String,
    steps: Vec<Step>,
    change: Change,
}

enum Change {
    Replace(Node),
    Remove,
    Test(Node),
}

fn operations(document: Node) -> Result<Vec<Operation>, String> {
    let kind = document.kind();
    let Value::List(operations) = document.value else {
        return Err(format!("it is a {kind}, not a list of operations"));
    };
    operations.iter().enumerate().map(|(number, node)| operation(number, node)).collect()
}

fn operation(number: usize, node: &Node) -> Result<Operation, String> {
    let field = |name: &str| node.as_map().and_then(|map| map.get(name)).and_then(Node::as_str);
    let path = field("path").ok_or_else(|| format!("operation {number} has no `path`"))?;
    let value = node.as_map().and_then(|map| map.get("value")).cloned();
    let kind = field("type").unwrap_or_default();
    let change = match (kind, value) {
        ("replace", Some(value)) => Change::Replace(value),
        ("test", Some(value)) => Change::Test(value),
        ("replace" | "test", None) => {
            return Err(format!("operation {number} of type {kind} has no `value`"));
        }
        ("remove", _) => Change::Remove,
        _ => {
            return Err(format!(
                "operation {number} has the type '{kind}'; replace, remove and test are known"
            ));
        }
    };
    let steps = steps(path)?;
    // Steps that ask for it make what is not there.
    let depth = match &change {
        Change::Replace(value) => steps.len() + value.measure().1,
        Change::Remove | Change::Test(_) => steps.len(),
    };
    if depth > DEPTH_MAX {
        return Err(format!("operation {number} goes deeper than {DEPTH_MAX} levels"));
    }
    Ok(Operation { path: path.to_owned(), steps, change })
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("Expected path '{path}' to start with '/'"));
    };
    let mut optional = false;
    let mut steps = Vec::new();
    for part in rest.split('/').filter(|_| !rest.is_empty()) {
        let (part, beside) = modifier(part);
        let (part, asks) = match part.strip_suffix('?') {
            Some(part) => (part, true),
            None => (part, false),
        };
        optional |= asks;
        let text = part.replace("~1", "/").replace("~7", ":").replace("~0", "~");
        let token = match (text.as_str(), text.parse(), text.split_once('=')) {
            ("-", ..) => Token::End,
            (_, Ok(index), _) => Token::Index(index),
            (.., Some((key, value))) => {
                Token::Item { key: key.to_owned(), value: value.to_owned() }
            }
            _ => Token::Key(text),
        };
        steps.push(Step { token, optional, beside });
    }
    Ok(steps)
}

fn modifier(part: &str) -> (&str, Beside) {
    const WORDS: [(&str, Beside); 4] = [
        (":prev", Beside::Neighbour(-1)),
        (":next", Beside::Neighbour(1)),
        (":before", Beside::Gap(0)),
        (":after", Beside::Gap(1)),
    ];
    let found = WORDS.iter().find_map(|(word, beside)| Some((part.strip_suffix(word)?, *beside)));
    found.unwrap_or((part, Beside::Itself))
}

/// A path, for errors.
struct Cursor<'a> {
    path: &'a str,
}

impl Cursor<'_> {
    /// The node that all of `steps` lead to; with `optional` what is missing is made.
    fn enter<'n>(&self, root: &'n mut Node, steps: &[Step]) -> Result<&'n mut Node, String> {
        let mut node = root;
        for (depth, step) in steps.iter().enumerate() {
            let next = steps.get(depth + 1).map(|step| &step.token);
            node = match &step.token {
                Token::Key(key) => {
                    let map = self.map(node, step)?;
                    if !map.contains_key(key.as_str()) {
                        if !step.optional {
                            return Err(self.no_key(key, map));
                        }
                        map.insert(Arc::from(key.as_str()), empty_for(next));
                    }
                    map.get_mut(key.as_str()).ok_or_else(|| self.lost())?
                }
                _ => {
                    let index = self.place(node, step)?;
                    let list = self.list(node, step)?;
                    if index == list.len() {
                        list.push(made_for(&step.token, next));
                    }
                    list.get_mut(index).ok_or_else(|| self.lost())?
                }
            };
        }
        Ok(node)
    }

    fn replace(&self, root: &mut Node, steps: &[Step], value: Node) -> Result<(), String> {
        let Some((last, parents)) = steps.split_last() else {
            *root = value;
            return Ok(());
        };
        let parent = self.enter_for(root, parents, &last.token)?;
        if let Token::Key(key) = &last.token {
            let map = self.map(parent, last)?;
            if !map.contains_key(key.as_str()) && !last.optional {
                return Err(self.no_key(key, map));
            }
            map.insert(Arc::from(key.as_str()), value);
            return Ok(());
        }
        let index = self.place(parent, last)?;
        let list = self.list(parent, last)?;
        if matches!(last.beside, Beside::Gap(_)) || index == list.len() {
            list.insert(index, value);
        } else {
            list[index] = value;
        }
        Ok(())
    }

    fn remove(&self, root: &mut Node, steps: &[Step]) -> Result<(), String> {
        let Some((last, parents)) = steps.split_last() else {
            return Err("Cannot remove entire document".to_owned());
        };
        if last.optional && !self.exists(root, steps) {
            return Ok(());
        }
        let parent = self.enter(root, parents)?;
        if let Token::Key(key) = &last.token {
            let map = self.map(parent, last)?;
            if map.shift_remove(key.as_str()).is_none() {
                return Err(self.no_key(key, map));
            }
            return Ok(());
        }
        let index = self.place(parent, last)?;
        let list = self.list(parent, last)?;
        if index >= list.len() {
            return Err(self.no_index(&index.to_string(), list.len()));
        }
        list.remove(index);
        Ok(())
    }

    fn test(&self, root: &Node, steps: &[Step], value: &Node) -> Result<(), String> {
        let mut copy = root.clone();
        let found = self.exists(root, steps).then(|| self.enter(&mut copy, steps)).transpose()?;
        match found {
            Some(node) if *node == *value => Ok(()),
            Some(_) => {
                Err(format!("Found value does not match expected value for path '{}'", self.path))
            }
            None => Err(format!("Expected to find a value for path '{}'", self.path)),
        }
    }

    fn exists(&self, root: &Node, steps: &[Step]) -> bool {
        let strict: Vec<_> =
            steps.iter().map(|step| Step { optional: false, ..step.clone() }).collect();
        self.enter(&mut root.clone(), &strict).is_ok()
    }

    fn enter_for<'n>(
        &self,
        root: &'n mut Node,
        parents: &[Step],
        last: &Token,
    ) -> Result<&'n mut Node, String> {
        let node = self.enter(root, parents)?;
        let made = parents.last().is_some_and(|step| step.optional);
        if made && matches!(&node.value, Value::Null) {
            *node = empty_for(Some(last));
        }
        Ok(node)
    }

    fn map<'n>(&self, node: &'n mut Node, step: &Step) -> Result<&'n mut Map, String> {
        let kind = node.kind();
        if step.optional && node.is_null() {
            *node = Node::map();
        }
        match &mut node.value {
            Value::Map(map) => Ok(map),
            _ => Err(format!("Expected to find a map at path '{}' but found '{kind}'", self.path)),
        }
    }

    fn list<'n>(&self, node: &'n mut Node, step: &Step) -> Result<&'n mut Vec<Node>, String> {
        let kind = node.kind();
        if step.optional && node.is_null() {
            *node = Node::list(Vec::new());
        }
        match &mut node.value {
            Value::List(items) => Ok(items),
            _ => {
                Err(format!("Expected to find an array at path '{}' but found '{kind}'", self.path))
            }
        }
    }

    /// Which element of the list `node` a step means; its length where one is to be added.
    fn place(&self, node: &mut Node, step: &Step) -> Result<usize, String> {
        let items = self.list(node, step)?;
        let length = items.len();
        let found = match &step.token {
            Token::End => return Ok(length),
            Token::Index(index) => {
                let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
                let at = if *index < 0 { length.checked_sub(from_end) } else { Some(from_end) };
                at.filter(|at| *at < length)
                    .ok_or_else(|| self.no_index(&index.to_string(), length))?
            }
            Token::Item { key, value } => {
                let matches = |item: &Node| {
                    let id = item.as_map().and_then(|map| map.get(key.as_str()));
                    id.is_some_and(|id| crate::tree::shown(id) == *value)
                };
                let found: Vec<_> =
                    items.iter().enumerate().filter(|(_, item)| matches(item)).collect();
                match &found[..] {
                    [(index, _)] => *index,
                    [] if step.optional => return Ok(length),
                    _ => {
                        return Err(format!(
                            "Expected to find exactly one matching array item for path '{}' but \
                             found {}",
                            self.path,
                            found.len()
                        ));
                    }
                }
            }
            Token::Key(_) => return Err(self.lost()),
        };
        match step.beside {
            Beside::Itself => Ok(found),
            Beside::Gap(behind) => Ok(found + behind),
            Beside::Neighbour(offset) => {
                let neighbour = if offset < 0 { found.checked_sub(1) } else { Some(found + 1) };
                neighbour
                    .filter(|at| *at < length)
                    .ok_or_else(|| self.no_index(&format!("{found} {offset:+}"), length))
            }
        }
    }

    fn no_key(&self, key: &str, map: &Map) -> String {
        let found = if map.is_empty() {
            "found no other map keys".to_owned()
        } else {
            let keys: Vec<_> = map.keys().map(|key| format!("'{key}'")).collect();
            format!("found map keys: {}", keys.join(", "))
        };
        format!("Expected to find a map key '{key}' for path '{}' ({found})", self.path)
    }

    fn no_index(&self, index: &str, length: usize) -> String {
        format!(
            "Expected to find array index '{index}' but found array of length '{length}' for path \
             '{}'",
            self.path
        )
    }

    fn lost(&self) -> String {
        format!("path '{}' leads nowhere", self.path)
    }
}

/// What a missing parent becomes, for the step behind it.
fn empty_for(next: Option<&Token>) -> Node {
    match next {
        Some(Token::Key(_)) => Node::map(),
        Some(_) => Node::list(Vec::new()),
        None => Node::default(),
    }
}

/// The element that a missing `key=value` or `-` becomes.
fn made_for(token: &Token, next: Option<&Token>) -> Node {
    match token {
        Token::Item { key, value } => {
            let mut map = Box::<Map>::default();
            map.insert(Arc::from(key.as_str()), Node::text(value.as_str()));
            Node::new(Value::Map(map))
        }
        _ => empty_for(next),
    }
}
