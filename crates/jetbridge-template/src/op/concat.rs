//! `(( concat A B … ))`: the arguments as one text.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, shown};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    if call.args.len() < 2 {
        return Err("concat operator requires at least two arguments".into());
    }
    let mut text = String::new();
    for item in machine.args(call)? {
        if !super::is_scalar(&item.node) {
            return Err(Fault::Failed(format!(
                "tried to concat {}, which is not a string scalar",
                super::label(&item)
            )));
        }
        text.push_str(&shown(&item.node));
    }
    Ok(Node::text(text))
}
