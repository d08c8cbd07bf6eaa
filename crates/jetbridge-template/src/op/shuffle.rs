//! `(( shuffle LIST … ))`: the elements in an order that looks random and is the same every
//! time, so that rendering twice gives one result.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value, path_text};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    if call.args.is_empty() {
        return Err(super::none_given(call));
    }
    let mut elements = Vec::new();
    for item in machine.args(call)? {
        match item.node.value {
            Value::Map(_) => {
                return Err("shuffle only accepts arrays and string values".into());
            }
            Value::List(list) if !list.iter().all(super::is_scalar) => {
                return Err("shuffle can only operate on lists of scalar values".into());
            }
            Value::List(list) => elements.extend(list),
            _ => elements.push(item.node),
        }
    }
    let here = path_text(machine.here());
    let mut keyed: Vec<_> = elements
        .into_iter()
        .enumerate()
        .map(|(index, node)| {
            let mut hasher = DefaultHasher::new();
            (&here, index).hash(&mut hasher);
            (hasher.finish(), node)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    Ok(Node::list(keyed.into_iter().map(|(_, node)| node).collect()))
}
