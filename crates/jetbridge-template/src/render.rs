//! From inputs to a result: what callers use.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::emit::{self, Style};
use crate::error::{Diagnostic, Failure, Place};
use crate::eval::Machine;
use crate::fetch::{Answer, Fetched, Fetcher, Request, Server, Sources};
use crate::merge::Merger;
use crate::parse;
use crate::patch;
use crate::post;
use crate::snippet::{without_logins, without_secrets};
use crate::tree::{At, Node, Step, path_text};

/// Rounds of reading at most: each is for paths that values of the round before made.
pub(crate) const ROUNDS_MAX: usize = 16;

/// Threads beside this one that read inputs at once.
const PARSERS_MAX: usize = 3;

/// A file, or whatever else holds YAML.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Input {
    /// What errors call it.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Input {
    /// An input of that name and content.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

/// What an input of several documents means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Streams {
    /// It is an error: no document is ever dropped.
    #[default]
    Refuse,
    /// Its documents are merged one after the other, like files.
    Merge,
}

/// What a `(( nats … ))` without a default gives for what is not there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Missing {
    /// An error.
    #[default]
    Error,
    /// Null.
    Null,
    /// The operator itself, as it stands, for a later reader.
    Keep,
}

/// How inputs are rendered. The default is what spruce does without flags, printed losslessly.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Paths taken out of the result.
    pub prune: Vec<String>,
    /// The only paths kept, and the only operators run; empty for everything.
    pub cherry_pick: Vec<String>,
    /// Merge alone: operators stay text.
    pub skip_eval: bool,
    /// Lists without a common key are appended to instead of merged by position.
    pub fallback_append: bool,
    /// Inputs that are lists are go-patch files, applied in their turn.
    pub go_patch: bool,
    /// What an input of several documents means.
    pub streams: Streams,
    /// The layout of the result.
    pub style: Style,
    /// `(( nats … ))` gives `REDACTED` and reads nothing.
    pub redact: bool,
    /// What a store's value that is not there gives.
    pub missing: Missing,
    /// The key that elements of lists are told apart by; `name` if not given.
    pub array_merge_key: Option<String>,
    /// The variables that `$NAME` and `raw_env` see.
    pub env: BTreeMap<String, String>,
    /// What relative paths of `file` and `load` are relative to; the working directory if not
    /// given.
    pub file_base: Option<PathBuf>,
}

impl Options {
    /// Where the file is that an operator calls `path`.
    pub(crate) fn file_path(&self, path: &str) -> PathBuf {
        match &self.file_base {
            Some(base) => base.join(path),
            None => PathBuf::from(path),
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rendered {
    /// The document.
    pub text: String,
    /// The same with every secret value as `***`.
    pub masked: String,
    /// What works but is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// What was read from stores, by server, bucket and name.
    pub reads: Vec<ReadValue>,
    pub(crate) root: Node,
    files: Files,
    history: HashMap<Vec<Step>, Vec<At>>,
}

/// Keys or objects.
pub use jetbridge_core::BucketKind as StoreKind;

/// One value that was read from a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadValue {
    /// The store.
    pub server: Server,
    /// Keys or objects.
    pub kind: StoreKind,
    /// The bucket.
    pub bucket: String,
    /// The key, or the object's name.
    pub name: String,
    /// The revision and its time; `None` if it was not there.
    pub version: Option<(u64, SystemTime)>,
}

/// Where a value of the result comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Origin {
    /// The place that won.
    pub place: Option<Place>,
    /// The places that it overrode, oldest first.
    pub overrode: Vec<Place>,
}

impl Rendered {
    /// The file and line that the value at `path` comes from, and what it overrode; `None` if
    /// there is no such value.
    pub fn explain(&self, path: &str) -> Option<Origin> {
        let path = post::find(&self.root, path.strip_prefix("$.").unwrap_or(path)).ok()?;
        let node = path.iter().try_fold(&self.root, |node, step| node.step(step))?;
        let overrode = self.history.get(&path).into_iter().flatten();
        Some(Origin {
            place: self.files.place(node.at),
            overrode: overrode.filter_map(|at| self.files.place(*at)).collect(),
        })
    }
}

/// Merges and evaluates without any store.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn merge(inputs: Vec<Input>, options: &Options) -> Result<Rendered, Failure> {
    let mut prepared = prepare(inputs, options)?;
    let fetched = Fetched::default();
    let mut root = std::mem::take(&mut prepared.root);
    if !options.skip_eval {
        let mut machine = Machine::new(root, options, &fetched);
        machine.moved = prepared.merger.moved();
        if machine.run() {
            let request = machine.requests.iter().next();
            let what = request.map_or_else(String::new, |r| format!("{}/{}", r.bucket, r.name));
            let no_store = "failed to connect to NATS: there is no store to read from";
            return Err(Failure::new(vec![Diagnostic::top(format!("{no_store} ({what})"))]));
        }
        prepared.warn(&machine);
        root = finished(machine, &prepared.files)?;
    }
    finish(root, prepared, &fetched, options)
}

