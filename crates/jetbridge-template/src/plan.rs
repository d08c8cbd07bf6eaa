//! In which order operators run: an index of them by path, and a depth-first order over it.
//!
//! A reference depends on the operators at it, above it and below it. The index is a tree of the
//! paths that hold operators; its nodes stand for whole subtrees, so the graph is as large as
//! the document, not its square.

mod picks;

use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::HashMap;

pub(crate) use self::picks::Picks;

use crate::eval::Site;
use crate::expr::{Expr, Reference, Segment};
use crate::op::calc;
use crate::tree::{NAMES, Node, Step};

/// Operators by path.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: Vec<Branch>,
    /// The branch of each operator.
    sites: Vec<usize>,
}

/// Most branches are an operator and nothing else, so that one has to be small.
#[derive(Debug, Default)]
struct Branch {
    site: Option<NonZeroU32>,
    below: Option<Box<Below>>,
}

#[derive(Debug, Default)]
struct Below {
    children: HashMap<Step, u32>,
    order: Vec<u32>,
}

impl Branch {
    fn site(&self) -> Option<usize> {
        // One more than it is, so that none takes no room.
        self.site.map(|number| number.get() as usize - 1)
    }

    fn child(&self, step: &Step) -> Option<usize> {
        self.below.as_ref()?.children.get(step).map(|at| *at as usize)
    }

    fn order(&self) -> impl Iterator<Item = usize> {
        self.below.iter().flat_map(|below| &below.order).map(|at| *at as usize)
    }
}

impl Index {
    pub(crate) fn of(sites: &[Site]) -> Self {
        let mut index = Self {
            nodes: Vec::with_capacity(sites.len() + 1),
            sites: Vec::with_capacity(sites.len()),
        };
        index.nodes.push(Branch::default());
        for (number, site) in sites.iter().enumerate() {
            let mut at = 0;
            for step in site.path.iter() {
                at = index.nodes[at].child(step).unwrap_or_else(|| index.grow(at, step));
            }
            index.nodes[at].site = narrow(number + 1).and_then(NonZeroU32::new);
            index.sites.push(at);
        }
        index
    }

    /// A new branch one step below `at`.
    fn grow(&mut self, at: usize, step: &Step) -> usize {
        let new = self.nodes.len();
        if let Some(number) = narrow(new) {
            let below = self.nodes[at].below.get_or_insert_default();
            below.children.insert(step.clone(), number);
            below.order.push(number);
        }
        self.nodes.push(Branch::default());
        new
    }

    /// The branch at `path`.
    pub(crate) fn find(&self, path: &[Step]) -> Option<usize> {
        if self.nodes.is_empty() {
            return None;
        }
        path.iter().try_fold(0, |at, step| self.nodes[at].child(step))
    }

    /// True if there is, or was before it ran, an operator at `path`.
    pub(crate) fn operator_at(&self, path: &[Step]) -> bool {
        self.find(path).is_some_and(|branch| self.site(branch).is_some())
    }

    /// True if `branch` is on the way down `path`.
    fn leads_through(&self, path: &[Step], branch: usize) -> bool {
        let mut at = Some(0);
        path.iter().any(|step| {
            at = at.and_then(|at| self.child(at, step));
            at == Some(branch)
        })
    }

    /// The branch one step below `branch`.
    pub(crate) fn child(&self, branch: usize, step: &Step) -> Option<usize> {
        self.nodes[branch].child(step)
    }

    /// The operator that a branch is.
    pub(crate) fn site(&self, branch: usize) -> Option<usize> {
        self.nodes[branch].site()
    }

    /// The operators at `branch` and below it.
    pub(crate) fn under(&self, branch: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut todo = vec![branch];
        while let Some(at) = todo.pop() {
            found.extend(self.nodes[at].site());
            todo.extend(self.nodes[at].order());
        }
        found
    }
}

