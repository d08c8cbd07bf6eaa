//! `(( join SEPARATOR A … ))`: texts and the elements of lists, with the separator between.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value, shown};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    match call.args.len() {
        0 => return Err("no arguments specified to (( join ... ))".into()),
        1 => return Err("too few arguments supplied to (( join ... ))".into()),
        _ => {}
    }
    let items = machine.args(call)?;
    let separator = match (items[0].node.as_str(), &items[0].reference) {
        (Some(text), None) => text,
        _ => return Err("join operator only accepts literal argument for the separator".into()),
    };
    let mut parts = Vec::new();
    for item in &items[1..] {
        match &item.node.value {
            Value::Map(_) => {
                return Err("referenced entry is not a list or string for (( join ... ))".into());
            }
            Value::List(list) => {
                for (index, element) in list.iter().enumerate() {
                    if !super::is_scalar(element) {
                        return Err(Fault::Failed(format!(
                            "entry #{index} in list is not compatible for (( join ... ))"
                        )));
                    }
                    parts.push(shown(element));
                }
            }
            _ => parts.push(shown(&item.node)),
        }
    }
    Ok(Node::text(parts.join(separator)))
}
