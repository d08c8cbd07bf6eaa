//! Tags. What YAML's own say is in the value; those of other programs stay before it.

use crate::merge::body_of;
use crate::scalar;
use crate::tree::{Node, Value, as_float, shown};

/// The value that `text` is behind YAML's own tag `!!kind`; an error is what to tell about it.
pub(crate) fn value(kind: &str, text: &str) -> Result<Value, String> {
    let value = scalar::resolve(text);
    match (kind, value) {
        ("int", value @ Value::Int(_))
        | ("float", value @ Value::Float(_))
        | ("bool", value @ Value::Bool(_))
        | ("null", value @ Value::Null) => Ok(value),
        ("float", Value::Int(n)) => Ok(Value::Float(as_float(n))),
        ("int" | "float" | "bool" | "null", value) => Err(misfit(kind, &Node::new(value))),
        _ => Ok(Value::Str(text.into())),
    }
}

/// How a float is written that would be read as an integer without its tag.
pub(crate) fn float_lexeme(value: &Value) -> Option<Box<str>> {
    let Value::Float(f) = value else { return None };
    let text = scalar::float_text(*f);
    matches!(scalar::resolve(&text), Value::Int(_)).then(|| format!("{text}.0").into())
}

/// What came out of an operator that stands behind `tag`.
pub(crate) fn apply(tag: &str, mut node: Node) -> Result<Node, String> {
    let later = node.as_str().is_some_and(|text| body_of(text).is_some());
    match tag.strip_prefix("!!") {
        // The tag is for what the operator of a later reader gives.
        _ if later => {}
        Some(kind @ ("bool" | "float" | "int" | "null" | "str")) => return scalar(kind, node),
        // A scalar behind it is text.
        None if tag == "!" => {
            let container = node.as_map().is_some() || node.as_list().is_some();
            return if container { Ok(node) } else { scalar("str", node) };
        }
        Some(kind @ ("map" | "seq")) => {
            let fits =
                if kind == "map" { node.as_map().is_some() } else { node.as_list().is_some() };
            return if fits { Ok(untagged(node)) } else { Err(misfit(kind, &node)) };
        }
        _ => {}
    }
    node.extras_mut().tag = Some(tag.into());
    Ok(node)
}

fn scalar(kind: &str, node: Node) -> Result<Node, String> {
    let value = match &node.value {
        Value::List(_) | Value::Map(_) => return Err(misfit(kind, &node)),
        Value::Null if kind == "null" => Value::Null,
        Value::Null => return Err(misfit(kind, &node)),
        _ => value(kind, &shown(&node))?,
    };
    let same = std::mem::discriminant(&value) == std::mem::discriminant(&node.value);
    if same {
        return Ok(untagged(node));
    }
    let raw = float_lexeme(&value);
    Ok(Node { raw, secret: node.secret, ..Node::new(value) })
}

fn untagged(mut node: Node) -> Node {
    if let Some(extras) = &mut node.extras {
        extras.tag = None;
    }
    node
}

fn misfit(kind: &str, node: &Node) -> String {
    format!("the tag !!{kind} does not fit: the value is a {}", node.kind())
}
