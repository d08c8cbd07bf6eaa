//! `(( stringify VALUE ))`: a value as YAML text; a literal stays itself.

use crate::emit::{Style, yaml};
use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    match &items[..] {
        [] => Err(super::none_given(call)),
        [item] if item.reference.is_none() => Ok(item.node.clone()),
        [item] => Ok(Node::text(yaml(&item.node, Style::Graft))),
        _ => Err("stringify operator requires exactly one reference or literal argument".into()),
    }
}
