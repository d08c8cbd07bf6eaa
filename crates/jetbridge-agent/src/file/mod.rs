//! The file of `up`: what the user wrote becomes typed sections, and every problem is found at
//! once, each with its file, line and column.

mod buckets;
mod components;
mod handlers;
mod http;
mod join;
mod templates;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge::limit::LimitFile;
use jetbridge::settings::{
    Databases, Entry, Environment, Expansion, GoDuration, Node, StoreRequest, Value, read_file,
};
use jetbridge_core::{Error, ErrorKind};
use serde::de::DeserializeOwned;

use crate::bucket::BucketSection;
use crate::component::ComponentSpec;
use crate::handler::HandlerSpec;
use crate::http::HttpSpec;
use crate::template::TemplateSpec;
use templates::Surroundings;

/// How long `up` drains when it stops, if the file does not say.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What a file may hold at its top; `store` and `nats` are read where the store is found.
const SECTIONS: [&str; 12] = [
    "buckets",
    "components",
    "dbs",
    "drain_timeout",
    "fastapi",
    "handlers",
    "http",
    "limiters",
    "nats",
    "store",
    "stores",
    "templates",
];

/// Everything that the files name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct UpFile {
    /// What they say about the store.
    pub store: StoreRequest,
    /// Where HTTP listens; nothing does without it.
    pub http: Option<HttpSpec>,
    /// Buckets that must be there.
    pub buckets: Vec<BucketSection>,
    /// What is done with messages.
    pub handlers: Vec<HandlerSpec>,
    /// Limiters, and the stores that they live in.
    pub limits: LimitFile,
    /// Files that are kept true.
    pub templates: Vec<TemplateSpec>,
    /// Guests of wasi:keyvalue.
    pub components: Vec<ComponentSpec>,
    /// Databases that are replicated, as each file has them.
    pub databases: Vec<Databases>,
    /// How long to drain, if they say.
    drain_timeout: Option<Duration>,
}

impl UpFile {
    /// Reads files and joins them: maps are merged, lists are put one behind the other, and a
    /// key with two different values is a problem that names both places.
    ///
    /// # Errors
    /// Every problem of every file, in the order of the files.
    pub fn read(paths: &[PathBuf], environment: &Environment) -> Result<Self, Vec<Error>> {
        let mut problems = Vec::new();
        let mut trees = Vec::new();
        for path in paths {
            let tree = read_file(path).and_then(|mut tree| {
                tree.expand(environment, Expansion::Braces)?;
                Ok(tree)
            });
            match tree {
                Ok(tree) => trees.push((tree, folder(path))),
                Err(problem) => problems.push(problem),
            }
        }
        join::check(&trees, &mut problems);
        let mut file = Self::default();
        for (tree, folder) in &trees {
            let around = Surroundings { folder, environment };
            file.take(tree, around, &mut problems);
            let databases = keep(Databases::section(tree, environment), &mut problems);
            file.databases.extend(databases.flatten());
        }
        let roots: Vec<&Node> = trees.iter().map(|(tree, _)| tree).collect();
        match LimitFile::read(&roots, environment) {
            Ok(limits) => file.limits = limits,
            Err(more) => problems.extend(more),
        }
        file.keep_secrets();
        file.check_names(&mut problems);
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }

