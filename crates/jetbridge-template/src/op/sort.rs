//! `(( sort [by KEY] ))` marks a list while files are merged; one that no list is under is an
//! error.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, path_text};

pub(super) fn run(machine: &mut Machine<'_>, _call: &Call) -> Result<Node, Fault> {
    let path = path_text(machine.here());
    Err(Fault::Hard(format!("orphaned (( sort )) operator at {path}, no list exists at that path")))
}
