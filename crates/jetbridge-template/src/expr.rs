//! The language between `((` and `))`: what it says, as a tree.
//!
//! Calls with blanks or commas between arguments, nested calls in parentheses, references,
//! literals, variables of the environment, `||`, and infix operators, of which `+ - * /` want
//! blanks around them because names may hold them.

use std::sync::Arc;

use crate::lex::{Brackets, Lexer, Token, unquoted};
use crate::op::{self, Operator};
use crate::tree::{Node, Value, shown};

/// Levels of parentheses at most.
const NESTING_MAX: usize = 64;

/// Infix operators in one text at most: a chain of them is a tree as deep as it is long.
const INFIXES_MAX: usize = 256;

/// One segment of a reference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Segment {
    Name(Arc<str>),
    /// `$VAR`: the variable's value is the name.
    Env(Box<str>),
    /// `[path]`: the scalar at `path` is the name if there is one, else the text is.
    Dynamic(Arc<str>, Box<[Self]>),
}

/// A reference, with its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) text: Arc<str>,
    /// Starts with `$.`: looked up at the root only.
    pub(crate) rooted: bool,
    pub(crate) segments: Box<[Segment]>,
}

impl Reference {
    /// The reference that a [`Segment::Dynamic`] is.
    pub(crate) fn in_brackets(text: &Arc<str>, segments: &[Segment]) -> Self {
        Self { text: Arc::clone(text), rooted: false, segments: segments.into() }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Infix {
    Add,
    And,
    Div,
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
    Mul,
    Ne,
    Or,
    Rem,
    Sub,
}

/// A nested or outermost call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) op: &'static Operator,
    pub(crate) target: Option<Box<str>>,
    pub(crate) args: Box<[Expr]>,
    /// `as yaml` and the like.
    pub(crate) cast: Option<Box<str>>,
    /// The text of the arguments, of an operator that takes them as text.
    pub(crate) rest: Box<str>,
}

/// A document has as many of these as operators and arguments: what is large or rare is behind a
/// pointer, and no list has room to grow.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Box<Node>),
    Env(String),
    Ref(Reference),
    Call(Box<Call>),
    Not(Box<Self>),
    Minus(Box<Self>),
    Infix(Infix, Box<Self>, Box<Self>),
    Ternary(Box<Self>, Box<Self>, Box<Self>),
    Map(Vec<(String, Self)>),
}

impl Expr {
    /// True if all of it is a call of that operator.
    pub(crate) fn is_call_of(&self, name: &str) -> bool {
        matches!(self, Self::Call(call) if call.op.name == name)
    }

    /// A literal that keeps what stands behind its `||` from ever being looked at.
    pub(crate) fn short_circuit(&self) -> Option<String> {
        match self {
            Self::Literal(_) | Self::Env(_) | Self::Ref(_) => None,
            Self::Infix(Infix::Or, left, right) => match &**left {
                // `as KIND || default` has a null there that nobody wrote.
                Self::Literal(node) if !node.is_null() => Some(shown(node)),
                _ => left.short_circuit().or_else(|| right.short_circuit()),
            },
            Self::Infix(_, left, right) => left.short_circuit().or_else(|| right.short_circuit()),
            // The default of a `nats` call stands in for what its path leads to.
            Self::Call(call) if call.op.targets => None,
            Self::Call(call) => call.args.iter().find_map(Self::short_circuit),
            Self::Not(inner) | Self::Minus(inner) => inner.short_circuit(),
            Self::Ternary(condition, yes, no) => {
                [condition, yes, no].into_iter().find_map(|part| part.short_circuit())
            }
            Self::Map(entries) => entries.iter().find_map(|(_, value)| value.short_circuit()),
        }
    }
}

/// What a scalar that starts with `((` and ends with `))` turns out to be.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Something of another program, such as `((var))`: left as it is.
    Foreign,
    Operator(Expr),
}

/// Parses the text between the parentheses; an error is what to tell about it.
pub(crate) fn parse(body: &str) -> Result<Parsed, String> {
    let body = body.trim();
    let name_length =
        body.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    let (name, rest) = body.split_at(name_length);
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if named && let Some(op) = op::find(name) {
        let separated = rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace());
        if separated && is_infix(rest.trim_start()) && !op.raw {
            return infix(body);
        }
        if separated || rest.starts_with('(') || rest.starts_with('@') {
            let call = Parser::new(body)?.outer_call(op, rest).map(Parsed::Operator);
            // `name(…)` may also be where an expression begins.
            return match call {
                Err(what) if rest.starts_with('(') && !op.raw => {
                    infix(body).map_err(|_second| what)
                }
                call => call,
            };
        }
    }
    if body.is_empty() || named && rest.is_empty() || body.starts_with('!') && !body.contains(' ') {
        return Ok(Parsed::Foreign);
    }
    let blank = rest.starts_with(|c: char| c.is_whitespace());
    if named && (blank && !is_infix(rest.trim_start()) || rest.starts_with(['(', '@'])) {
        return Err(op::undefined(name));
    }
    infix(body)
}

