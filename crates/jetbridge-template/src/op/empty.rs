//! `(( empty hash|map|array|list|string ))`: an empty value; of a reference, whether it is empty.

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Expr};
use crate::infix;
use crate::tree::{Node, Value};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let [argument] = &call.args[..] else {
        return Err("empty operator expects 1 argument, received a different number".into());
    };
    let word = match argument {
        Expr::Ref(reference) => &*reference.text,
        Expr::Literal(node) => node.as_str().unwrap_or_default(),
        _ => "",
    };
    match word {
        "hash" | "map" => Ok(Node::map()),
        "array" | "list" => Ok(Node::list(Vec::new())),
        "string" => Ok(Node::text("")),
        _ => {
            let node = machine.eval(argument)?.node;
            let empty =
                matches!(node.value, Value::Str(_) | Value::List(_) | Value::Map(_) | Value::Null)
                    && !infix::is_true(&node);
            Ok(Node::new(Value::Bool(empty)))
        }
    }
}
