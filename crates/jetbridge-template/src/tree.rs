//! Documents as trees: values with what is needed to print them again as they were written.
//!
//! A scalar keeps its lexeme, a node its place and its comments. Nothing here knows operators.

use std::fmt;
use std::num::NonZeroU8;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

/// Levels of nesting at most: of a document, and of what operators build. Trees are walked
/// recursively, and this bounds the stack.
pub(crate) const DEPTH_MAX: usize = 256;

/// The entries of a map, in the order of the file.
pub(crate) type Map = IndexMap<Arc<str>, Node, RandomState>;

/// A value. A map is behind a pointer, so that scalars, of which documents are made, stay small.
#[derive(Clone, Debug, Default)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    List(Vec<Node>),
    Map(Box<Map>),
}

/// Where a node was written: the number of its file, line and column from 1; line 0 is nowhere.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct At {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// How a node is laid out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Layout {
    #[default]
    Block,
    Flow,
}

/// How many columns the entries of a container stand to the right of those around it, where
/// that is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Indent(Option<NonZeroU8>);

impl Indent {
    pub(crate) fn of(columns: usize) -> Self {
        // One more than it is, so that none of it is something too.
        Self(u8::try_from(columns + 1).ok().and_then(NonZeroU8::new))
    }

    pub(crate) fn columns(self) -> Option<usize> {
        self.0.map(|columns| usize::from(columns.get()) - 1)
    }
}

/// What few nodes have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// The lexeme of the node's key, where it is not the key's text.
    pub(crate) key: Option<Box<str>>,
    /// Comment lines before the entry, with their `#`, and blank lines.
    pub(crate) above: Vec<Box<str>>,
    /// The comment behind it.
    pub(crate) right: Option<Box<str>>,
    /// Where the document starts with `---`: the lines above that.
    pub(crate) head: Option<Vec<Box<str>>>,
    /// Comment lines at the end of the document.
    pub(crate) tail: Vec<Box<str>>,
    /// A tag that is not of the core schema, as written.
    pub(crate) tag: Option<Box<str>>,
}

/// A value and how it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// The scalar as written, quotes included; `None` once it is computed. Lines after the first
    /// begin where the entries of the container around it do.
    pub(crate) raw: Option<Box<str>>,
    pub(crate) extras: Option<Box<Extras>>,
    pub(crate) at: At,
    pub(crate) layout: Layout,
    pub(crate) indent: Indent,
    /// Holds something read from a store that is marked secret.
    pub(crate) secret: bool,
}

impl Node {
    pub(crate) fn new(value: Value) -> Self {
        Self { value, ..Self::default() }
    }

    pub(crate) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::new(Value::Str(text.into()))
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::new(Value::List(items))
    }

    pub(crate) fn map() -> Self {
        Self::new(Value::Map(Box::default()))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Takes the comments and the key's lexeme of the node that this one replaces.
    pub(crate) fn dress_as(&mut self, old: &mut Option<Box<Extras>>) {
        let Some(old) = old.take() else { return };
        let own = self.extras_mut();
        own.key = old.key;
        if own.above.is_empty() {
            own.above = old.above;
        }
        own.right = own.right.take().or(old.right);
    }

    /// The tag of another program that it is written with.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.extras.as_ref()?.tag.as_deref()
    }

    /// Without what belongs to the place where it stands: its key's lexeme and comments.
    pub(crate) fn undressed(mut self) -> Self {
        if let Some(extras) = self.extras.take() {
            let Extras { tag, .. } = *extras;
            self.extras = tag.map(|tag| Box::new(Extras { tag: Some(tag), ..Extras::default() }));
        }
        self
    }

    /// The kind of value in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(_) => "slice",
            Value::Map(_) => "map",
        }
    }

    /// Nodes in this tree, itself included, and its depth.
    pub(crate) fn measure(&self) -> (usize, usize) {
        let mut nodes = 1;
        let mut depth = 0;
        let mut child = |node: &Self| {
            let (n, d) = node.measure();
            nodes += n;
            depth = depth.max(d);
        };
        match &self.value {
            Value::List(items) => items.iter().for_each(&mut child),
            Value::Map(map) => map.values().for_each(&mut child),
            _ => {}
        }
        (nodes, depth + 1)
    }

    /// About how much memory a copy of this tree takes.
    pub(crate) fn bytes(&self) -> usize {
        let lines = |lines: &[Box<str>]| lines.iter().map(|line| line.len()).sum::<usize>();
        let comments = self
            .extras
            .as_ref()
            .map_or(0, |extras| size_of::<Extras>() + lines(&extras.above) + lines(&extras.tail));
        let below = match &self.value {
            Value::List(items) => items.iter().map(Self::bytes).sum::<usize>(),
            Value::Map(map) => map.values().map(Self::bytes).sum(),
            _ => 0,
        };
        size_of::<Self>() + self.raw.as_ref().map_or(0, |raw| raw.len()) + comments + below
    }

    /// True if this or anything in it is secret.
    pub(crate) fn has_secret(&self) -> bool {
        self.secret
            || match &self.value {
                Value::List(items) => items.iter().any(Self::has_secret),
                Value::Map(map) => map.values().any(Self::has_secret),
                _ => false,
            }
    }

    /// Marks this and everything in it as secret: whoever reads a part of it reads a secret.
    pub(crate) fn mark_secret(&mut self) {
        self.secret = true;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(Self::mark_secret),
            Value::Map(map) => map.values_mut().for_each(Self::mark_secret),
            _ => {}
        }
    }

    /// The child under `segment`: of a map by key, of a list by index or by the first of `name`,
    /// `key` and `id` that an element has it under. Returns how the child is really addressed.
    pub(crate) fn child(&self, segment: &str) -> Option<(Step, &Self)> {
        match &self.value {
            Value::Map(map) => {
                map.get_key_value(segment).map(|(k, v)| (Step::Key(Arc::clone(k)), v))
            }
            Value::List(items) => {
                let index = index_in(items, segment)?;
                items.get(index).map(|node| (Step::Index(index), node))
            }
            _ => None,
        }
    }

    pub(crate) fn step(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Map(map), Step::Key(key)) => map.get(key),
            (Value::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    pub(crate) fn step_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.value, step) {
            (Value::Map(map), Step::Key(key)) => map.get_mut(key),
            (Value::List(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    pub(crate) fn at_path_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| node.step_mut(step))
    }
}

