//! `(( raw_env $VAR ))`: a variable of the environment, as text whatever it looks like.

use crate::eval::{Fault, Machine};
use crate::expr::{Call, Expr, Infix};
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let [argument] = &call.args[..] else {
        return Err("raw_env operator requires exactly one argument".into());
    };
    let mut leftmost = argument;
    while let Expr::Infix(Infix::Or, left, _) = leftmost {
        leftmost = left;
    }
    if !matches!(leftmost, Expr::Env(_)) {
        return Err("raw_env operator only accepts environment variable arguments".into());
    }
    value(machine, argument)
}

fn value(machine: &mut Machine<'_>, expr: &Expr) -> Result<Node, Fault> {
    match expr {
        Expr::Env(name) => match machine.options.env.get(name) {
            Some(text) => Ok(Node::text(text.as_str())),
            None => Err(Fault::Failed(format!("environment variable ${name} is not set"))),
        },
        Expr::Infix(Infix::Or, left, right) => match value(machine, left) {
            Err(Fault::Failed(_) | Fault::Absent(_)) => value(machine, right),
            other => other,
        },
        _ => Ok(machine.eval(expr)?.node),
    }
}
