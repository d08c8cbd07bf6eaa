//! `(( defer … ))`: what follows, as an operator for whoever reads the output.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(_machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    if call.rest.is_empty() {
        return Err("defer has no arguments - what are you deferring?".into());
    }
    Ok(Node::text(format!("(( {} ))", call.rest)))
}
