//! `(( base64-decode TEXT ))`: the text that is written in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let [item] = &items[..] else {
        return Err(
            "base64-decode operator requires exactly one string or reference argument".into()
        );
    };
    let bytes = item.node.as_str().and_then(|text| STANDARD.decode(text.trim()).ok());
    match bytes.map(String::from_utf8) {
        Some(Ok(text)) => Ok(Node::text(text)),
        Some(Err(_)) => Err("the decoded bytes are not valid UTF-8 text".into()),
        None => Err(Fault::Failed(format!("unable to base64 decode {}", super::label(item)))),
    }
}
