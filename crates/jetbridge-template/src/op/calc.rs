//! `(( calc "EXPRESSION" ))`: arithmetic in a quoted text, with references that hold a dot and
//! the functions `min max mod pow sqrt floor ceil`.

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Expr, Reference, reference};
use crate::scalar;
use crate::tree::{Node, Value, as_float};

/// Levels of parentheses in an expression at most.
const NESTING_MAX: usize = 64;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let [argument] = &call.args[..] else {
        return Err("calc operator only expects one argument containing the expression".into());
    };
    let Some(text) = text_of(argument) else {
        return Err("calc operator argument is suppose to be a quoted mathematical expression \
                    (type Literal)"
            .into());
    };
    let mut calc = Calc { words: words(text)?, at: 0, depth: 0, machine };
    let result = calc.ternary()?;
    if calc.at < calc.words.len() {
        return Err(Fault::Failed(format!("cannot read the expression: {text}")));
    }
    Ok(Node::new(result.value()))
}

/// What the expression refers to.
pub(crate) fn references(call: &Call) -> Vec<Reference> {
    let [argument] = &call.args[..] else { return Vec::new() };
    let Some(text) = text_of(argument) else { return Vec::new() };
    let words = words(text).unwrap_or_default();
    words.iter().filter(|word| is_reference(word)).filter_map(|w| reference(w).ok()).collect()
}

fn text_of(argument: &Expr) -> Option<&str> {
    match argument {
        Expr::Literal(node) => node.as_str(),
        _ => None,
    }
}

