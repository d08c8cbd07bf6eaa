//! `(( load PATH ))`: the tree in a YAML or JSON file. Operators in it stay text.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, shown};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let [item] = &items[..] else {
        return Err(
            "load operator requires exactly one literal string or reference argument".into()
        );
    };
    if !super::is_scalar(&item.node) {
        return Err(Fault::Failed(format!(
            "tried to read file {}, which is not a string scalar",
            super::label(item)
        )));
    }
    let path = shown(&item.node);
    if path.starts_with("http://") || path.starts_with("https://") {
        return Err(Fault::Failed(format!(
            "load reads files, not URLs; put {path} into an object and read it with \
             (( nats \"obj:BUCKET/NAME\" ))"
        )));
    }
    let bytes = machine.read_file(&path).map_err(|error| {
        Fault::Failed(format!(
            "unable to get any content using location {path}: it is not a file or usable URI: \
             {error}"
        ))
    })?;
    let documents =
        crate::parse::parse(&path, 0, &bytes).map_err(|diagnostic| diagnostic.message)?;
    match <[Node; 1]>::try_from(documents) {
        Ok([node]) if !super::is_scalar(&node) => Ok(node),
        Ok(_) => {
            Err("unsupported root type in loaded content, only map or list roots are supported"
                .into())
        }
        Err(documents) => Err(Fault::Failed(format!(
            "{path} holds {} documents; load takes one",
            documents.len()
        ))),
    }
}