fn infix(body: &str) -> Result<Parsed, String> {
    let mut parser = Parser::new(body)?;
    let expr = parser.expression(0)?;
    if parser.peek() != &Token::End {
        return Err(format!("syntax error near: {body}"));
    }
    match expr {
        // A lone name or literal is some other program's.
        Expr::Literal(_) | Expr::Env(_) | Expr::Ref(_) => Ok(Parsed::Foreign),
        expr => Ok(Parsed::Operator(expr)),
    }
}

/// True if `rest` goes on with an infix operator.
fn is_infix(rest: &str) -> bool {
    let word = rest.split_whitespace().next().unwrap_or_default();
    matches!(
        word,
        "+" | "-" | "*" | "/" | "%" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "&&" | "||" | "?"
    )
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    body: &'a str,
    depth: usize,
    infixes: usize,
}

impl<'a> Parser<'a> {
    fn new(body: &'a str) -> Result<Self, String> {
        Ok(Self { lexer: Lexer::new(body)?, body, depth: 0, infixes: 0 })
    }

    fn peek(&self) -> &Token {
        self.lexer.peek()
    }

    fn next(&mut self) -> Token {
        self.lexer.next()
    }

    fn syntax(&self) -> String {
        format!("syntax error near: {}", self.body)
    }

    fn outer_call(&mut self, op: &'static Operator, rest: &str) -> Result<Expr, String> {
        if op.raw {
            let rest = rest.trim().into();
            let call = Call { op, target: None, args: Box::default(), cast: None, rest };
            return Ok(Expr::Call(Box::new(call)));
        }
        let call = self.call(op)?;
        if self.peek() != &Token::End {
            return Err(self.syntax());
        }
        Ok(call)
    }

    /// A call, from its name on.
    fn call(&mut self, op: &'static Operator) -> Result<Expr, String> {
        self.next();
        let target = match self.peek() {
            Token::Target(name) => Some(name.as_str().into()),
            _ => None,
        };
        if target.is_some() {
            self.next();
            if !op.targets {
                return Err(format!("(( {} )) has no @target; only nats has", op.name));
            }
        }
        let wrapped = *self.peek() == Token::Open { glued: true };
        if wrapped {
            self.next();
        }
        let (args, cast) = self.arguments(op)?;
        if wrapped && self.next() != Token::Close {
            return Err(self.syntax());
        }
        let call = Call { op, target, args: args.into(), cast, rest: Box::default() };
        Ok(Expr::Call(Box::new(call)))
    }

    fn arguments(&mut self, op: &Operator) -> Result<(Vec<Expr>, Option<Box<str>>), String> {
        let mut args = Vec::new();
        loop {
            match self.peek() {
                Token::Comma => drop(self.next()),
                Token::End | Token::Close | Token::BraceClose => return Ok((args, None)),
                Token::Word(word) if word == "as" && op.targets && !args.is_empty() => {
                    self.next();
                    return self.cast(args);
                }
                _ => args.push(self.expression(0)?),
            }
        }
    }

    /// What follows `as`: a kind, and perhaps `|| default`, which counts for the whole call.
    fn cast(&mut self, mut args: Vec<Expr>) -> Result<(Vec<Expr>, Option<Box<str>>), String> {
        let Token::Word(kind) = self.next() else {
            return Err("behind `as` stands yaml, json, int, bool, string or base64".to_owned());
        };
        if *self.peek() == Token::Infix(Infix::Or) {
            self.next();
            let nothing = Box::new(Expr::Literal(Box::default()));
            let default = Box::new(self.expression(0)?);
            args.push(Expr::Infix(Infix::Or, nothing, default));
        }
        Ok((args, Some(kind.into())))
    }