/// Merges and evaluates; `(( nats … ))` reads what `sources` open.
///
/// Values of one bucket are of one state of it. What is asked for is read in rounds: first
/// everything whose place is known, then what depends on that.
///
/// # Errors
/// Everything that is wrong, at once.
pub async fn render(
    inputs: Vec<Input>,
    options: &Options,
    sources: &dyn Sources,
) -> Result<Rendered, Failure> {
    let prepared = prepare(inputs, options)?;
    evaluate(prepared, options, &mut Fetcher::new(sources)).await
}

/// Evaluates what was merged, with what `fetcher` knows and reads.
pub(crate) async fn evaluate(
    mut prepared: Prepared,
    options: &Options,
    fetcher: &mut Fetcher<'_>,
) -> Result<Rendered, Failure> {
    if options.skip_eval {
        let root = prepared.root.clone();
        return finish(root, prepared, &fetcher.fetched, options);
    }
    fetcher.has_explained = false;
    for _ in 0..ROUNDS_MAX {
        // Each round starts anew: what was read meanwhile may have changed what came before.
        let round = {
            let mut machine = Machine::new(prepared.root.clone(), options, &fetcher.fetched);
            machine.moved = prepared.merger.moved();
            let waits = machine.run();
            fetcher.files.append(&mut machine.files);
            fetcher.used = std::mem::take(&mut machine.used);
            if waits {
                Round::Reads(std::mem::take(&mut machine.requests))
            } else if !fetcher.has_explained && fetcher.fetched.has_unexplained(&machine.errors) {
                Round::Explains
            } else {
                prepared.warn(&machine);
                Round::Ends(finished(machine, &prepared.files)?)
            }
        };
        match round {
            Round::Ends(root) => return finish(root, prepared, &fetcher.fetched, options),
            Round::Reads(requests) => drop(fetcher.fetch(requests).await),
            Round::Explains => fetcher.explain_absences().await,
        }
    }
    Err(too_many_rounds())
}

/// What an evaluation came to.
enum Round {
    /// It waits for these.
    Reads(std::collections::BTreeSet<Request>),
    /// It fails for something that is not there, of which more can be said.
    Explains,
    Ends(Node),
}

pub(crate) fn too_many_rounds() -> Failure {
    Failure::new(vec![Diagnostic::top(format!(
        "values of stores name other values of stores more than {ROUNDS_MAX} times in a row"
    ))])
}

/// Each document of `input` as one line of JSON; operators are text.
///
/// # Errors
/// What is wrong with the input.
pub fn json(input: &Input) -> Result<String, Failure> {
    Ok(lines(&documents(input, 0).map_err(Failure::one)?))
}

/// As [`json`], but a key that is no text is an error instead of becoming text.
///
/// # Errors
/// What is wrong with the input.
pub fn strict_json(input: &Input) -> Result<String, Failure> {
    let documents = documents(input, 0).map_err(Failure::one)?;
    match documents.iter().find_map(emit::odd_key) {
        None => Ok(lines(&documents)),
        Some((key, at)) => {
            let what = format!(
                "{}: Non-string key `{key}` found during strict JSON conversion",
                input.name
            );
            let mut diagnostic = Diagnostic::top(what);
            diagnostic.place = Some(Place::new(&input.name, at.line as usize, at.column as usize));
            Err(Failure::one(diagnostic))
        }
    }
}

/// How many documents an input holds.
///
/// # Errors
/// What is wrong with the input.
pub fn document_count(input: &Input) -> Result<usize, Failure> {
    documents(input, 0).map(|documents| documents.len()).map_err(Failure::one)
}

fn lines(documents: &[Node]) -> String {
    documents.iter().map(|document| emit::json(document) + "\n").collect()
}

