//! `(( split SEPARATOR TEXT ))`: the parts of a text; a separator that starts with `/` is a
//! regular expression.

use regex::Regex;

use crate::eval::{Fault, Machine};
use crate::expr::Call;
use crate::tree::Node;

pub(super) fn run(machine: &mut Machine<'_>, call: &Call) -> Result<Node, Fault> {
    let items = machine.args(call)?;
    let texts: Option<Vec<&str>> = items.iter().map(|item| item.node.as_str()).collect();
    let Some([separator, text]) = texts.as_deref() else {
        return Err("split operator requires a separator and a string".into());
    };
    let parts: Vec<Node> = match separator.strip_prefix('/') {
        Some(pattern) if !pattern.is_empty() => {
            let regex = Regex::new(pattern)
                .map_err(|error| format!("`{pattern}` is no regular expression: {error}"))?;
            regex.split(text).map(Node::text).collect()
        }
        _ if separator.is_empty() => text.chars().map(|c| Node::text(c.to_string())).collect(),
        _ => text.split(separator).map(Node::text).collect(),
    };
    Ok(Node::list(parts))
}
