//! `(( cartesian-product A B … ))`: every combination of the elements, joined.

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::{Node, Value, shown};

/// Combinations at most.
const PRODUCTS_MAX: usize = 1_000_000;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    if items.is_empty() {
        return Err(super::none_given(call));
    }
    let mut products = vec![String::new()];
    for item in &items {
        let parts: Vec<String> = match &item.node.value {
            Value::Map(_) => {
                return Err(
                    "cartesian-product operator only accepts arrays and string values".into()
                );
            }
            Value::List(list) if !list.iter().all(super::is_scalar) => {
                return Err(
                    "cartesian-product operator can only operate on lists of scalar values".into(),
                );
            }
            Value::List(list) => list.iter().map(shown).collect(),
            _ => vec![shown(&item.node)],
        };
        if products.len().saturating_mul(parts.len()) > PRODUCTS_MAX {
            return Err(Fault::Failed(format!("more than {PRODUCTS_MAX} combinations")));
        }
        products = products
            .iter()
            .flat_map(|left| parts.iter().map(move |right| format!("{left}{right}")))
            .collect();
    }
    Ok(Node::list(products.into_iter().map(Node::text).collect()))
}
