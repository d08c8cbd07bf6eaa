//! The operators: one file each, and the table that knows them all.

mod base64;
mod base64_decode;
pub(crate) mod calc;
mod cartesian_product;
mod concat;
mod defer;
mod empty;
mod file;
mod grab;
mod inject;
mod ips;
mod join;
mod keys;
mod load;
pub(crate) mod nats;
mod negate;
mod null;
mod param;
mod prune;
mod raw_env;
mod refused;
mod shuffle;
mod sort;
mod split;
mod static_ips;
mod stringify;

pub(crate) use self::static_ips::Addresses;

use crate::eval::{Fault, Item, Machine};
use crate::expr::Call;
use crate::tree::Node;

/// When an operator runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Phase {
    Merge,
    Param,
    #[default]
    Eval,
}

/// What the evaluator knows of an operator.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) name: &'static str,
    pub(crate) phase: Phase,
    /// Its arguments are text, not expressions.
    pub(crate) raw: bool,
    /// Takes `@target` and `as KIND`.
    pub(crate) targets: bool,
    /// Reads no deeper than the keys of what it is given.
    pub(crate) shallow: bool,
    pub(crate) run: Run,
}

type Run = fn(&mut Machine<'_>, &Call) -> Result<Node, Fault>;

const fn eval(name: &'static str, run: Run) -> Operator {
    Operator { name, phase: Phase::Eval, raw: false, targets: false, shallow: false, run }
}

const fn raw(operator: Operator) -> Operator {
    Operator { raw: true, ..operator }
}

const fn during(phase: Phase, operator: Operator) -> Operator {
    Operator { phase, ..operator }
}

/// Every operator, by name.
static TABLE: [Operator; 31] = [
    raw(eval("awsparam", refused::run)),
    raw(eval("awssecret", refused::run)),
    eval("base64", base64::run),
    eval("base64-decode", base64_decode::run),
    eval("calc", calc::run),
    eval("cartesian-product", cartesian_product::run),
    eval("concat", concat::run),
    raw(eval("defer", defer::run)),
    eval("empty", empty::run),
    eval("file", file::run),
    eval("grab", grab::run),
    during(Phase::Merge, eval("inject", inject::run)),
    eval("ips", ips::run),
    eval("join", join::run),
    Operator { shallow: true, ..eval("keys", keys::run) },
    eval("load", load::run),
    Operator { targets: true, ..eval("nats", nats::run) },
    eval("negate", negate::run),
    eval("null", null::run),
    during(Phase::Param, eval("param", param::run)),
    raw(eval("prune", prune::run)),
    eval("raw_env", raw_env::run),
    eval("shuffle", shuffle::run),
    raw(during(Phase::Merge, eval("sort", sort::run))),
    eval("split", split::run),
    eval("static_ips", static_ips::run),
    eval("stringify", stringify::run),
    raw(eval("vault", refused::run)),
    raw(eval("vault-try", refused::run)),
    raw(eval("awsparam-try", refused::run)),
    raw(eval("awssecret-try", refused::run)),
];

pub(crate) fn find(name: &str) -> Option<&'static Operator> {
    TABLE.iter().find(|operator| operator.name == name)
}

/// What to say about an operator that is not there.
pub(crate) fn undefined(name: &str) -> String {
    /// How alike two names are that one is probably meant by the other.
    const ALIKE: f64 = 0.8;
    let nearest = TABLE
        .iter()
        .map(|operator| (strsim::jaro_winkler(operator.name, name), operator.name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((alike, nearest)) if alike >= ALIKE => {
            format!("(( {name} )) operator not defined; did you mean (( {nearest} ))?")
        }
        _ => format!("(( {name} )) operator not defined"),
    }
}

fn none_given(call: &Call) -> Fault {
    Fault::Failed(format!("no arguments specified to (( {} ... ))", call.op.name))
}

/// What an argument is called in an error.
fn label(item: &Item) -> String {
    match &item.reference {
        Some(reference) => reference.to_string(),
        None => format!("a {}", item.node.kind()),
    }
}

fn is_scalar(node: &Node) -> bool {
    node.as_map().is_none() && node.as_list().is_none()
}
