//! `vault`, `vault-try`, `awsparam`, `awssecret`: other programs' stores, with what to write
//! instead.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(_machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let path = call.rest.split('"').nth(1).unwrap_or("secret/name");
    let last = path.rsplit([':', '/', '?', '=']).find(|part| !part.is_empty()).unwrap_or("name");
    let key: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' })
        .collect();
    Err(Fault::Hard(format!(
        "(( {} )) is not supported here; keep the value in a bucket and write \
         (( nats \"kv:secrets/{key}\" ))",
        call.op.name
    )))
}
