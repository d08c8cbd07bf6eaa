//! In which order operators run: an index of them by path, and a depth-first order over it.
//!
//! A reference depends on the operators at it, above it and below it. The index is a tree of the
//! paths that hold operators; its nodes stand for whole subtrees, so the graph is as large as
//! the document, not its square.

use std::collections::HashMap;

use crate::eval::Site;
use crate::expr::{Expr, Reference, Segment};
use crate::op::calc;
use crate::tree::{Node, Step};

/// Operators by path.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: Vec<Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    site: Option<usize>,
    children: HashMap<Step, usize>,
    order: Vec<usize>,
}

impl Index {
    pub(crate) fn of(sites: &[Site]) -> Self {
        let mut index = Self { nodes: vec![Branch::default()] };
        for (number, site) in sites.iter().enumerate() {
            let mut at = 0;
            for step in &site.path {
                let next = index.nodes.len();
                let known = index.nodes[at].children.get(step).copied();
                at = known.unwrap_or_else(|| {
                    index.nodes[at].children.insert(step.clone(), next);
                    index.nodes[at].order.push(next);
                    index.nodes.push(Branch::default());
                    next
                });
            }
            index.nodes[at].site = Some(number);
        }
        index
    }

    fn find(&self, path: &[Step]) -> Option<usize> {
        if self.nodes.is_empty() {
            return None;
        }
        path.iter().try_fold(0, |at, step| self.nodes[at].children.get(step).copied())
    }

    /// The operator at exactly `path`.
    pub(crate) fn at(&self, path: &[Step]) -> Option<usize> {
        self.nodes[self.find(path)?].site
    }

    /// The operators below `path`.
    pub(crate) fn under(&self, path: &[Step]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut todo: Vec<_> = self.find(path).into_iter().collect();
        while let Some(at) = todo.pop() {
            found.extend(self.nodes[at].site);
            todo.extend(&self.nodes[at].order);
        }
        found
    }
}

/// Where the first name of a reference is looked up: the root, else the innermost map around the
/// operator that has it.
pub(crate) fn scope(root: &Node, here: &[Step], rooted: bool, first: &str) -> Vec<Step> {
    if rooted || root.child(first).is_some() {
        return Vec::new();
    }
    let mut around = Vec::new();
    let mut node = root;
    let mut best = Vec::new();
    for step in &here[..here.len().saturating_sub(1)] {
        let Some(next) = node.step(step) else { break };
        node = next;
        around.push(step.clone());
        if node.as_map().is_some_and(|map| map.contains_key(first)) {
            best.clone_from(&around);
        }
    }
    best
}

/// The order to run `sites` in, or the sites of a cycle. With `picks`, only what they need.
pub(crate) fn order(
    index: &Index,
    sites: &[Site],
    root: &Node,
    picks: &[String],
) -> Result<Vec<usize>, Vec<usize>> {
    let mut walk = Walk {
        index,
        sites,
        root,
        colour: vec![Colour::White; index.nodes.len()],
        order: Vec::new(),
    };
    let picked: Vec<usize> = picks
        .iter()
        .filter_map(|pick| crate::expr::reference(pick).ok())
        .flat_map(|pick| walk.reads(&pick, &[], Depth::Whole))
        .collect();
    if picked.is_empty() {
        for site in sites {
            if let Some(node) = index.find(&site.path) {
                walk.visit(node)?;
            }
        }
    } else {
        for node in picked {
            walk.visit(node)?;
        }
    }
    Ok(walk.order)
}

#[derive(Clone, Copy, PartialEq)]
enum Colour {
    White,
    Grey,
    Black,
}

/// How much of what a reference leads to is read.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// The keys alone.
    Top,
    Whole,
}

struct Walk<'a> {
    index: &'a Index,
    sites: &'a [Site],
    root: &'a Node,
    colour: Vec<Colour>,
    order: Vec<usize>,
}

