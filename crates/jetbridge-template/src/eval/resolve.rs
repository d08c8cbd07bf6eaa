//! Where references lead, with what is there evaluated.

use std::borrow::Cow;

use super::{Fault, Machine, State};
use crate::expr::{Reference, Segment};
use crate::fetch::Request;
use crate::plan;
use crate::tree::{Node, Step, path_text, shown};

/// Operators that wait for one another on demand, beyond the planned order.
const ON_DEMAND_MAX: usize = 32;

/// A segment of a reference, once it is known.
type Name<'s> = Cow<'s, str>;

impl Machine<'_> {
    pub(crate) fn node(&self, path: &[Step]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, step| node.step(step))
    }

    /// Where `reference` leads, with everything there evaluated.
    pub(crate) fn resolve(&mut self, reference: &Reference) -> Result<Vec<Step>, Fault> {
        let (path, branch) = self.lead(reference)?;
        if let Some(branch) = branch {
            for site in self.index.under(branch) {
                self.demand(site)?;
            }
        }
        Ok(path)
    }

    /// Where `reference` leads, with everything on the way evaluated.
    pub(crate) fn reach(&mut self, reference: &Reference) -> Result<Vec<Step>, Fault> {
        self.lead(reference).map(|(path, _)| path)
    }

    /// As [`Machine::reach`], with the branch of the index that is there.
    fn lead(&mut self, reference: &Reference) -> Result<(Vec<Step>, Option<usize>), Fault> {
        let names = self.names(&reference.segments)?;
        let scope = plan::scope(&self.root, self.here(), reference.rooted, &names[0]);
        let (path, branch) = self.walk(scope, &names).map_err(|fault| match fault {
            Fault::Failed(why) => {
                Fault::Failed(format!("unable to resolve `{}`: {why}", reference.text))
            }
            other => other,
        })?;
        if self.trace.is_some() {
            let reader = self.here().to_vec();
            self.trace.get_or_insert_default().references.push((reader, path.clone()));
        }
        Ok((path, branch))
    }

    /// Remembers, if it is traced, that the operator that runs reads a value of a store.
    pub(crate) fn note_read(&mut self, request: &Request) {
        if self.trace.is_some() {
            let reader = self.here().to_vec();
            self.trace.get_or_insert_default().values.push((reader, request.clone()));
        }
    }

    /// The path that `text` writes, as a string that was computed.
    pub(crate) fn resolve_text(&mut self, text: &str) -> Result<Vec<Step>, Fault> {
        let reference = crate::expr::reference(text)?;
        self.resolve(&reference)
    }

    fn walk(
        &mut self,
        scope: Vec<Step>,
        names: &[Name<'_>],
    ) -> Result<(Vec<Step>, Option<usize>), Fault> {
        let mut path = scope;
        let mut branch = self.index.find(&path);
        for name in names {
            if let Some(site) = branch.and_then(|branch| self.index.site(branch)) {
                self.demand(site)?;
            }
            let node = self.node(&path);
            let Some((step, _)) = node.and_then(|node| node.child(name)) else {
                let scalar =
                    node.is_some_and(|node| node.as_map().is_none() && node.as_list().is_none());
                let message = if self.secret {
                    // A name on the way may be a part of a secret, which no mask would know.
                    "it could not be found in the datastructure".to_owned()
                } else if scalar && !path.is_empty() {
                    format!("`{}` is a scalar (not a map or a list)", path_text(&path))
                } else {
                    let place = path_text(&path);
                    format!("`{place}.{name}` could not be found in the datastructure")
                };
                return Err(Fault::Failed(message));
            };
            branch = branch.and_then(|branch| self.index.child(branch, &step));
            path.push(step);
        }
        if let Some(site) = branch.and_then(|branch| self.index.site(branch)) {
            self.demand(site)?;
        }
        Ok((path, branch))
    }

    fn demand(&mut self, site: usize) -> Result<(), Fault> {
        match self.sites[site].state {
            State::Todo => {
                if self.here.len() > ON_DEMAND_MAX {
                    return Err(Fault::Hard(format!(
                        "more than {ON_DEMAND_MAX} computed references depend on one another"
                    )));
                }
                self.run_site(site);
                self.demand(site)
            }
            State::Done => Ok(()),
            State::Waiting => Err(Fault::Waiting),
            State::Failed => Err(Fault::Quiet),
            State::Running => {
                let start = self.here.iter().position(|running| *running == site).unwrap_or(0);
                Err(Fault::Hard(self.cycle_text(&self.here[start..])))
            }
        }
    }

    fn names<'s>(&mut self, segments: &'s [Segment]) -> Result<Vec<Name<'s>>, Fault> {
        let mut names = Vec::with_capacity(segments.len());
        for segment in segments {
            names.push(match segment {
                Segment::Name(name) => Name::Borrowed(name),
                Segment::Env(variable) => Name::Owned(self.raw_variable(variable)?.to_owned()),
                Segment::Dynamic(text, segments) => {
                    let reference = Reference::in_brackets(text, segments);
                    match self.resolve(&reference) {
                        Ok(path) => match self.node(&path) {
                            Some(node) if node.as_map().is_none() && node.as_list().is_none() => {
                                let (name, secret) = (shown(node), node.secret);
                                self.secret |= secret;
                                Name::Owned(name)
                            }
                            _ => {
                                return Err(Fault::Failed(format!(
                                    "`{text}` in brackets is not a scalar"
                                )));
                            }
                        },
                        Err(Fault::Failed(_)) => Name::Borrowed(text),
                        Err(fault) => return Err(fault),
                    }
                }
            });
        }
        if names.is_empty() {
            return Err(Fault::Failed("a reference names nothing".to_owned()));
        }
        Ok(names)
    }
}