/// The documents of an input.
pub(crate) fn documents(input: &Input, file: u32) -> Result<Vec<Node>, Diagnostic> {
    parse::parse(&input.name, file, &input.bytes)
}

fn finished(machine: Machine<'_>, files: &Files) -> Result<Node, Failure> {
    if machine.errors.is_empty() {
        return Ok(machine.root);
    }
    Err(Failure::new(machine.diagnostics(files)))
}

/// The inputs merged, before any operator.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) root: Node,
    pub(crate) files: Files,
    merger: Merger,
}

impl Prepared {
    /// Adds what an evaluation warns of.
    fn warn(&mut self, machine: &Machine<'_>) {
        self.merger.warnings.append(&mut self.files.diagnostics(&machine.warnings));
    }

    /// The places that the value at `path` overrode, oldest first.
    pub(crate) fn overrode(&self, path: &[Step]) -> Vec<Place> {
        let history = self.merger.history.as_ref().and_then(|history| history.get(path));
        history.into_iter().flatten().filter_map(|at| self.files.place(*at)).collect()
    }
}

pub(crate) fn prepare(inputs: Vec<Input>, options: &Options) -> Result<Prepared, Failure> {
    let files = Files::new(inputs);
    let mut documents = Vec::new();
    for (number, found) in files.parse_all().into_iter().enumerate() {
        let found = found?;
        if found.len() > 1 && options.streams == Streams::Refuse {
            return Err(Failure::one(Diagnostic::top(format!(
                "{}: holds {} YAML documents; say that they are to be merged (-m), or split them",
                files.inputs[number].name,
                found.len()
            ))));
        }
        documents.extend(found.into_iter().map(|document| (number, document)));
    }
    combine(files, documents, options)
}

/// Merges documents, each with the number of its input.
pub(crate) fn combine(
    files: Files,
    documents: Vec<(usize, Node)>,
    options: &Options,
) -> Result<Prepared, Failure> {
    let mut merger = Merger {
        append: options.fallback_append,
        id_key: options.array_merge_key.clone(),
        history: Some(HashMap::new()),
        ..Merger::default()
    };
    let mut root = Node::map();
    for (number, document) in documents {
        let name = &files.inputs[number].name;
        if document.as_map().is_none() && options.go_patch {
            patch::apply(&mut root, document)
                .map_err(|what| Failure::one(Diagnostic::top(format!("{name}: {what}"))))?;
            continue;
        }
        if document.as_map().is_none() {
            return Err(Failure::one(Diagnostic::top(format!(
                "{name}: Root of YAML document is not a hash/map: it is a {}",
                document.kind()
            ))));
        }
        merger.merge(&mut root, document);
    }
    if merger.errors.is_empty() {
        return Ok(Prepared { root, files, merger });
    }
    Err(Failure::new(files.diagnostics(&merger.errors)))
}

fn finish(
    mut root: Node,
    prepared: Prepared,
    fetched: &Fetched,
    options: &Options,
) -> Result<Rendered, Failure> {
    let Prepared { files, merger, .. } = prepared;
    post::prune(&mut root, &merger.prune, &options.prune);
    let id_key = merger.id_key().to_owned();
    let errors = post::sort(&mut root, &merger.sort, &id_key);
    if !errors.is_empty() {
        return Err(Failure::new(files.diagnostics(&errors)));
    }
    if !options.cherry_pick.is_empty() {
        root = post::pick(&root, &options.cherry_pick).map_err(|errors| {
            let tops = errors.into_iter().map(|(_, _, what)| Diagnostic::top(what));
            Failure::listed(tops.collect())
        })?;
    }
    let text = emit::yaml(&root, options.style);
    let masked = if root.has_secret() {
        let mut copy = root.clone();
        mask(&mut copy);
        emit::yaml(&copy, options.style)
    } else {
        text.clone()
    };
    Ok(Rendered {
        text,
        masked,
        warnings: merger.warnings,
        reads: reads(fetched),
        root,
        files,
        history: merger.history.unwrap_or_default(),
    })
}

pub(crate) fn mask(node: &mut Node) {
    use crate::tree::Value;
    if node.secret {
        node.value = Value::Str("***".into());
        node.raw = None;
        return;
    }
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(mask),
        Value::Map(map) => map.values_mut().for_each(mask),
        _ => {}
    }
}