/// Inputs have fewer bytes than this has numbers.
fn narrow(number: usize) -> Option<u32> {
    u32::try_from(number).ok()
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

/// What a walk goes over.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) index: &'a Index,
    pub(crate) sites: &'a [Site],
    pub(crate) root: &'a Node,
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

/// A branch whose needs are being visited.
struct Visit {
    branch: usize,
    needs: Vec<usize>,
    /// How many of them were.
    next: usize,
}

/// The operators, each after what it reads: depth first, without recursion, as chains are as long
/// as the document. Whoever walks runs each as it comes, while what the walk has just looked at
/// is still near.
pub(crate) struct Walk {
    colour: Vec<Colour>,
    starts: std::vec::IntoIter<usize>,
    stack: Vec<Visit>,
}

impl Walk {
    /// Over all of it; with `picks`, over what they need.
    pub(crate) fn new(ground: Ground<'_>, picks: Option<&Picks>) -> Self {
        let starts = match picks {
            Some(picks) => picks.starts(ground),
            None => ground.index.sites.clone(),
        };
        Self {
            colour: vec![Colour::White; ground.index.nodes.len()],
            starts: starts.into_iter(),
            stack: Vec::new(),
        }
    }

    /// The next operator, or the operators of a cycle.
    pub(crate) fn next(&mut self, ground: Ground<'_>) -> Option<Result<usize, Vec<usize>>> {
        loop {
            let Some(visit) = self.stack.last_mut() else {
                let start = self.starts.next()?;
                if self.colour[start] == Colour::White {
                    self.enter(ground, start);
                }
                continue;
            };
            let Some(need) = visit.needs.get(visit.next).copied() else {
                let branch = visit.branch;
                self.stack.pop();
                self.colour[branch] = Colour::Black;
                match ground.index.site(branch) {
                    Some(site) => return Some(Ok(site)),
                    None => continue,
                }
            };
            visit.next += 1;
            match self.colour[need] {
                Colour::White => self.enter(ground, need),
                Colour::Grey => return Some(Err(self.cycle(ground, need))),
                Colour::Black => {}
            }
        }
    }

    fn enter(&mut self, ground: Ground<'_>, branch: usize) {
        self.colour[branch] = Colour::Grey;
        self.stack.push(Visit { branch, needs: ground.needs(branch), next: 0 });
    }

    /// The operators from `branch` to the one that needs it again.
    fn cycle(&self, ground: Ground<'_>, branch: usize) -> Vec<usize> {
        let from = self.stack.iter().position(|visit| visit.branch == branch).unwrap_or(0);
        self.stack[from..].iter().filter_map(|visit| ground.index.site(visit.branch)).collect()
    }
}

impl Ground<'_> {
    fn needs(&self, branch: usize) -> Vec<usize> {
        let branch = &self.index.nodes[branch];
        let mut needs: Vec<_> = branch.order().collect();
        if let Some(site) = branch.site() {
            let site = &self.sites[site];
            each_reference(&site.expr, Depth::Whole, &mut |reference, depth| {
                self.reads(reference, &site.path, depth, &mut needs);
            });
        }
        needs
    }

    /// Adds the nodes of the index that reading `reference` needs.
    fn reads(&self, reference: &Reference, here: &[Step], depth: Depth, found: &mut Vec<usize>) {
        let Some(Segment::Name(first)) = reference.segments.first() else { return };
        let path = scope(self.root, here, reference.rooted, first);
        let mut at = self.index.find(&path);
        let mut node = path.iter().try_fold(self.root, |node, step| node.step(step));
        for segment in reference.segments.iter() {
            let Segment::Name(name) = segment else {
                // Where it leads shows only when it runs.
                return;
            };
            let Some((step, child)) = node.and_then(|node| node.child(name)) else {
                return self.names(node, at, here, found);
            };
            node = Some(child);
            at = at.and_then(|at| self.index.child(at, &step));
            let Some(at) = at else { return };
            if self.index.site(at).is_some() {
                found.push(at);
                return;
            }
        }
        if depth == Depth::Whole {
            found.extend(at);
        }
    }

    /// Adds the operators that name the elements of the list at branch `at`: once they have run,
    /// one of the names may be the one that is looked for. What is in the list does not wait for
    /// its names.
    fn names(&self, list: Option<&Node>, at: Option<usize>, here: &[Step], found: &mut Vec<usize>) {
        let items = list.and_then(Node::as_list).unwrap_or_default().len();
        let Some(at) = at.filter(|at| items > 0 && !self.index.leads_through(here, *at)) else {
            return;
        };
        for item in (0..items).filter_map(|item| self.index.child(at, &Step::Index(item))) {
            let field = |field: &&str| self.index.child(item, &Step::Key(Arc::from(*field)));
            found.extend(NAMES.iter().filter_map(field));
        }
    }
}

/// Calls `read` with every reference in `expr`, and how much of what it leads to is read.
fn each_reference(expr: &Expr, depth: Depth, read: &mut dyn FnMut(&Reference, Depth)) {
    match expr {
        Expr::Literal(_) | Expr::Env(_) => {}
        Expr::Ref(reference) => {
            for segment in reference.segments.iter() {
                if let Segment::Dynamic(text, segments) = segment {
                    let inner = Reference::in_brackets(text, segments);
                    read(&inner, Depth::Whole);
                }
            }
            read(reference, depth);
        }
        Expr::Call(call) => {
            if call.op.name == "calc" {
                calc::references(call).iter().for_each(|inner| read(inner, Depth::Whole));
            }
            let depth = if call.op.shallow { Depth::Top } else { Depth::Whole };
            call.args.iter().for_each(|arg| each_reference(arg, depth, read));
        }
        Expr::Not(inner) | Expr::Minus(inner) => each_reference(inner, depth, read),
        Expr::Infix(_, left, right) => {
            each_reference(left, depth, read);
            each_reference(right, depth, read);
        }
        Expr::Ternary(condition, yes, no) => {
            [condition, yes, no].into_iter().for_each(|part| each_reference(part, depth, read));
        }
        Expr::Map(entries) => {
            entries.iter().for_each(|(_, value)| each_reference(value, depth, read));
        }
    }
}
