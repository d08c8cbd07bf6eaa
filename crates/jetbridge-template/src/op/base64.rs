//! `(( base64 TEXT ))`: the text in base64, standard alphabet.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let [item] = &items[..] else {
        return Err("base64 operator requires exactly one string or reference argument".into());
    };
    match item.node.as_str() {
        Some(text) => Ok(Node::text(STANDARD.encode(text))),
        None => Err(Fault::Failed(format!(
            "tried to base64 encode {}, which is not a string scalar",
            super::label(item)
        ))),
    }
}
