//! Evaluating operators: each once, after what it reads.
//!
//! The order comes from [`plan`](crate::plan); what only shows while it runs, such as a path that
//! another operator computes, is evaluated on demand. Nothing here waits: a value of a store that
//! is not there yet is asked for, and its operator stands aside until the next pass.

mod resolve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Diagnostic;
use crate::expr::{Call, Expr, Infix};
use crate::fetch::{Fetched, Request};
use crate::infix;
use crate::op::{Addresses, Phase};
use crate::plan::{Ground, Index, Picks, Walk};
use crate::scalar;
use crate::scan::Found;
use crate::stamp::{self, Stamp};
use crate::tag;
use crate::tree::{At, DEPTH_MAX, Node, Step, Value, named, path_text, shown};
use crate::{Missing, Options};

/// Values that operators may copy in one evaluation: a bomb of nested grabs ends here.
const COPIES_MAX: usize = 10_000_000;

/// Why an operator has no value.
#[derive(Debug)]
pub(crate) enum Fault {
    /// `||` goes on with the next alternative.
    Failed(String),
    /// A value of a store is not there: as [`Fault::Failed`], but [`Options::missing`] has a say.
    Absent(String),
    /// An outage or a mistake that no alternative hides.
    Hard(String),
    /// What it reads failed, and was told already.
    Quiet,
    /// A value of a store is not there yet.
    Waiting,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::Failed(message.to_owned())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Todo,
    Running,
    Waiting,
    Done,
    Failed,
}

/// One operator of the document.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) path: Arc<[Step]>,
    pub(crate) at: At,
    pub(crate) expr: Arc<Expr>,
    pub(crate) state: State,
}

/// An argument's value, and the reference it came from.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) node: Node,
    pub(crate) reference: Option<Arc<str>>,
}

/// Who read what, for whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The operator's path, and the value of a store that it read.
    pub(crate) values: Vec<(Vec<Step>, Request)>,
    /// The operator's path, and the path that it read.
    pub(crate) references: Vec<(Vec<Step>, Vec<Step>)>,
}