    /// How long stopping may take.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout.unwrap_or(DRAIN_TIMEOUT_DEFAULT)
    }

    /// Takes what one file says.
    fn take(&mut self, tree: &Node, around: Surroundings<'_>, problems: &mut Vec<Error>) {
        self.store = std::mem::take(&mut self.store).file(tree);
        for entry in tree.entries() {
            let node = &entry.node;
            match entry.name.as_str() {
                "drain_timeout" => {
                    let timeout = keep(node.read::<GoDuration>(), problems);
                    self.drain_timeout = timeout.map(|timeout| timeout.0).or(self.drain_timeout);
                }
                "http" => {
                    self.http = keep(http::read(node, around.folder), problems).or(self.http.take())
                }
                "buckets" => buckets::read(node, &mut self.buckets, problems),
                "handlers" => handlers::read(node, around.folder, &mut self.handlers, problems),
                "components" => components::read(node, around, &mut self.components, problems),
                "templates" => templates::read(node, around, &mut self.templates, problems),
                name if SECTIONS.contains(&name) || name.starts_with("NATS.") => {}
                name if tree.get("dbs").is_some() && Databases::knows(name) => {}
                name => problems.push(unknown(entry, name)),
            }
        }
    }

    /// What a bucket of the file keeps secret, each of its templates does.
    fn keep_secrets(&mut self) {
        let secret = self.buckets.iter().filter(|bucket| bucket.secret);
        let secret: BTreeSet<String> = secret.map(|bucket| bucket.name.to_string()).collect();
        for template in &mut self.templates {
            template.secret.extend(secret.iter().cloned());
        }
    }

    /// Two sections of one name would share their counters and could not be told apart; two
    /// templates of one file would undo each other's work.
    fn check_names(&self, problems: &mut Vec<Error>) {
        let handlers = self.handlers.iter().map(|handler| ("handlers", &handler.name));
        let templates = self.templates.iter().map(|template| ("templates", &template.name));
        let components = self.components.iter().map(|component| ("components", &component.name));
        let mut names = BTreeSet::new();
        for (kind, name) in handlers.chain(templates).chain(components) {
            if !names.insert((kind, name)) {
                problems.push(
                    Error::new(ErrorKind::InvalidInput, "settings.read")
                        .because(format!("two {kind} are called `{name}`"))
                        .hint("give each of them a `name`"),
                );
            }
        }
        self.check_routes(problems);
        let mut files = BTreeSet::new();
        for template in &self.templates {
            if !files.insert(&template.render.to) {
                let to = template.render.to.display();
                problems.push(
                    Error::new(ErrorKind::InvalidInput, "settings.read")
                        .because(format!("two templates write {to}")),
                );
            }
        }
    }

    /// A path that two components answer is nobody's, and one that nobody listens for is useless.
    fn check_routes(&self, problems: &mut Vec<Error>) {
        let problem =
            |message: String| Error::new(ErrorKind::InvalidInput, "settings.read").because(message);
        let mut routes = BTreeSet::new();
        for route in self.components.iter().filter_map(|component| component.route.as_ref()) {
            if !routes.insert(route.trim_end_matches('/')) {
                problems.push(problem(format!("two components have the route `{route}`")));
            }
        }
        if let (Some(route), None) = (routes.first(), &self.http) {
            problems.push(
                problem(format!("nothing listens for the route `{route}/`"))
                    .hint("say where: `http: {listen: 127.0.0.1:4280}`"),
            );
        }
    }
}

fn unknown(entry: &Entry, name: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "settings.read")
        .because(format!("{}: there is no section `{name}`", entry.place))
        .hint(format!("there are {}", SECTIONS.join(", ")))
}

/// The value, or nothing and one more problem.
fn keep<T>(read: jetbridge_core::Result<T>, problems: &mut Vec<Error>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

/// Reads each entry of the map `node` as a `T`, and hands it on by name.
fn entries<T: DeserializeOwned>(
    node: &Node,
    problems: &mut Vec<Error>,
    mut take: impl FnMut(&Entry, T) -> jetbridge_core::Result<()>,
) {
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        problems.push(at(node, "this is a map of names".to_owned()));
    }
    for entry in node.entries() {
        let taken = entry.node.read::<T>().and_then(|value| take(entry, value));
        keep(taken, problems);
    }
}

/// A problem with `node`.
fn at(node: &Node, message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "settings.read")
        .because(format!("{}: {message}", node.place))
}

/// The words of an error of the seam, at `node`.
fn at_node(node: &Node, error: &Error) -> Error {
    let words = error.message().unwrap_or(error.kind().as_str());
    let placed = at(node, words.to_owned());
    match error.hint_text() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

/// Where relative paths of a file begin.
fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    std::path::absolute(&folder).unwrap_or(folder)
}

#[cfg(test)]
mod tests;