/// Equal in value: how it was written does not matter, and a whole float equals its integer.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => {
                as_float(*a) == *b
            }
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// The nearest float, as arithmetic between integers and floats wants it.
#[expect(clippy::cast_precision_loss, reason = "what every language with two number types does")]
pub(crate) fn as_float(n: i64) -> f64 {
    n as f64
}

/// What an element of a list is found by, beside its index.
pub(crate) const NAMES: [&str; 3] = ["name", "key", "id"];

/// True if `segment` is the index of an element, and no name.
pub(crate) fn is_index(segment: &str) -> bool {
    segment.bytes().all(|b| b.is_ascii_digit())
}

fn index_in(items: &[Node], segment: &str) -> Option<usize> {
    if is_index(segment) {
        return segment.parse().ok();
    }
    NAMES.iter().find_map(|field| {
        items.iter().position(|item| {
            item.as_map().and_then(|map| map.get(*field)).is_some_and(|id| shown(id) == segment)
        })
    })
}

/// A scalar as its text, the way operators put it into strings.
pub(crate) fn shown(node: &Node) -> String {
    match &node.value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(f) => crate::scalar::float_text(*f),
        Value::Str(text) => text.to_string(),
        Value::List(_) => "[list]".to_owned(),
        Value::Map(_) => "{map}".to_owned(),
    }
}

/// One step down a tree.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Step {
    Key(Arc<str>),
    Index(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// `path` as spruce tells it: an element that has a name by that, not by its index; a secret is no
/// name, nor is one that is `computed`, whatever becomes of it.
pub(crate) fn named(root: &Node, path: &[Step], computed: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut node = Some(root);
    let mut shown = Vec::with_capacity(path.len());
    for (level, step) in path.iter().enumerate() {
        node = node.and_then(|node| node.step(step));
        let map = node.and_then(Node::as_map).filter(|_| matches!(step, Step::Index(_)));
        let name = |map: &'_ Map| {
            let named = |field: &&str| {
                let name = map.get(*field).filter(|name| !name.secret)?.as_str()?;
                Some((Step::Key((*field).into()), name))
            };
            let (field, name) = NAMES.iter().find_map(named)?;
            let at = [&path[..=level], &[field]].concat();
            (!computed(&at)).then(|| Arc::from(name))
        };
        let name = map.and_then(name);
        shown.push(name.map_or_else(|| step.clone(), Step::Key));
    }
    shown
}

/// `$.a.b.0`, as errors print it.
pub(crate) fn path_text(path: &[Step]) -> String {
    let mut text = "$".to_owned();
    for step in path {
        text.push('.');
        text.push_str(&step.to_string());
    }
    text
}
