//! From bytes to documents.
//!
//! Events of a YAML parser become trees with places, lexemes and comments. Depth, aliases and
//! size are bounded; whatever is wrong is an error with its place, never a panic. Operators are
//! plain text here.

use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;
use granit_parser::{Event, Parser, Placement, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use crate::error::{Diagnostic, Place};
use crate::merge::body_of;
use crate::prescan;
use crate::scalar;
use crate::tag;
use crate::tree::{At, DEPTH_MAX, Indent, Layout, Map, Node, Value, shown};
use crate::written;

/// Bytes of one input at most: ten times what people write by hand, far from what fills memory.
pub(crate) const INPUT_BYTES_MAX: usize = 256 << 20;

/// Nodes that aliases may add to one input: a bomb of nested aliases ends here.
const ALIAS_NODES_MAX: usize = 1_000_000;

/// Bytes that anchors within others may keep of one document: each keeps all that is in it.
const ANCHOR_BYTES_MAX: usize = 256 << 20;

/// Comments in one run at most that the scanner holds before their token.
const COMMENTS_MAX: usize = 1_000_000;

/// The documents of one input. An empty one, or one of comments alone, is one empty map.
pub(crate) fn parse(name: &str, file: u32, bytes: &[u8]) -> Result<Vec<Node>, Diagnostic> {
    let text = text_of(name, bytes)?;
    let mut spans = prescan::operators(text);
    loop {
        let hidden = prescan::hide(text, &spans);
        let mut builder = Builder::new(text, file, &spans);
        let read = builder.read(&hidden);
        let used = builder.used();
        match read {
            Ok(()) if used.len() == spans.len() => return Ok(builder.documents),
            // What is not a scalar of its own is part of another one.
            Ok(()) => spans = used,
            // Where hiding does not help, the text speaks for itself.
            Err(_) if used.is_empty() && !spans.is_empty() => spans.clear(),
            Err(fault) => return Err(fault.diagnostic(name)),
        }
    }
}

fn text_of<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    if bytes.len() > INPUT_BYTES_MAX {
        let limit = INPUT_BYTES_MAX >> 20;
        return Err(Diagnostic::top(format!("{name}: is larger than {limit} MiB")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.split(|b| *b == b'\n').count().saturating_sub(1);
        let mut diagnostic =
            Diagnostic::top(format!("{name}: line {line} is not valid UTF-8 text"));
        diagnostic.place = Some(Place::new(name, line, 1));
        diagnostic
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What is wrong with a document, and where.
#[derive(Debug, Default)]
struct Fault {
    message: String,
    at: At,
}

impl Fault {
    fn diagnostic(self, name: &str) -> Diagnostic {
        let (line, column) = (self.at.line as usize, self.at.column as usize);
        let mut diagnostic = Diagnostic::top(format!(
            "{name}: unmarshal []byte to yaml failed: yaml: line {line}: {}",
            self.message
        ));
        diagnostic.place = Some(Place::new(name, line, column));
        diagnostic
    }
}

/// A container that is not closed yet.
struct Frame {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, with its lexeme and the comments above it.
    key: Option<(Arc<str>, Option<Box<str>>, At)>,
    /// Comments above the entry whose value is to come.
    above: Vec<Box<str>>,
    right: Option<Box<str>>,
    /// Comments above all of it.
    above_all: Vec<Box<str>>,
    /// The column that its entries begin in, from 0, once one is known.
    column: Option<usize>,
}

impl Frame {
    fn is_flow(&self) -> bool {
        self.node.layout == Layout::Flow
    }

    /// True if what comes next begins an entry.
    fn awaits_entry(&self) -> bool {
        self.key.is_none()
    }
}

struct Builder<'a> {
    text: &'a str,
    file: u32,
    /// What is hidden, in the order of the text, and whether it was met as a scalar of its own.
    spans: Vec<(Range<usize>, bool)>,
    /// The first of them that is not behind what is being read.
    next_span: usize,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    above: Vec<written::Line>,
    /// Blank lines above this line are taken care of.
    blanks_until: usize,
    /// The next blank lines belong to a block scalar.
    kept_blanks: bool,
    alias_nodes: usize,
    anchor_bytes: usize,
    /// The lines above the `---` of the document that is being read, if it has one.
    head: Option<Vec<Box<str>>>,
    root: Option<Node>,
    documents: Vec<Node>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, file: u32, spans: &[Range<usize>]) -> Self {
        let spans = spans.iter().map(|span| (span.clone(), false)).collect();
        Self {
            text,
            file,
            spans,
            next_span: 0,
            stack: Vec::new(),
            anchors: HashMap::default(),
            above: Vec::new(),
            blanks_until: 0,
            kept_blanks: false,
            alias_nodes: 0,
            anchor_bytes: 0,
            head: None,
            root: None,
            documents: Vec::new(),
        }
    }

    fn used(&mut self) -> Vec<Range<usize>> {
        let spans = std::mem::take(&mut self.spans).into_iter();
        spans.filter(|(_, used)| *used).map(|(span, _)| span).collect()
    }

    /// True if the quoted scalar at `range` is what an operator is hidden behind.
    fn is_hidden(&mut self, range: &Range<usize>) -> bool {
        // Scalars come in the order of the text: no table of tens of thousands is searched.
        while self.spans.get(self.next_span).is_some_and(|(span, _)| span.start < range.start) {
            self.next_span += 1;
        }
        match self.spans.get_mut(self.next_span) {
            Some((span, used)) if span == range => {
                *used = true;
                true
            }
            _ => false,
        }
    }

    fn read(&mut self, hidden: &str) -> Result<(), Fault> {
        let options = granit_parser::options! {
            max_buffered_comment_events: COMMENTS_MAX,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        for next in Parser::new_from_str_with_options(hidden, options) {
            let (event, span) = next.map_err(|error| self.scan_fault(&error))?;
            self.event(event, &span)?;
        }
        if self.documents.is_empty() {
            let mut empty = Node::map();
            empty.extras_mut().tail = written::lines(std::mem::take(&mut self.above), 0);
            self.documents.push(empty);
        } else if !self.above.is_empty()
            && let Some(last) = self.documents.last_mut()
        {
            last.extras_mut().tail.append(&mut written::lines(std::mem::take(&mut self.above), 0));
        }
        Ok(())
    }

    fn scan_fault(&self, error: &ScanError) -> Fault {
        let mark = error.marker();
        let at = At { file: self.file, line: narrow(mark.line()), column: narrow(mark.col() + 1) };
        Fault { message: error.kind().to_string(), at }
    }

    fn at(&self, span: &Span) -> At {
        At {
            file: self.file,
            line: narrow(span.start.line()),
            column: narrow(span.start.col() + 1),
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let at = self.at(span);
        let begins = matches!(
            event,
            Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
                | Event::Alias(..)
        );
        if begins && self.stack.last().is_none_or(Frame::awaits_entry) {
            self.blank_lines(span);
        }
        match event {
            Event::DocumentStart(is_written, _) => {
                self.anchors.clear();
                self.anchor_bytes = 0;
                self.head = None;
                if is_written {
                    self.blank_lines(span);
                    self.head = Some(written::lines(std::mem::take(&mut self.above), 0));
                }
            }
            Event::DocumentEnd => {
                let mut root = self.root.take().unwrap_or_default();
                if root.is_null() && root.raw.as_deref().is_none_or(str::is_empty) {
                    root = Node { at: root.at, ..Node::map() };
                }
                if let Some(head) = self.head.take() {
                    root.extras_mut().head = Some(head);
                }
                self.documents.push(root);
            }
            Event::Comment(text, placement) => self.comment(&text, placement, span),
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, span, tag.as_deref())?;
                self.anchor(anchor, &node)?;
                self.add(node)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                let start = span.byte_range().map_or(0, |range| range.start);
                let column = written::dash_column(self.text, start);
                self.open(Node::list(Vec::new()), at, (style, anchor, tag.as_deref()), column)?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let mut node = Node::map();
                if let Value::Map(map) = &mut node.value
                    && self.stack.is_empty()
                {
                    let start = span.byte_range().map_or(0, |range| range.start);
                    map.reserve(written::entries(self.text.get(start..).unwrap_or_default()));
                }
                self.open(node, at, (style, anchor, tag.as_deref()), None)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().unwrap_or_default();
                let (nodes, depth) = node.measure();
                // Each copy may hold others: what was written flat may be deep.
                if self.stack.len() + depth > DEPTH_MAX {
                    return Err(too_deep(at));
                }
                self.alias_nodes += nodes;
                if self.alias_nodes > ALIAS_NODES_MAX {
                    let message = format!("aliases stand for more than {ALIAS_NODES_MAX} values");
                    return Err(Fault { message, at });
                }
                self.add(Node { at, ..node.undressed() })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn comment(&mut self, text: &str, placement: Placement, span: &Span) {
        let line: Box<str> = format!("#{text}").into();
        if placement != Placement::Right {
            self.blank_lines(span);
            // Beside the start of a document it stands in no column of it.
            let column = if self.stack.is_empty() { 0 } else { span.start.col() };
            self.above.push((column, line));
            return;
        }
        let last = match self.stack.last_mut() {
            Some(frame) if frame.key.is_some() => {
                frame.right = Some(line);
                return;
            }
            Some(frame) => match &mut frame.node.value {
                Value::List(items) => items.last_mut(),
                Value::Map(map) => map.last_mut().map(|(_, node)| node),
                _ => None,
            },
            None => None,
        };
        match last {
            Some(node) => node.extras_mut().right = Some(line),
            None => self.above.push((span.start.col(), line)),
        }
    }

    /// Takes note of the blank lines above what begins at `span`.
    fn blank_lines(&mut self, span: &Span) {
        let line = span.start.line();
        let flow = self.stack.last().is_some_and(Frame::is_flow);
        if line <= self.blanks_until || flow {
            return;
        }
        self.blanks_until = line;
        if std::mem::take(&mut self.kept_blanks) {
            return;
        }
        let start = span.byte_range().map_or(0, |range| range.start);
        let blanks = written::blank_lines_before(self.text, start);
        self.above.extend(std::iter::repeat_n((0, Box::from("")), blanks));
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        span: &Span,
        tag: Option<&Tag>,
    ) -> Result<Node, Fault> {
        let at = self.at(span);
        let range = span.byte_range().unwrap_or_default();
        if style == ScalarStyle::DoubleQuoted && self.is_hidden(&range) {
            let source = &self.text[range];
            let folded = source.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            let raw = self.lexeme(source);
            return Ok(tagged(Node { at, raw, ..Node::text(folded) }, tag));
        }
        // The tag of an operator is for what comes out, and what is left as it is has its own.
        let core = tag.filter(|_| body_of(text).is_none()).and_then(Tag::core_suffix);
        let value = match core {
            Some(kind) => tag::value(kind, text).map_err(|message| Fault { message, at })?,
            None if tag.is_none() && style == ScalarStyle::Plain => scalar::resolve(text),
            _ => Value::Str(text.into()),
        };
        let raw = match style {
            ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                self.text.get(range).and_then(|source| self.lexeme(source))
            }
            _ => {
                self.kept_blanks = text.ends_with("\n\n");
                self.block_lexeme(text, &range)
            }
        };
        // YAML's own tags are in the value: what means something else without one is written anew.
        let raw = raw.filter(|_| core.is_none() || reads_back(text, style, &value));
        let raw = raw.or_else(|| core.and(tag::float_lexeme(&value)));
        // A float that went through an integer's overflow, say, still prints as written.
        let node = Node { value, raw, at, ..Node::default() };
        Ok(tagged(node, tag.filter(|_| core.is_none())))
    }

    /// A scalar as it was written, its lines after the first moved to the container's column.
    fn lexeme(&self, source: &str) -> Option<Box<str>> {
        if !source.contains(['\n', '\r']) {
            return Some(source.into());
        }
        let frame = self.stack.last().filter(|frame| !frame.is_flow())?;
        written::moved(source, frame.column?)
    }

    /// As [`Builder::lexeme`], of the block scalar whose content is at `range`.
    fn block_lexeme(&self, text: &str, range: &Range<usize>) -> Option<Box<str>> {
        let frame = self.stack.last().filter(|frame| !frame.is_flow())?;
        let moved = written::moved(written::block(self.text, range, text)?, frame.column?)?;
        // Beside a key that begins further to the right than it seems, as behind an anchor.
        let inside = |line: &str| line.is_empty() || line.starts_with(' ');
        moved.split('\n').skip(1).all(inside).then_some(moved)
    }

    fn open(
        &mut self,
        node: Node,
        at: At,
        (style, anchor, tag): (StructureStyle, usize, Option<&Tag>),
        column: Option<usize>,
    ) -> Result<(), Fault> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        let layout = if style == StructureStyle::Flow { Layout::Flow } else { Layout::Block };
        let node = Node { at, layout, ..node };
        let node = tagged(node, tag.filter(|tag| tag.core_suffix().is_none()));
        // Comments above a container that is an element or a document stand above all of it.
        let above_all = match self.stack.last() {
            Some(frame) if frame.key.is_none() => {
                written::lines(std::mem::take(&mut self.above), frame.column.unwrap_or(0))
            }
            None if tag.is_some() => written::lines(std::mem::take(&mut self.above), 0),
            _ => Vec::new(),
        };
        self.stack.push(Frame {
            node,
            anchor,
            key: None,
            above: Vec::new(),
            right: None,
            above_all,
            column,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let mut node = frame.node;
        let around = self.stack.last().and_then(|around| around.column);
        if let (Some(own), Some(around)) = (frame.column, around) {
            node.indent = own.checked_sub(around).map(Indent::of).unwrap_or_default();
        }
        if let Value::Map(map) = &mut node.value
            && map.contains_key(MERGE_KEY)
        {
            spread_merge_keys(map);
        }
        self.anchor(frame.anchor, &node)?;
        if !frame.above_all.is_empty() {
            node.extras_mut().above = frame.above_all;
        }
        self.attach(node, true)
    }

    /// Keeps `node` for aliases, if it has an anchor.
    fn anchor(&mut self, anchor: usize, node: &Node) -> Result<(), Fault> {
        if anchor == 0 {
            return Ok(());
        }
        let is_within = self.stack.iter().any(|frame| frame.anchor != 0);
        self.anchor_bytes += if is_within { node.bytes() } else { 0 };
        if self.anchor_bytes > ANCHOR_BYTES_MAX {
            let message = format!("anchors in anchors hold more than {ANCHOR_BYTES_MAX} bytes");
            return Err(Fault { message, at: node.at });
        }
        self.anchors.insert(anchor, node.clone());
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Fault> {
        self.attach(node, false)
    }

    /// Puts a finished node where it belongs.
    fn attach(&mut self, mut node: Node, container: bool) -> Result<(), Fault> {
        let above = if container { Vec::new() } else { std::mem::take(&mut self.above) };
        let Some(frame) = self.stack.last_mut() else {
            if !above.is_empty() {
                node.extras_mut().above = written::lines(above, 0);
            }
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.node.value {
            Value::List(items) => {
                if !above.is_empty() {
                    node.extras_mut().above = written::lines(above, frame.column.unwrap_or(0));
                }
                items.push(node);
                Ok(())
            }
            Value::Map(map) => match frame.key.take() {
                None => {
                    let key = key_of(&node)?;
                    if let Some(earlier) = map.get(&key.0) {
                        return Err(duplicate(&key.0, earlier.at, node.at));
                    }
                    let column = (key.2.column as usize).saturating_sub(1);
                    frame.column.get_or_insert(column);
                    frame.above = written::lines(above, column);
                    frame.key = Some(key);
                    Ok(())
                }
                Some((key, lexeme, at)) => {
                    let comments = std::mem::take(&mut frame.above);
                    let right = frame.right.take();
                    if lexeme.is_some() || !comments.is_empty() || right.is_some() {
                        let extras = node.extras_mut();
                        extras.key = lexeme;
                        extras.above = comments;
                        extras.above.extend(written::lines(above, frame.column.unwrap_or(0)));
                        extras.right = extras.right.take().or(right);
                    }
                    if node.at.line == 0 {
                        node.at = at;
                    }
                    map.insert(key, node);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }
}

/// The key of YAML 1.1 that spreads other maps into this one.
const MERGE_KEY: &str = "<<";

type KeyParts = (Arc<str>, Option<Box<str>>, At);

fn key_of(node: &Node) -> Result<KeyParts, Fault> {
    let text: Arc<str> = match &node.value {
        Value::Str(text) => Arc::clone(text),
        Value::List(_) | Value::Map(_) => {
            let message = "a key is a map or a list; only scalars can be keys".to_owned();
            return Err(Fault { message, at: node.at });
        }
        value => match node.raw.as_deref() {
            Some(raw) if !raw.is_empty() => raw.into(),
            _ if matches!(value, Value::Null) => "null".into(),
            _ => shown(node).into(),
        },
    };
    let kept = |raw: &str| {
        let whole = !raw.contains('\n') && !scalar::is_marker(raw);
        whole && (*raw != *text || scalar_quotes_needed(&text))
    };
    let raw = node.raw.as_ref().filter(|_| node.tag().is_none());
    let lexeme = match raw {
        Some(raw) => Some(raw.clone()).filter(|raw| kept(raw)),
        // What a tag made of it: no quotes, or it would be text.
        None => (!matches!(node.value, Value::Str(_))).then(|| (*text).into()),
    };
    Ok((text, lexeme, node.at))
}

/// `node` with the tag that is written before it.
fn tagged(mut node: Node, tag: Option<&Tag>) -> Node {
    if let Some(tag) = tag {
        node.extras_mut().tag = Some(written::tag(tag).into());
    }
    node
}

/// True if the scalar means `value` without its tag too.
fn reads_back(text: &str, style: ScalarStyle, value: &Value) -> bool {
    let untagged = match style {
        ScalarStyle::Plain => scalar::resolve(text),
        _ => Value::Str(text.into()),
    };
    std::mem::discriminant(&untagged) == std::mem::discriminant(value)
}

fn scalar_quotes_needed(text: &str) -> bool {
    !scalar::is_plain_safe(text)
}

fn too_deep(at: At) -> Fault {
    let message = format!("exceeded max depth: nested more than {DEPTH_MAX} levels");
    Fault { message, at }
}

fn duplicate(key: &str, first: At, second: At) -> Fault {
    let message = format!("key \"{key}\" already set in map (first at line {})", first.line);
    Fault { message, at: second }
}

/// Spreads `<<: map` and `<<: [map, …]`: what the map itself has wins, then the earlier map.
fn spread_merge_keys(map: &mut Map) {
    let spreadable = |node: &Node| match &node.value {
        Value::Map(_) => true,
        Value::List(items) => items.iter().all(|item| item.as_map().is_some()),
        _ => false,
    };
    let Some(position) = map.get_index_of(MERGE_KEY).filter(|i| spreadable(&map[*i])) else {
        return;
    };
    let Some((_, spread)) = map.shift_remove_index(position) else { return };
    let sources = match spread.value {
        Value::List(items) => items,
        value => vec![Node::new(value)],
    };
    let mut at = position;
    for source in sources {
        let Value::Map(entries) = source.value else { continue };
        for (key, node) in *entries {
            if !map.contains_key(&key) {
                map.shift_insert(at, key, node);
                at += 1;
            }
        }
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
