//! `(( negate BOOL ))`: the opposite.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let [item] = &items[..] else {
        return Err("negate operator requires exactly one argument".into());
    };
    match item.node.value {
        Value::Bool(b) => Ok(Node::new(Value::Bool(!b))),
        _ => Err(Fault::Failed(format!("{} is not a boolean", super::label(item)))),
    }
}