    /// An expression whose operators bind tighter than `floor`.
    fn expression(&mut self, floor: u8) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(format!("nested more than {NESTING_MAX} levels"));
        }
        let mut left = self.prefix()?;
        loop {
            match self.peek().clone() {
                Token::Infix(infix) => {
                    let power = power(infix);
                    if power <= floor {
                        break;
                    }
                    self.next();
                    self.infixes += 1;
                    if self.infixes > INFIXES_MAX {
                        return Err(format!("more than {INFIXES_MAX} infix operators"));
                    }
                    let right = self.expression(power)?;
                    left = Expr::Infix(infix, Box::new(left), Box::new(right));
                }
                Token::Question if floor == 0 => {
                    self.next();
                    let yes = self.expression(0)?;
                    if self.next() != Token::Colon {
                        return Err(self.syntax());
                    }
                    let no = self.expression(0)?;
                    left = Expr::Ternary(Box::new(left), Box::new(yes), Box::new(no));
                }
                _ => break,
            }
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Expr, String> {
        match self.next() {
            Token::Literal(node) => Ok(Expr::Literal(Box::new(node))),
            Token::Env(name) => Ok(Expr::Env(name)),
            Token::Not => Ok(Expr::Not(Box::new(self.expression(power(Infix::Mul))?))),
            Token::Infix(Infix::Sub) => {
                Ok(Expr::Minus(Box::new(self.expression(power(Infix::Mul))?)))
            }
            Token::Word(word) => match op::find(&word) {
                Some(op) if *self.peek() == Token::Open { glued: true } => {
                    self.lexer.unread(Token::Word(word));
                    self.call(op)
                }
                _ => reference(&word).map(Expr::Ref),
            },
            Token::Open { .. } => {
                let inner = self.parenthesised()?;
                if self.next() != Token::Close {
                    return Err(self.syntax());
                }
                Ok(inner)
            }
            Token::BraceOpen => self.map(),
            _ => Err(self.syntax()),
        }
    }

    fn parenthesised(&mut self) -> Result<Expr, String> {
        let op = match self.peek() {
            Token::Word(word) => op::find(word),
            _ => None,
        };
        match op {
            Some(op) if !self.lexer.second_is_infix() => self.call(op),
            _ => self.expression(0),
        }
    }

    fn map(&mut self) -> Result<Expr, String> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next() {
                Token::BraceClose => return Ok(Expr::Map(entries)),
                Token::Comma => continue,
                Token::Word(word) => word,
                Token::Literal(Node { value: Value::Str(text), .. }) => text.to_string(),
                _ => return Err(self.syntax()),
            };
            if self.next() != Token::Colon {
                return Err(self.syntax());
            }
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(format!("the key `{key}` stands twice in a map"));
            }
            entries.push((key, self.expression(0)?));
        }
    }
}

fn power(infix: Infix) -> u8 {
    match infix {
        Infix::Or => 1,
        Infix::And => 2,
        Infix::Eq | Infix::Ne => 3,
        Infix::Lt | Infix::Gt | Infix::Le | Infix::Ge => 4,
        Infix::Add | Infix::Sub => 5,
        Infix::Mul | Infix::Div | Infix::Rem => 6,
    }
}

/// Reads `a.b[0].c`, `$.a` and `a["b.c"]`.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    let (rooted, body) = match text.strip_prefix("$.") {
        Some(body) => (true, body),
        None => (false, text),
    };
    let segments = segments(body, 0).map_err(|what| format!("`{text}`: {what}"))?;
    if segments.is_empty() {
        return Err(format!("`{text}` names nothing"));
    }
    let text = match &segments[..] {
        [Segment::Name(name)] if **name == *body => Arc::clone(name),
        _ => body.into(),
    };
    Ok(Reference { text, rooted, segments: segments.into() })
}

/// The names of the path that `text` writes, where nothing is computed: brackets hold a key as it
/// is, and `$` is a character of one.
pub(crate) fn literal(text: &str) -> Result<Vec<Arc<str>>, String> {
    let name = |segment: &Segment| match segment {
        Segment::Name(name) | Segment::Dynamic(name, _) => Arc::clone(name),
        Segment::Env(name) => format!("${name}").into(),
    };
    Ok(reference(text)?.segments.iter().map(name).collect())
}

fn segments(text: &str, depth: usize) -> Result<Vec<Segment>, &'static str> {
    if depth > NESTING_MAX {
        return Err("brackets are nested too deep");
    }
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = bracket_end(inner).ok_or("a bracket is not closed")?;
            let (inside, after) = inner.split_at(end);
            found.push(bracket(inside, depth)?);
            rest = &after[1..];
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() && !after.starts_with('.') {
                return Err("a name is missing");
            }
            if !name.is_empty() {
                found.push(match name.strip_prefix('$') {
                    Some(variable) => Segment::Env(variable.into()),
                    None => Segment::Name(name.into()),
                });
            }
            rest = after;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    Ok(found)
}

fn bracket_end(inner: &str) -> Option<usize> {
    let mut brackets = Brackets::opened();
    for (index, c) in inner.char_indices() {
        brackets.take(c);
        if brackets.is_closed() {
            return Some(index);
        }
    }
    None
}

fn bracket(inside: &str, depth: usize) -> Result<Segment, &'static str> {
    let inside = inside.trim();
    if inside.starts_with(['"', '\'']) {
        return match unquoted(inside) {
            Some((name, length)) if length == inside.len() => Ok(Segment::Name(name.into())),
            _ => Err("something stands beside a name in quotes"),
        };
    }
    if inside.bytes().all(|b| b.is_ascii_digit()) && !inside.is_empty() {
        return Ok(Segment::Name(inside.into()));
    }
    match inside.strip_prefix('$') {
        Some(variable) => Ok(Segment::Env(variable.into())),
        None => Ok(Segment::Dynamic(inside.into(), segments(inside, depth + 1)?.into())),
    }
}
