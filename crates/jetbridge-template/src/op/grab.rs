//! `(( grab A … ))`: the value of its argument; of several, one flat list.

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Expr};
use crate::tree::{Node, Value};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let mut values = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        let item = machine.eval(arg)?;
        values.push(dereference(machine, arg, item.node)?);
    }
    if values.len() == 1 {
        return values.pop().ok_or_else(|| super::none_given(call));
    }
    if values.is_empty() {
        return Err(super::none_given(call));
    }
    let mut flat = Vec::new();
    for value in values {
        match value.value {
            Value::List(items) => flat.extend(items),
            _ => flat.push(value),
        }
    }
    Ok(Node::list(flat))
}

/// A path that a nested call computes is followed; what a store or the environment says is a
/// value and nothing else.
fn dereference(machine: &mut Machine<'_>, arg: &Expr, node: Node) -> Result<Node, Fault> {
    let computed = match arg {
        Expr::Call(call) => matches!(call.op.name, "concat" | "join" | "grab"),
        _ => false,
    };
    match node.as_str() {
        Some(text) if computed => {
            let path = machine.resolve_text(text)?;
            let found = machine.node(&path).cloned().unwrap_or_default().undressed();
            if found.has_secret() {
                machine.taint("");
            }
            Ok(found)
        }
        _ => Ok(node),
    }
}