impl Walk<'_> {
    /// Depth first, without recursion: chains are as long as the document.
    fn visit(&mut self, start: usize) -> Result<(), Vec<usize>> {
        if self.colour[start] != Colour::White {
            return Ok(());
        }
        let mut stack = vec![(start, self.needs(start), 0)];
        self.colour[start] = Colour::Grey;
        while let Some((node, needs, next)) = stack.last_mut() {
            if let Some(need) = needs.get(*next).copied() {
                *next += 1;
                match self.colour[need] {
                    Colour::White => {
                        self.colour[need] = Colour::Grey;
                        let needs = self.needs(need);
                        stack.push((need, needs, 0));
                    }
                    Colour::Grey => {
                        let from = stack.iter().position(|(node, ..)| *node == need).unwrap_or(0);
                        let cycle: Vec<_> = stack[from..]
                            .iter()
                            .filter_map(|(node, ..)| self.index.nodes[*node].site)
                            .collect();
                        return Err(cycle);
                    }
                    Colour::Black => {}
                }
            } else {
                self.colour[*node] = Colour::Black;
                self.order.extend(self.index.nodes[*node].site);
                stack.pop();
            }
        }
        Ok(())
    }

    fn needs(&self, node: usize) -> Vec<usize> {
        let branch = &self.index.nodes[node];
        let mut needs = branch.order.clone();
        if let Some(site) = branch.site {
            let site = &self.sites[site];
            let mut references = Vec::new();
            collect(&site.expr, Depth::Whole, &mut references);
            for (reference, depth) in references {
                needs.extend(self.reads(&reference, &site.path, depth));
            }
        }
        needs
    }

    /// The nodes of the index that reading `reference` needs.
    fn reads(&self, reference: &Reference, here: &[Step], depth: Depth) -> Vec<usize> {
        let mut found = Vec::new();
        let Some(Segment::Name(first)) = reference.segments.first() else { return found };
        let mut path = scope(self.root, here, reference.rooted, first);
        let mut at = self.index.find(&path);
        let mut node = path.iter().try_fold(self.root, |node, step| node.step(step));
        for segment in &reference.segments {
            let Segment::Name(name) = segment else {
                // Where it leads shows only when it runs.
                return found;
            };
            let Some((step, child)) = node.and_then(|node| node.child(name)) else { return found };
            node = Some(child);
            at = at.and_then(|at| self.index.nodes[at].children.get(&step).copied());
            let Some(at) = at else { return found };
            path.push(step);
            if self.index.nodes[at].site.is_some() {
                found.push(at);
                return found;
            }
        }
        if depth == Depth::Whole {
            found.extend(at);
        }
        found
    }
}

fn collect(expr: &Expr, depth: Depth, found: &mut Vec<(Reference, Depth)>) {
    match expr {
        Expr::Literal(_) | Expr::Env(_) => {}
        Expr::Ref(reference) => {
            for segment in &reference.segments {
                if let Segment::Dynamic(text, segments) = segment {
                    let inner =
                        Reference { text: text.clone(), rooted: false, segments: segments.clone() };
                    found.push((inner, Depth::Whole));
                }
            }
            found.push((reference.clone(), depth));
        }
        Expr::Call(call) => {
            if call.op.name == "calc" {
                found.extend(calc::references(call).into_iter().map(|r| (r, Depth::Whole)));
            }
            let depth = if call.op.shallow { Depth::Top } else { Depth::Whole };
            call.args.iter().for_each(|arg| collect(arg, depth, found));
        }
        Expr::Not(inner) | Expr::Minus(inner) => collect(inner, depth, found),
        Expr::Infix(_, left, right) => {
            collect(left, depth, found);
            collect(right, depth, found);
        }
        Expr::Ternary(condition, yes, no) => {
            [condition, yes, no].into_iter().for_each(|part| collect(part, depth, found));
        }
        Expr::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, depth, found)),
    }
}
