//! `(( prune ))` marks its path while files are merged; one that is left has nothing to keep.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(_machine: &mut Machine<'_>, _call: &Call) -> Result<Node, Fault> {
    Ok(Node::default())
}
