//! What the paths of `--cherry-pick` need.

use std::sync::Arc;

use super::Ground;
use crate::expr;
use crate::tree::{self, Step};

/// The paths that are kept, and what may move before they are.
#[derive(Debug)]
pub(crate) struct Picks {
    paths: Vec<Vec<Arc<str>>>,
    /// Lists whose elements are elsewhere in the end: sorted ones, and those that lose some.
    moved: Vec<Vec<Step>>,
    /// Any list may lose elements.
    prunes: bool,
}

impl Picks {
    /// `None` if all is kept.
    pub(crate) fn of(texts: &[String], moved: Vec<Vec<Step>>, prunes: bool) -> Option<Self> {
        // What is no path is told when it is looked for.
        let paths = texts.iter().filter_map(|text| expr::literal(text).ok()).collect();
        (!texts.is_empty()).then_some(Self { paths, moved, prunes })
    }

    /// The nodes of the index that they need, as far as it shows by now.
    pub(super) fn starts(&self, ground: Ground<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for names in &self.paths {
            self.one(ground, names, &mut found);
        }
        found
    }

    fn one(&self, ground: Ground<'_>, names: &[Arc<str>], found: &mut Vec<usize>) {
        let mut branch = ground.index.find(&[]);
        let mut node = ground.root;
        let mut path = Vec::new();
        for name in names {
            // Nothing from here on is computed.
            let Some(at) = branch else { return };
            found.extend(ground.injections(at));
            if node.as_list().is_some() {
                if self.moved.contains(&path) || self.prunes {
                    // Which element it will be shows only then.
                    found.push(at);
                    return;
                }
                if !tree::is_index(name) {
                    ground.names(Some(node), Some(at), &[], found);
                }
            }
            let Some((step, child)) = node.child(name) else { return };
            branch = ground.index.child(at, &step);
            if let Some(computed) = branch.filter(|at| ground.index.site(*at).is_some()) {
                found.push(computed);
                return;
            }
            path.push(step);
            node = child;
        }
        found.extend(branch);
    }
}

impl Ground<'_> {
    /// The operators that put entries beside themselves, into the map at `branch`.
    fn injections(self, branch: usize) -> impl Iterator<Item = usize> {
        self.index.nodes[branch].order().filter(move |child| {
            let site = self.index.site(*child);
            site.is_some_and(|site| self.sites[site].expr.is_call_of("inject"))
        })
    }
}
