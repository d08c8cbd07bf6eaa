//! What a template can read of stores, without reading anything.

use std::collections::{BTreeSet, HashMap};

use crate::error::Failure;
use crate::eval::Machine;
use crate::expr::{Call, Expr};
use crate::fetch::{Fetched, Request, Server};
use crate::op::nats;
use crate::render::{Input, Options, StoreKind, prepare};
use crate::tree::{Step, path_text};

/// One `(( nats … ))` of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreRef {
    /// The value it stands in, as `$.a.b`.
    pub path: String,
    /// What it reads, as far as that is known without reading.
    pub value: Option<StoreValue>,
    /// Its path or server is computed: another environment may read something else.
    pub computed: bool,
}

/// A value of a store, by name.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoreValue {
    /// The store.
    pub server: Server,
    /// Keys or objects.
    pub kind: StoreKind,
    /// The bucket.
    pub bucket: String,
    /// The key, or the object's name.
    pub name: String,
}

impl From<&Request> for StoreValue {
    fn from(request: &Request) -> Self {
        Self {
            server: request.server.clone(),
            kind: request.kind.into(),
            bucket: request.bucket.clone(),
            name: request.name.clone(),
        }
    }
}

/// Every read that the merged inputs can make, in the order of the document: also those behind
/// `||` and in branches not taken. Nothing is read; errors of operators are left aside.
///
/// # Errors
/// What is wrong with the inputs as such.
pub fn refs(inputs: Vec<Input>, options: &Options) -> Result<Vec<StoreRef>, Failure> {
    let prepared = prepare(inputs, options)?;
    let fetched = Fetched::default();
    let options = Options { redact: false, cherry_pick: Vec::new(), ..options.clone() };
    let mut machine = Machine::new(prepared.root, &options, &fetched);
    machine.run();
    machine.survey();
    let mut asked_at: HashMap<&[Step], Vec<&Request>> = HashMap::new();
    for (asker, request) in &machine.asked {
        asked_at.entry(asker).or_default().push(request);
    }
    let mut found = Vec::new();
    for site in &machine.sites {
        let mut calls = Vec::new();
        collect(&site.expr, &mut calls);
        if calls.is_empty() {
            continue;
        }
        let path = path_text(&site.path);
        let literal: Vec<_> = calls.iter().filter_map(|call| nats::literal_request(call)).collect();
        let computed = calls.len() - literal.len();
        let asked = asked_at.get(&*site.path).into_iter().flatten().copied();
        let asked: BTreeSet<_> = asked.filter(|request| !literal.contains(request)).collect();
        let entry = |value: Option<&Request>, computed| StoreRef {
            path: path.clone(),
            value: value.map(StoreValue::from),
            computed,
        };
        found.extend(literal.iter().map(|request| entry(Some(request), false)));
        found.extend(asked.iter().map(|request| entry(Some(request), true)));
        let unknown = computed.saturating_sub(asked.len());
        found.extend(std::iter::repeat_with(|| entry(None, true)).take(unknown));
    }
    Ok(found)
}

fn collect<'e>(expr: &'e Expr, calls: &mut Vec<&'e Call>) {
    match expr {
        Expr::Literal(_) | Expr::Env(_) | Expr::Ref(_) => {}
        Expr::Call(call) => {
            if call.op.name == "nats" {
                calls.push(call);
            }
            call.args.iter().for_each(|arg| collect(arg, calls));
        }
        Expr::Not(inner) | Expr::Minus(inner) => collect(inner, calls),
        Expr::Infix(_, left, right) => {
            collect(left, calls);
            collect(right, calls);
        }
        Expr::Ternary(condition, yes, no) => {
            [condition, yes, no].into_iter().for_each(|part| collect(part, calls));
        }
        Expr::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, calls)),
    }
}