fn is_reference(word: &str) -> bool {
    word.contains('.') && word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// A number or a truth.
#[derive(Clone, Copy)]
enum Number {
    Real(f64),
    Truth(bool),
}

impl Number {
    /// A whole number prints as an integer.
    fn value(self) -> Value {
        match self {
            Self::Truth(b) => Value::Bool(b),
            Self::Real(f) => match scalar::number(&format!("{f:.0}")) {
                Some(Value::Int(n)) if as_float(n) == f => Value::Int(n),
                _ => Value::Float(f),
            },
        }
    }

    fn number(self) -> Result<f64, Fault> {
        match self {
            Self::Real(f) => Ok(f),
            Self::Truth(_) => Err("a truth value cannot be calculated with".into()),
        }
    }
}

fn words(text: &str) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || matches!(first, '_' | '.') {
            let dashes = !first.is_ascii_digit();
            let named =
                |c: char| c.is_alphanumeric() || matches!(c, '_' | '.') || dashes && c == '-';
            let length = rest.find(|c: char| !named(c)).unwrap_or(rest.len());
            // Without a dot it is no reference, and a dash is a minus.
            match rest[..length].find('-') {
                Some(dash) if !rest[..length].contains('.') => dash,
                _ => length,
            }
        } else {
            let two = ["**", "==", "!=", "<=", ">=", "&&", "||"];
            if two.iter().any(|sign| rest.starts_with(sign)) { 2 } else { first.len_utf8() }
        };
        if !first.is_alphanumeric() && !"+-*/%^()<>=!&|?:,._".contains(first) {
            return Err(Fault::Failed(format!("`{first}` has no meaning in: {text}")));
        }
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

struct Calc<'m, 'a> {
    words: Vec<String>,
    at: usize,
    depth: usize,
    machine: &'m mut Machine<'a>,
}

impl Calc<'_, '_> {
    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        self.at += usize::from(found);
        found
    }

    fn ternary(&mut self) -> Result<Number, Fault> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Fault::Failed(format!("nested more than {NESTING_MAX} levels")));
        }
        let value = self.choice()?;
        self.depth -= 1;
        Ok(value)
    }

    fn choice(&mut self) -> Result<Number, Fault> {
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let yes = self.ternary()?;
        if !self.take(":") {
            return Err("a `?` lacks its `:`".into());
        }
        let no = self.ternary()?;
        match condition {
            Number::Truth(true) => Ok(yes),
            Number::Truth(false) => Ok(no),
            Number::Real(_) => Err("before `?` stands a comparison".into()),
        }
    }

    fn binary(&mut self, level: usize) -> Result<Number, Fault> {
        const LEVELS: [&[&str]; 6] = [
            &["||"],
            &["&&"],
            &["==", "!=", "<", ">", "<=", ">="],
            &["+", "-"],
            &["*", "/", "%"],
            &["**"],
        ];
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(sign) = signs.iter().find(|sign| self.peek() == **sign) {
            self.at += 1;
            let right = self.binary(level + 1)?;
            left = combine(sign, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Number, Fault> {
        if self.take("-") {
            self.depth += 1;
            if self.depth > NESTING_MAX {
                return Err(Fault::Failed(format!("nested more than {NESTING_MAX} levels")));
            }
            let value = self.unary()?.number()?;
            self.depth -= 1;
            return Ok(Number::Real(-value));
        }
        if self.take("(") {
            let inner = self.ternary()?;
            return if self.take(")") { Ok(inner) } else { Err("a `(` is not closed".into()) };
        }
        let word = self.peek().to_owned();
        self.at += 1;
        if self.peek() == "(" && word.chars().all(char::is_alphabetic) {
            return self.function(&word);
        }
        if is_reference(&word) {
            return self.reference(&word);
        }
        match scalar::number(&word) {
            Some(Value::Int(n)) => Ok(Number::Real(as_float(n))),
            Some(Value::Float(f)) => Ok(Number::Real(f)),
            _ if word == "true" || word == "false" => Ok(Number::Truth(word == "true")),
            _ if word.starts_with(|c: char| c.is_alphabetic()) => Err(Fault::Failed(format!(
                "calc operator does not support named variables in expression: {word}"
            ))),
            _ => Err("cannot read the expression: a value is missing".into()),
        }
    }

    fn function(&mut self, name: &str) -> Result<Number, Fault> {
        self.at += 1;
        let mut args = Vec::new();
        while !self.take(")") {
            args.push(self.ternary()?.number()?);
            if self.at >= self.words.len() {
                return Err("a `(` is not closed".into());
            }
            self.take(",");
        }
        let value = match (name, &args[..]) {
            ("min", [a, b]) => a.min(*b),
            ("max", [a, b]) => a.max(*b),
            ("mod", [a, b]) => a % b,
            ("pow", [a, b]) => a.powf(*b),
            ("sqrt", [a]) => a.sqrt(),
            ("floor", [a]) => a.floor(),
            ("ceil", [a]) => a.ceil(),
            ("min" | "max" | "mod" | "pow", _) => {
                return Err(Fault::Failed(format!(
                    "{name} function expects two arguments of type float64"
                )));
            }
            ("sqrt" | "floor" | "ceil", _) => {
                return Err(Fault::Failed(format!(
                    "{name} function expects one argument of type float64"
                )));
            }
            _ => return Err(Fault::Failed(format!("there is no function {name}"))),
        };
        Ok(Number::Real(value))
    }

    fn reference(&mut self, word: &str) -> Result<Number, Fault> {
        let path = self.machine.resolve_text(word)?;
        let node = self.machine.node(&path).cloned().unwrap_or_default();
        match node.value {
            Value::Int(n) => Ok(Number::Real(as_float(n))),
            Value::Float(f) => Ok(Number::Real(f)),
            Value::Null => Err(Fault::Failed(format!(
                "path {word} references a nil value, which cannot be used in calculations"
            ))),
            _ => Err(Fault::Failed(format!(
                "path {word} is of type {}, which cannot be used in calculations",
                node.kind()
            ))),
        }
    }
}

fn combine(sign: &str, left: Number, right: Number) -> Result<Number, Fault> {
    if let (Number::Truth(a), Number::Truth(b)) = (left, right) {
        return match sign {
            "&&" => Ok(Number::Truth(a && b)),
            "||" => Ok(Number::Truth(a || b)),
            "==" => Ok(Number::Truth(a == b)),
            "!=" => Ok(Number::Truth(a != b)),
            _ => Err("a truth value cannot be calculated with".into()),
        };
    }
    let (a, b) = (left.number()?, right.number()?);
    Ok(match sign {
        "+" => Number::Real(a + b),
        "-" => Number::Real(a - b),
        "*" => Number::Real(a * b),
        "/" | "%" if b == 0.0 => return Err("division by zero".into()),
        "/" => Number::Real(a / b),
        "%" => Number::Real(a % b),
        "**" => Number::Real(a.powf(b)),
        "==" => Number::Truth(a == b),
        "!=" => Number::Truth(a != b),
        "<" => Number::Truth(a < b),
        ">" => Number::Truth(a > b),
        "<=" => Number::Truth(a <= b),
        ">=" => Number::Truth(a >= b),
        _ => return Err("a number has no truth value".into()),
    })
}
