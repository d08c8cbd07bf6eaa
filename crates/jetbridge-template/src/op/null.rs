//! `(( null ))`: null; of an argument, whether it is null.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    match &items[..] {
        [] => Ok(Node::default()),
        [item] => Ok(Node::new(Value::Bool(item.node.is_null()))),
        _ => Err("null operator takes at most one argument".into()),
    }
}
