//! Finding the operators of a document: which values are one, and of which phase. Each is parsed
//! once, whatever its phase, and the same text once, wherever it stands.

use std::sync::Arc;

use foldhash::HashMap;

use crate::eval::{Site, State};
use crate::expr::{Expr, Parsed};
use crate::merge::body_of;
use crate::op::Phase;
use crate::snippet::without_secrets;
use crate::tree::{At, Node, Step, Value};

/// Texts of operators that are remembered at most: what repeats is among the first, and a table of
/// all would cost more than it saves.
const PARSED_MAX: usize = 1024;

/// What is found, in the order of the document.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The operators that run while merging, such as `inject`.
    pub(crate) merge: Vec<Site>,
    /// The parameters that nobody gave.
    pub(crate) param: Vec<Site>,
    pub(crate) eval: Vec<Site>,
    pub(crate) errors: Vec<(Vec<Step>, At, String)>,
    pub(crate) warnings: Vec<(Vec<Step>, At, String)>,
    path: Vec<Step>,
    /// Large documents repeat their operators; the first [`PARSED_MAX`] of them.
    parsed: HashMap<Arc<str>, Arc<Expr>>,
}

impl Found {
    /// The operators in `root`, and what cannot be read as one.
    pub(crate) fn of(root: &Node) -> Self {
        let mut found = Self::default();
        found.node(root);
        found
    }

    fn node(&mut self, node: &Node) {
        match &node.value {
            Value::Str(text) => self.text(text, node.at),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.node(item);
                    self.path.pop();
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    self.path.push(Step::Key(Arc::clone(key)));
                    self.node(value);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &Arc<str>, at: At) {
        let Some(body) = body_of(text) else { return };
        if let Some(expr) = self.parsed.get(text) {
            let expr = Arc::clone(expr);
            return self.operator(expr, body, at);
        }
        match crate::expr::parse(body) {
            Ok(Parsed::Operator(expr)) => {
                let expr = Arc::new(expr);
                if self.parsed.len() < PARSED_MAX {
                    self.parsed.insert(Arc::clone(text), Arc::clone(&expr));
                }
                self.operator(expr, body, at);
            }
            Ok(Parsed::Foreign) => {}
            Err(message) => self.errors.push((self.path.clone(), at, without_secrets(&message))),
        }
    }

    fn operator(&mut self, expr: Arc<Expr>, body: &str, at: At) {
        let phase = match &*expr {
            Expr::Call(call) => call.op.phase,
            _ => Phase::Eval,
        };
        let of_phase = match phase {
            Phase::Merge => &mut self.merge,
            Phase::Param => &mut self.param,
            Phase::Eval => {
                if let Some(literal) = expr.short_circuit() {
                    let what = format!("literal \"{literal}\" short-circuits expression ({body})");
                    self.warnings.push((self.path.clone(), at, without_secrets(&what)));
                }
                &mut self.eval
            }
        };
        of_phase.push(Site { path: self.path.as_slice().into(), at, expr, state: State::Todo });
    }
}
