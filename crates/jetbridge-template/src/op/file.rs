//! `(( file PATH ))`: the text of a file; of two arguments the first is its directory.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let names: Option<Vec<&str>> = items.iter().map(|item| item.node.as_str()).collect();
    let path = match names.as_deref() {
        Some([path]) => (*path).to_owned(),
        Some([directory, name]) => format!("{}/{name}", directory.trim_end_matches('/')),
        _ => {
            return Err(
                "file operator requires exactly one literal string or reference argument".into()
            );
        }
    };
    let bytes = machine.read_file(&path).map_err(|error| {
        Fault::Failed(format!("tried to read file '{path}': could not be read - {error}"))
    })?;
    String::from_utf8(bytes)
        .map(Node::text)
        .map_err(|_not_text| Fault::Failed(format!("file '{path}' is not valid UTF-8 text")))
}
