//! `(( param "MESSAGE" ))`: something that a later file has to replace; where it is left, its
//! message is the error.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, shown};

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    match items.first() {
        Some(item) => Err(Fault::Hard(shown(&item.node))),
        None => Err(super::none_given(call)),
    }
}
