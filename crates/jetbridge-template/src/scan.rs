//! Finding the operators of a document: which values are one, and of which phase.

use std::sync::Arc;

use crate::eval::{Site, State};
use crate::expr::{Expr, Parsed};
use crate::merge::body_of;
use crate::op::Phase;
use crate::snippet::without_secrets;
use crate::tree::{At, Node, Step, Value};

/// What is found, in the order of the document.
#[derive(Default)]
pub(crate) struct Found {
    phase: Phase,
    pub(crate) sites: Vec<Site>,
    pub(crate) errors: Vec<(Vec<Step>, At, String)>,
    pub(crate) warnings: Vec<(Vec<Step>, At, String)>,
    path: Vec<Step>,
}

impl Found {
    /// The operators of `phase` in `root`, and what cannot be read as one.
    pub(crate) fn of(phase: Phase, root: &Node) -> Self {
        let mut found = Self { phase, ..Self::default() };
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
                for (key, value) in map {
                    self.path.push(Step::Key(Arc::clone(key)));
                    self.node(value);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, at: At) {
        let Some(body) = body_of(text) else { return };
        match crate::expr::parse(body) {
            Ok(Parsed::Operator(expr)) => {
                let phase = match &expr {
                    Expr::Call(call) => call.op.phase,
                    _ => Phase::Eval,
                };
                if phase == self.phase {
                    if let Some(literal) = expr.short_circuit() {
                        let what =
                            format!("literal \"{literal}\" short-circuits expression ({body})");
                        self.warnings.push((self.path.clone(), at, without_secrets(&what)));
                    }
                    self.sites.push(Site {
                        path: self.path.clone(),
                        at,
                        expr: Arc::new(expr),
                        state: State::Todo,
                    });
                }
            }
            Ok(Parsed::Foreign) => {}
            Err(message) => self.errors.push((self.path.clone(), at, without_secrets(&message))),
        }
    }
}
