//! Arithmetic, comparison and truth.

use crate::expr::Infix;
use crate::tree::{Node, Value, as_float, shown};

/// Copies that `"text" * n` makes at most.
const REPEAT_MAX: i64 = 10_000;

/// False, null, zero and what is empty are false.
pub(crate) fn is_true(node: &Node) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Int(n) => *n != 0,
        Value::Float(f) => *f != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(map) => !map.is_empty(),
    }
}

/// `left op right`, for every operator that evaluates both sides.
pub(crate) fn apply(infix: Infix, left: &Node, right: &Node) -> Result<Node, String> {
    let truth = |b| Ok(Node::new(Value::Bool(b)));
    match infix {
        Infix::Eq => truth(left == right),
        Infix::Ne => truth(left != right),
        Infix::Lt | Infix::Gt | Infix::Le | Infix::Ge => compare(infix, left, right),
        Infix::And | Infix::Or => truth(is_true(left) && is_true(right)),
        Infix::Add => add(left, right),
        Infix::Sub | Infix::Mul | Infix::Div | Infix::Rem => arithmetic(infix, left, right),
    }
}

fn compare(infix: Infix, left: &Node, right: &Node) -> Result<Node, String> {
    let ordering = match (&left.value, &right.value) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => match (float(left), float(right)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => return Err(mismatch(infix, left, right)),
        },
    };
    let holds = ordering.is_some_and(|ordering| match infix {
        Infix::Lt => ordering.is_lt(),
        Infix::Gt => ordering.is_gt(),
        Infix::Le => ordering.is_le(),
        _ => ordering.is_ge(),
    });
    Ok(Node::new(Value::Bool(holds)))
}

fn float(node: &Node) -> Option<f64> {
    match node.value {
        Value::Int(n) => Some(as_float(n)),
        Value::Float(f) => Some(f),
        _ => None,
    }
}

fn mismatch(infix: Infix, left: &Node, right: &Node) -> String {
    format!("cannot apply {} to {} and {}", sign(infix), left.kind(), right.kind())
}

fn sign(infix: Infix) -> &'static str {
    match infix {
        Infix::Add => "+",
        Infix::And => "&&",
        Infix::Div => "/",
        Infix::Eq => "==",
        Infix::Ge => ">=",
        Infix::Gt => ">",
        Infix::Le => "<=",
        Infix::Lt => "<",
        Infix::Mul => "*",
        Infix::Ne => "!=",
        Infix::Or => "||",
        Infix::Rem => "%",
        Infix::Sub => "-",
    }
}

fn add(left: &Node, right: &Node) -> Result<Node, String> {
    let value = match (&left.value, &right.value) {
        (Value::Null, _) => return Ok(right.clone()),
        (_, Value::Null) => return Ok(left.clone()),
        (Value::Bool(a), Value::Bool(b)) => Value::Bool(*a || *b),
        (Value::Int(a), Value::Int(b)) => match a.checked_add(*b) {
            Some(sum) => Value::Int(sum),
            None => Value::Float(as_float(*a) + as_float(*b)),
        },
        (Value::Str(a), Value::List(_) | Value::Map(_)) => {
            return Err(format!("cannot apply + to \"{a}\" and {}", right.kind()));
        }
        (Value::Str(a), _) => Value::Str(format!("{a}{}", shown(right)).into()),
        (Value::List(a), Value::List(b)) => Value::List(a.iter().chain(b).cloned().collect()),
        (Value::Map(a), Value::Map(b)) => {
            let mut map = a.clone();
            map.extend(b.iter().map(|(key, node)| (std::sync::Arc::clone(key), node.clone())));
            Value::Map(map)
        }
        _ => match (float(left), float(right)) {
            (Some(a), Some(b)) => Value::Float(a + b),
            _ => return Err(mismatch(Infix::Add, left, right)),
        },
    };
    Ok(Node::new(value))
}

fn arithmetic(infix: Infix, left: &Node, right: &Node) -> Result<Node, String> {
    let value = match (infix, &left.value, &right.value) {
        (Infix::Div | Infix::Rem, _, Value::Int(0)) => return Err("division by zero".to_owned()),
        (Infix::Div, _, Value::Float(0.0)) => return Err("division by zero".to_owned()),
        (Infix::Sub, Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_sub(*b))?),
        (Infix::Mul, Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_mul(*b))?),
        (Infix::Rem, Value::Int(a), Value::Int(b)) => Value::Int(overflow(a.checked_rem(*b))?),
        (Infix::Div, Value::Int(a), Value::Int(b)) => Value::Float(as_float(*a) / as_float(*b)),
        (Infix::Mul, Value::Bool(a), Value::Bool(b)) => Value::Bool(*a && *b),
        (Infix::Mul, Value::Str(text), Value::Int(n)) => Value::Str(text.repeat(times(*n)?).into()),
        (Infix::Mul, Value::List(items), Value::Int(n)) => {
            Value::List(std::iter::repeat_n(items, times(*n)?).flatten().cloned().collect())
        }
        (Infix::Rem, ..) => return Err(mismatch(infix, left, right)),
        _ => match (infix, float(left), float(right)) {
            (Infix::Sub, Some(a), Some(b)) => Value::Float(a - b),
            (Infix::Mul, Some(a), Some(b)) => Value::Float(a * b),
            (Infix::Div, Some(a), Some(b)) => Value::Float(a / b),
            _ => return Err(mismatch(infix, left, right)),
        },
    };
    Ok(Node::new(value))
}

fn overflow(result: Option<i64>) -> Result<i64, String> {
    result.ok_or_else(|| "the result does not fit an integer of 64 bits".to_owned())
}

fn times(n: i64) -> Result<usize, String> {
    match usize::try_from(n) {
        Ok(times) if n <= REPEAT_MAX => Ok(times),
        _ => Err(format!("cannot repeat {n} times; 0 to {REPEAT_MAX} is possible")),
    }
}
