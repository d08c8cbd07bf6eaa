//! Where one value comes from: the file and line, what it overrode, the operator that made it,
//! and the values of stores behind it.

use std::collections::BTreeSet;

use crate::emit;
use crate::error::{Diagnostic, Failure, Place};
use crate::eval::{Machine, Trace};
use crate::fetch::{Fetcher, Request, Sources};
use crate::merge::body_of;
use crate::post;
use crate::render::{
    Input, Options, Prepared, ROUNDS_MAX, ReadValue, mask, prepare, read_value, too_many_rounds,
};
use crate::snippet::without_secrets;
use crate::tree::{Node, Step, path_text};

/// What is known about one value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The value's path, as `$.a.b`.
    pub path: String,
    /// The value as YAML, secrets as `***`.
    pub value: String,
    /// The place that won.
    pub place: Option<Place>,
    /// The places that it overrode, oldest first.
    pub overrode: Vec<Place>,
    /// The operator that made it: its path and its text, without logins.
    pub operator: Option<(String, String)>,
    /// The paths that were read to make it, directly and through others, sorted.
    pub references: Vec<String>,
    /// The values of stores behind it.
    pub reads: Vec<ReadValue>,
}

/// Renders `inputs` and says where the value at `path` comes from. Also paths that the options
/// take out of the result can be asked for.
///
/// # Errors
/// What is wrong with the inputs, or with what the value depends on; that there is no such value.
pub async fn explain(
    inputs: Vec<Input>,
    path: &str,
    options: &Options,
    sources: &dyn Sources,
) -> Result<Explanation, Failure> {
    let whole = Options { prune: Vec::new(), cherry_pick: Vec::new(), ..options.clone() };
    let prepared = prepare(inputs, &whole)?;
    let mut fetcher = Fetcher::new(sources);
    for _ in 0..ROUNDS_MAX {
        let requests = {
            let mut machine = Machine::new(prepared.root.clone(), &whole, &fetcher.fetched);
            machine.trace = Some(Trace::default());
            if options.skip_eval || !machine.run() {
                return Subject { prepared: &prepared, machine: &machine }.explain(path);
            }
            machine.requests
        };
        fetcher.fetch(requests).await;
    }
    Err(too_many_rounds())
}

/// An evaluated document that is asked about.
struct Subject<'a> {
    prepared: &'a Prepared,
    machine: &'a Machine<'a>,
}

impl Subject<'_> {
    fn explain(&self, text: &str) -> Result<Explanation, Failure> {
        let root = &self.machine.root;
        let path = post::find(root, text.strip_prefix("$.").unwrap_or(text))
            .map_err(|what| Failure::listed(vec![Diagnostic::top(what)]))?;
        let behind = self.behind(&path);
        let errors: Vec<_> = self
            .machine
            .errors
            .iter()
            .filter(|(at, ..)| behind.iter().any(|read| related(read, at)))
            .cloned()
            .collect();
        if !errors.is_empty() {
            return Err(Failure::new(self.prepared.files.diagnostics(&errors)));
        }
        let mut value = self.machine.node(&path).cloned().unwrap_or_default();
        let place = self.prepared.files.place(value.at);
        mask(&mut value);
        Ok(Explanation {
            value: emit::yaml(&value.undressed(), emit::Style::Lossless),
            place,
            overrode: self.prepared.overrode(&path),
            operator: self.operator(&path),
            references: behind.iter().filter(|read| **read != path).map(|p| path_text(p)).collect(),
            reads: self.reads(&behind),
            path: path_text(&path),
        })
    }

    /// `path`, and every path that was read to make what is there.
    fn behind(&self, path: &[Step]) -> BTreeSet<Vec<Step>> {
        let trace = self.machine.trace.as_ref();
        let mut known = BTreeSet::from([path.to_vec()]);
        let mut todo = vec![path.to_vec()];
        while let Some(path) = todo.pop() {
            let references = trace.into_iter().flat_map(|trace| &trace.references);
            for (_, read) in references.filter(|(reader, _)| related(reader, &path)) {
                if known.insert(read.clone()) {
                    todo.push(read.clone());
                }
            }
        }
        known
    }

    fn reads(&self, behind: &BTreeSet<Vec<Step>>) -> Vec<ReadValue> {
        let values = self.machine.trace.iter().flat_map(|trace| &trace.values);
        let requests: BTreeSet<&Request> = values
            .filter(|(reader, _)| behind.iter().any(|path| related(reader, path)))
            .map(|(_, request)| request)
            .collect();
        let answered = |request: &Request| {
            let answer = self.machine.fetched.get(request)?;
            Some(read_value(request, answer))
        };
        requests.into_iter().filter_map(answered).collect()
    }

    /// The operator at `path`, or the innermost around it.
    fn operator(&self, path: &[Step]) -> Option<(String, String)> {
        (0..=path.len()).rev().find_map(|length| {
            let above = &path[..length];
            let site = self.machine.sites.iter().find(|site| *site.path == *above)?;
            let node = above.iter().try_fold(&self.prepared.root, |node, step| node.step(step));
            let text = node.and_then(Node::as_str).filter(|text| body_of(text).is_some())?;
            Some((path_text(&site.path), without_secrets(text)))
        })
    }
}

/// True if one of the paths leads to, or into, the other.
fn related(a: &[Step], b: &[Step]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