/// A document under evaluation.
pub(crate) struct Machine<'a> {
    pub(crate) root: Node,
    pub(crate) options: &'a Options,
    pub(crate) fetched: &'a Fetched,
    pub(crate) requests: BTreeSet<Request>,
    /// Who asked for what.
    pub(crate) asked: Vec<(Vec<Step>, Request)>,
    pub(crate) errors: Vec<(Vec<Step>, At, String)>,
    pub(crate) warnings: Vec<(Vec<Step>, At, String)>,
    pub(crate) sites: Vec<Site>,
    /// The local files that operators have asked for, there or not.
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// What was read of stores, there or not.
    pub(crate) used: BTreeSet<Request>,
    /// Addresses that `static_ips` gave out, and to whom.
    pub(crate) claimed: HashMap<String, String>,
    pub(crate) addresses: Addresses,
    /// Lists whose elements prune and sort move, once all is evaluated.
    pub(crate) moved: Vec<Vec<Step>>,
    /// Kept if there is one.
    pub(crate) trace: Option<Trace>,
    index: Index,
    here: Vec<usize>,
    secret: bool,
    /// Texts that are secret, read or computed: no error shows them.
    secret_texts: BTreeSet<Arc<str>>,
    copies: usize,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(root: Node, options: &'a Options, fetched: &'a Fetched) -> Self {
        Self {
            root,
            options,
            fetched,
            requests: BTreeSet::new(),
            asked: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            sites: Vec::new(),
            files: BTreeMap::new(),
            used: BTreeSet::new(),
            claimed: HashMap::new(),
            addresses: Addresses::default(),
            moved: Vec::new(),
            trace: None,
            index: Index::default(),
            here: Vec::new(),
            secret: false,
            secret_texts: BTreeSet::new(),
            copies: 0,
        }
    }

    /// Evaluates everything that can be; true if operators wait for [`Machine::requests`].
    pub(crate) fn run(&mut self) -> bool {
        let mut found = Found::of(&self.root);
        if !found.merge.is_empty() {
            self.take_up(found.merge);
            self.run_sites(None);
            // What was merged may hold other operators, in other places.
            found = Found::of(&self.root);
        }
        if !found.param.is_empty() {
            self.take_up(found.param);
            let merge_errors = std::mem::take(&mut self.errors);
            self.run_sites(None);
            if self.errors.is_empty() {
                self.errors = merge_errors;
            }
            return false;
        }
        self.errors.append(&mut found.errors);
        self.warnings.append(&mut found.warnings);
        self.take_up(found.eval);
        let moved = std::mem::take(&mut self.moved);
        let prunes = !self.options.prune.is_empty();
        let picks = Picks::of(&self.options.cherry_pick, moved, prunes);
        self.run_sites(picks.as_ref());
        self.sites.iter().any(|site| site.state == State::Waiting)
    }

    /// Finds the operators again, where evaluation ended before it came to them.
    pub(crate) fn survey(&mut self) {
        let evaluated = |site: &Site| match &*site.expr {
            Expr::Call(call) => call.op.phase == Phase::Eval,
            _ => true,
        };
        if !self.sites.iter().all(evaluated) {
            let mut found = Found::of(&self.root);
            self.errors.append(&mut found.errors);
            self.take_up(found.eval);
        }
    }

    /// A local file, remembered as read.
    pub(crate) fn read_file(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let path = self.options.file_path(path);
        // The stamp is older than the bytes: what changes in between is seen as a change.
        let stamp = Stamp::of(&path);
        let bytes = stamp::read(&path);
        self.files.entry(path).or_insert(stamp);
        bytes
    }

    /// Asks for a value that the next pass needs.
    pub(crate) fn ask(&mut self, request: Request) {
        self.asked.push((self.here().to_vec(), request.clone()));
        self.requests.insert(request);
    }

    /// Makes `sites` the operators that run next.
    fn take_up(&mut self, sites: Vec<Site>) {
        self.sites = sites;
        self.index = Index::of(&self.sites);
    }

    /// Runs the operators that are needed. What a pick needs may show only once others have run,
    /// such as the names of a list's elements: it is over when none is left to run.
    fn run_sites(&mut self, picks: Option<&Picks>) {
        while self.run_known(picks) && picks.is_some() {}
    }

    /// Runs the operators that show to be needed by now; true if any ran.
    fn run_known(&mut self, picks: Option<&Picks>) -> bool {
        let errors = self.errors.len();
        let mut ran = false;
        let mut walk = Walk::new(self.ground(), picks);
        while let Some(next) = walk.next(self.ground()) {
            match next {
                Ok(site) if self.sites[site].state == State::Todo => {
                    self.run_site(site);
                    ran = true;
                }
                Ok(_done) => {}
                Err(cycle) => {
                    // Nothing counts then but the cycle: what ran before it is as if it had not.
                    self.errors.truncate(errors);
                    self.requests.clear();
                    self.sites.iter_mut().for_each(|site| site.state = State::Failed);
                    self.tell_cycle(&cycle);
                    return false;
                }
            }
        }
        ran
    }

    fn ground(&self) -> Ground<'_> {
        Ground { index: &self.index, sites: &self.sites, root: &self.root }
    }

    fn tell_cycle(&mut self, cycle: &[usize]) {
        let Some(first) = cycle.first().map(|site| &self.sites[*site]) else { return };
        self.errors.push((first.path.to_vec(), first.at, self.cycle_text(cycle)));
    }

    /// What is said of operators that wait for one another in that order.
    fn cycle_text(&self, cycle: &[usize]) -> String {
        let around = cycle.iter().chain(cycle.first());
        let names: Vec<_> = around.map(|site| path_text(&self.sites[*site].path)).collect();
        format!("cycle detected in operator data-flow graph: {}", names.join(" -> "))
    }

    fn run_site(&mut self, site: usize) {
        self.sites[site].state = State::Running;
        let expr = Arc::clone(&self.sites[site].expr);
        let outer_secret = std::mem::take(&mut self.secret);
        self.here.push(site);
        let result = self.eval(&expr).and_then(|item| self.bounded(item.node));
        let result = result.and_then(|node| self.tagged(site, node));
        self.here.pop();
        let secret = std::mem::replace(&mut self.secret, outer_secret);
        let at = self.sites[site].at;
        self.sites[site].state = match result {
            Ok(mut node) => {
                if secret {
                    node.mark_secret();
                    self.remember_secret(&node);
                }
                let path = Arc::clone(&self.sites[site].path);
                if expr.is_call_of("inject") {
                    self.inject(&path, node);
                } else if let Some(place) = self.root.at_path_mut(&path) {
                    let mut old = place.extras.take();
                    node = Node { at, ..node.undressed() };
                    node.dress_as(&mut old);
                    *place = node;
                }
                State::Done
            }
            Err(Fault::Waiting) => State::Waiting,
            Err(Fault::Quiet) => State::Failed,
            Err(Fault::Absent(_)) if self.options.missing != Missing::Error => {
                self.keep_or_null(site);
                State::Done
            }
            Err(Fault::Failed(message) | Fault::Absent(message) | Fault::Hard(message)) => {
                let message = if secret { self.masked(message) } else { message };
                self.errors.push((self.sites[site].path.to_vec(), at, message));
                State::Failed
            }
        };
    }

    /// The outcome with the tag that stands before the operator.
    fn tagged(&self, site: usize, node: Node) -> Result<Node, Fault> {
        let site = &self.sites[site];
        match self.node(&site.path).and_then(Node::tag) {
            // What is injected stands beside it.
            Some(tag) if !site.expr.is_call_of("inject") => Ok(tag::apply(tag, node)?),
            _ => Ok(node),
        }
    }

    /// Leaves the operator as it stands, or null in its place, as the options say.
    fn keep_or_null(&mut self, site: usize) {
        let path = &self.sites[site].path;
        if self.options.missing == Missing::Null
            && let Some(place) = self.root.at_path_mut(path)
        {
            place.value = Value::Null;
            place.raw = None;
            if let Some(extras) = &mut place.extras {
                // A tag of YAML itself says what the value would have been.
                extras.tag = extras.tag.take().filter(|tag| !tag.starts_with("!!"));
            }
        }
    }

    fn bounded(&mut self, node: Node) -> Result<Node, Fault> {
        let (nodes, depth) = node.measure();
        self.copies += nodes;
        if self.copies > COPIES_MAX {
            return Err(Fault::Hard(format!("operators copy more than {COPIES_MAX} values")));
        }
        let level = self.here.last().map_or(0, |site| self.sites[*site].path.len());
        if level + depth > DEPTH_MAX {
            return Err(Fault::Hard(format!(
                "Hit max recursion depth of {DEPTH_MAX}. You seem to have a self-referencing dataset"
            )));
        }
        Ok(node)
    }

    /// Puts the entries of `node` beside the operator and takes the operator away; what is there
    /// already wins, maps merge.
    fn inject(&mut self, path: &[Step], node: Node) {
        let Some((Step::Key(key), parent)) = path.split_last() else {
            let at = self.here_at();
            self.errors.push((path.to_vec(), at, "inject cannot be an element of a list".into()));
            return;
        };
        let Some(Value::Map(map)) = self.root.at_path_mut(parent).map(|parent| &mut parent.value)
        else {
            return;
        };
        map.shift_remove(key);
        let Value::Map(entries) = node.value else { return };
        for (key, mut template) in *entries {
            match map.get_mut(&key) {
                None => drop(map.insert(key, template)),
                Some(present) => {
                    if let (Value::Map(own), Value::Map(base)) =
                        (&mut present.value, &mut template.value)
                    {
                        let mut merger = crate::merge::Merger::default();
                        merger.merge_maps(base, std::mem::take(&mut **own));
                        *own = std::mem::take(base);
                    } else if let (Value::List(own), Value::List(base)) =
                        (&mut present.value, &mut template.value)
                    {
                        base.append(own);
                        *own = std::mem::take(base);
                    }
                }
            }
        }
    }

    fn here_at(&self) -> At {
        self.here.last().map(|site| self.sites[*site].at).unwrap_or_default()
    }

    /// The path of the operator that runs.
    pub(crate) fn here(&self) -> &[Step] {
        self.here.last().map_or(&[], |site| &self.sites[*site].path)
    }

    /// What runs now reads something secret, such as `text`.
    pub(crate) fn taint(&mut self, text: &str) {
        self.secret = true;
        self.secret_texts.insert(text.into());
    }

    fn remember_secret(&mut self, node: &Node) {
        match &node.value {
            Value::Str(text) => drop(self.secret_texts.insert(Arc::clone(text))),
            Value::List(items) => items.iter().for_each(|item| self.remember_secret(item)),
            Value::Map(map) => map.values().for_each(|value| self.remember_secret(value)),
            _ => drop(self.secret_texts.insert(shown(node).into())),
        }
    }

    /// `message` without anything secret, longer texts first.
    fn masked(&self, message: String) -> String {
        let mut texts: Vec<_> = self.secret_texts.iter().filter(|text| !text.is_empty()).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.into_iter().fold(message, |message, text| message.replace(&**text, "***"))
    }

    /// The value of an argument.
    pub(crate) fn eval(&mut self, expr: &Expr) -> Result<Item, Fault> {
        let node = match expr {
            Expr::Literal(node) => (**node).clone(),
            Expr::Env(name) => self.variable(name)?,
            Expr::Ref(reference) => {
                let path = self.resolve(reference)?;
                let node = self.node(&path).cloned().unwrap_or_default();
                if node.has_secret() {
                    self.secret = true;
                }
                let reference = Some(Arc::clone(&reference.text));
                // Its key and its comments belong to where it stands, not to where it is put.
                return Ok(Item { node: node.undressed(), reference });
            }
            Expr::Call(call) => {
                let node = (call.op.run)(self, call)?;
                if self.secret {
                    self.remember_secret(&node);
                }
                node
            }
            Expr::Not(inner) => {
                let inner = self.eval(inner)?.node;
                Node::new(Value::Bool(!infix::is_true(&inner)))
            }
            Expr::Minus(inner) => {
                let inner = self.eval(inner)?.node;
                infix::apply(Infix::Sub, &Node::new(Value::Int(0)), &inner)?
            }
            Expr::Infix(Infix::Or, left, right) => match self.eval(left) {
                Err(Fault::Failed(_) | Fault::Absent(_)) => return self.eval(right),
                other => return other,
            },
            Expr::Infix(Infix::And, left, right) => {
                let left = infix::is_true(&self.eval(left)?.node);
                Node::new(Value::Bool(left && infix::is_true(&self.eval(right)?.node)))
            }
            Expr::Infix(infix, left, right) => {
                let left = self.eval(left)?.node;
                let right = self.eval(right)?.node;
                infix::apply(*infix, &left, &right)?
            }
            Expr::Ternary(condition, yes, no) => {
                let yes_holds = infix::is_true(&self.eval(condition)?.node);
                return self.eval(if yes_holds { yes } else { no });
            }
            Expr::Map(entries) => {
                let mut map = Box::<crate::tree::Map>::default();
                for (key, value) in entries {
                    map.insert(Arc::from(key.as_str()), self.eval(value)?.node);
                }
                Node::new(Value::Map(map))
            }
        };
        Ok(Item { node, reference: None })
    }

    /// The values of all arguments.
    pub(crate) fn args(&mut self, call: &Call) -> Result<Vec<Item>, Fault> {
        call.args.iter().map(|arg| self.eval(arg)).collect()
    }

    /// A variable of the environment: text, but for booleans, null and flow collections.
    fn variable(&self, name: &str) -> Result<Node, Fault> {
        let text = self.raw_variable(name)?;
        Ok(match text {
            "true" | "false" | "null" => Node::new(scalar::resolve(text)),
            _ if text.starts_with(['{', '[']) => {
                let parsed = crate::parse::parse("", 0, text.as_bytes());
                parsed.ok().and_then(|mut docs| docs.pop()).unwrap_or_else(|| Node::text(text))
            }
            _ => Node::text(text),
        })
    }

    pub(crate) fn raw_variable(&self, name: &str) -> Result<&'a str, Fault> {
        match self.options.env.get(name) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(Fault::Failed(format!("Environment variable ${name} is not set"))),
        }
    }

    /// What is wrong so far, with paths and places.
    pub(crate) fn diagnostics(&self, files: &crate::Files) -> Vec<Diagnostic> {
        let computed = |path: &[Step]| self.index.operator_at(path);
        let named = |(path, at, message): &(Vec<Step>, At, String)| {
            (named(&self.root, path, computed), *at, message.clone())
        };
        files.diagnostics(&self.errors.iter().map(named).collect::<Vec<_>>())
    }
}
