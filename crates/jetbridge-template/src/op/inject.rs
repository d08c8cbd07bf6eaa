//! `(( inject MAP … ))`: puts the entries of maps beside itself; what is there already wins.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::merge::Merger;
use crate::tree::{Map, Node, Value};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    if items.is_empty() {
        return Err(super::none_given(call));
    }
    let mut merged = Box::<Map>::default();
    for item in items {
        let Some(reference) = item.reference else {
            return Err("inject operator only accepts key reference arguments".into());
        };
        let Value::Map(map) = item.node.value else {
            return Err(Fault::Failed(format!("{reference} is not a map")));
        };
        Merger::default().merge_maps(&mut merged, *map);
    }
    Ok(Node::new(Value::Map(merged)))
}
