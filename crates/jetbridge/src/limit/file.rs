//! `stores:` and `limiters:` of a file, in rate-sync's words. Pure: nothing is opened here.

use jetbridge_core::{Error, ErrorKind, Result};

use super::limiter::{self, LimiterSpec};
use super::store::{self, Engine, StoreSpec};
use crate::settings::{Entry, Environment, Node, Value};

/// The stores and limiters that files name.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LimitFile {
    /// The stores.
    pub stores: Vec<StoreSpec>,
    /// The limiters. A `store` of theirs is among the stores.
    pub limiters: Vec<LimiterSpec>,
    /// What was accepted and has no effect, or not the one that the words suggest.
    pub notes: Vec<String>,
}

impl LimitFile {
    /// Reads the sections `stores` and `limiters` of files that were read, their variables
    /// expanded; other sections are left alone. A name that several files have counts once: that
    /// they agree is somebody else's matter.
    ///
    /// ```
    /// use jetbridge::limit::LimitFile;
    /// use jetbridge::settings::{Environment, parse_toml};
    ///
    /// let text = "[stores.nats]\nengine = \"nats\"\n\
    ///             [limiters.api]\nstore = \"nats\"\nrate_per_second = 100.0\nburst = 20\n";
    /// let root = parse_toml("rate-sync.toml", text).unwrap();
    /// let file = LimitFile::read(&[&root], &Environment::default()).unwrap();
    /// assert_eq!(file.limiters[0].policy.limit(), 20);
    /// ```
    ///
    /// # Errors
    /// Every problem, each with its file, line and column.
    pub fn read(roots: &[&Node], environment: &Environment) -> Result<Self, Vec<Error>> {
        let (mut file, mut problems) = (Self::default(), Vec::new());
        for root in roots {
            for entry in section(root, "stores", &mut problems) {
                match store::read(entry, environment) {
                    Ok((store, notes)) => {
                        file.stores.retain(|known| known.name != store.name);
                        file.stores.push(store);
                        file.notes.extend(notes);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            if let Some(entry) = root.entry("fastapi") {
                file.notes.push(format!("{}: `fastapi` has no effect here", entry.place));
            }
        }
        // After the stores of all files: a limiter may use another file's.
        let broken = !problems.is_empty();
        for root in roots {
            for entry in section(root, "limiters", &mut problems) {
                match limiter::read(entry, &file.stores, broken) {
                    Ok((limiter, note)) => {
                        file.limiters.retain(|known| known.id != limiter.id);
                        file.limiters.push(limiter);
                        file.notes.extend(note);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
        }
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }

    /// The limiter that `id` names: by its name, or as a key of it, which is what stands behind
    /// the first `:`.
    pub fn limiter(&self, id: &str) -> Option<&LimiterSpec> {
        let name = id.split_once(':').map_or(id, |(name, _)| name);
        self.limiters.iter().find(|limiter| limiter.id == name)
    }

    /// The store of a limiter: the one it names, else a bucket `rate_limits` in the file's store.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for a limiter of another file.
    pub fn store_of(&self, limiter: &LimiterSpec) -> Result<StoreSpec> {
        let Some(name) = &limiter.store else { return StoreSpec::of_file() };
        let store = self.stores.iter().find(|store| store.name == *name);
        store.cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "limit.open")
                .because("there is no such store")
                .with("store", name)
        })
    }

    /// True if a limiter keeps what it remembers in the file's store.
    pub fn needs_store(&self) -> bool {
        let stores = self.limiters.iter().filter_map(|limiter| self.store_of(limiter).ok());
        stores.into_iter().any(|store| store.engine == Engine::Nats && store.location.is_none())
    }

    /// The same with the limiter of `id` alone, if there is one.
    #[must_use]
    pub fn only(mut self, id: &str) -> Self {
        let keep = self.limiter(id).map(|limiter| limiter.id.clone());
        self.limiters.retain(|limiter| Some(&limiter.id) == keep.as_ref());
        self
    }
}

/// The entries of a section that is a map.
fn section<'a>(root: &'a Node, name: &str, problems: &mut Vec<Error>) -> &'a [Entry] {
    let Some(node) = root.get(name) else { return &[] };
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        problems.push(node.place.error(format!("`{name}` is a map of names")));
    }
    node.entries()
}
