//! `(( keys MAP … ))`: the keys of maps, sorted.

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Expr};
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    if call.args.is_empty() {
        return Err(super::none_given(call));
    }
    let mut keys = Vec::new();
    for arg in &call.args {
        let reference = match arg {
            Expr::Ref(reference) => reference,
            Expr::Infix(..) => {
                let item = machine.eval(arg)?;
                let map = item.node.as_map().filter(|_| item.reference.is_some());
                keys.extend(map.ok_or_else(not_a_reference)?.keys().cloned());
                continue;
            }
            _ => return Err(not_a_reference()),
        };
        let path = machine.reach(reference)?;
        let node = machine.node(&path);
        // The keys of a map that is written in a template are no secret, whatever its values are.
        let secret = node.is_some_and(|node| node.secret);
        match node.and_then(Node::as_map) {
            Some(map) => keys.extend(map.keys().cloned()),
            None => return Err(Fault::Failed(format!("{} is not a map", reference.text))),
        }
        if secret {
            machine.taint("");
        }
    }
    keys.sort();
    Ok(Node::list(keys.into_iter().map(Node::text).collect()))
}

fn not_a_reference() -> Fault {
    "keys operator only accepts key reference arguments".into()
}