fn reads(fetched: &Fetched) -> Vec<ReadValue> {
    let mut reads: Vec<_> = fetched.iter().collect();
    reads.sort_by(|a, b| a.0.cmp(b.0));
    reads.into_iter().map(|(request, answer)| read_value(request, answer)).collect()
}

pub(crate) fn read_value(request: &Request, answer: &Answer) -> ReadValue {
    ReadValue {
        server: request.server.clone(),
        kind: request.kind.into(),
        bucket: request.bucket.clone(),
        name: request.name.clone(),
        version: match answer {
            Answer::Found(found) => Some((found.revision, found.written)),
            _ => None,
        },
    }
}

/// The inputs, for places in errors.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) inputs: Arc<[Input]>,
}

impl Files {
    pub(crate) fn new(inputs: Vec<Input>) -> Self {
        Self { inputs: inputs.into() }
    }

    /// The documents of the input of that number.
    pub(crate) fn parse(&self, number: usize) -> Result<Vec<Node>, Failure> {
        let file = u32::try_from(number).unwrap_or(u32::MAX);
        documents(&self.inputs[number], file)
            .map_err(|diagnostic| Failure::one(self.with_source(file, diagnostic)))
    }

    /// The documents of every input; large ones are read at the same time.
    pub(crate) fn parse_all(&self) -> Vec<Result<Vec<Node>, Failure>> {
        /// Bytes below which a thread costs more than it saves.
        const BYTES_MIN: usize = 64 << 10;
        let large = |input: &Input| input.bytes.len() >= BYTES_MIN;
        let mut parsed: Vec<Option<Result<Vec<Node>, Failure>>> = Vec::new();
        parsed.resize_with(self.inputs.len(), || None);
        // The last one is left to this thread.
        let others = self.inputs.len().saturating_sub(1);
        std::thread::scope(|scope| {
            let (rest, last) = parsed.split_at_mut(others);
            for (number, place) in rest.iter_mut().enumerate() {
                if number < PARSERS_MAX && large(&self.inputs[number]) {
                    scope.spawn(move || *place = Some(self.parse(number)));
                }
            }
            if let [place] = last {
                *place = Some(self.parse(others));
            }
        });
        let parse =
            |(number, parsed): (usize, Option<_>)| parsed.unwrap_or_else(|| self.parse(number));
        parsed.into_iter().enumerate().map(parse).collect()
    }

    pub(crate) fn place(&self, at: At) -> Option<Place> {
        if at.line == 0 {
            return None;
        }
        let input = self.inputs.get(at.file as usize)?;
        Some(Place::new(&input.name, at.line as usize, at.column as usize))
    }

    pub(crate) fn diagnostics(&self, errors: &[(Vec<Step>, At, String)]) -> Vec<Diagnostic> {
        // Of each input that has errors; a large one may have one on each line.
        let mut lines: HashMap<u32, Vec<&[u8]>> = HashMap::new();
        let mut one = |(path, at, message): &(Vec<Step>, At, String)| {
            let mut diagnostic = Diagnostic::at(path_text(path), without_logins(message));
            diagnostic.place = self.place(*at);
            if diagnostic.place.is_some() {
                let lines = lines.entry(at.file).or_insert_with(|| self.lines(at.file));
                let line = (at.line as usize).checked_sub(1).and_then(|line| lines.get(line));
                diagnostic.source_line = line.map(|line| shown_line(line));
            }
            diagnostic
        };
        errors.iter().map(&mut one).collect()
    }

    fn lines(&self, file: u32) -> Vec<&[u8]> {
        let input = self.inputs.get(file as usize);
        input.into_iter().flat_map(|input| input.bytes.split(|b| *b == b'\n')).collect()
    }

    fn with_source(&self, file: u32, mut diagnostic: Diagnostic) -> Diagnostic {
        let number = diagnostic.place.as_ref().and_then(|place| place.line.checked_sub(1));
        let line = number.and_then(|number| self.lines(file).get(number).copied());
        diagnostic.source_line = line.map(shown_line);
        diagnostic
    }
}

/// A line as a snippet shows it.
fn shown_line(line: &[u8]) -> String {
    /// Characters of a line that a snippet shows at most.
    const SNIPPET_MAX: usize = 200;
    without_secrets(&String::from_utf8_lossy(line)).chars().take(SNIPPET_MAX).collect()
}
