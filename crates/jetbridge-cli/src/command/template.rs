//! `template`: what templates give, printed as spruce prints it.

mod inputs;
mod inquire;
mod render;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use jetbridge::StoreSources;
use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{self, Failure, Options, Rendered, Streams};
use jetbridge_core::{ErrorKind, Result};

use self::inputs::{Missing, Reader};
use self::view::Refused;
use crate::args::Global;
use crate::args::template::{Diff, Fan, How, Json, Layout, Merge, Style, Template, Word};
use crate::printer::Printer;
use crate::report::Status;

/// How long closing may take: nothing was written.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// The store of calls that name none, under the names of other programs: their default.
const LINKED_STORE: &str = "nats://127.0.0.1:4222";

/// Under whose name a command runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// Its own.
    Own,
    /// Another program's, whose layout and default store count.
    Linked,
}

/// A word that both names have.
pub(crate) enum Task {
    Merge(Merge),
    Fan(Fan),
    Json(Json),
    Diff(Diff),
}

pub(crate) async fn run(args: Template, global: &Global, printer: &Printer) -> Result<Status> {
    let task = match args.word {
        Word::Merge(args) => Task::Merge(args),
        Word::Fan(args) => Task::Fan(args),
        Word::Json(args) => Task::Json(args),
        Word::Diff(args) => Task::Diff(args),
        Word::Refs(args) => return inquire::refs(&args, global, printer),
        Word::Render(args) => return render::run(&args, global, printer).await,
        Word::Explain(args) => return inquire::explain(&args, global, printer).await,
    };
    perform(task, Manner::Own, global, printer).await
}

pub(crate) async fn perform(
    task: Task,
    manner: Manner,
    global: &Global,
    printer: &Printer,
) -> Result<Status> {
    let desk = Desk { manner, global, printer };
    let settled = match &task {
        Task::Merge(args) => desk.merge(args).await,
        Task::Fan(args) => desk.fan(args).await,
        Task::Json(args) => desk.json(args),
        Task::Diff(args) => desk.diff(args),
    };
    settled.or_else(|stop| stop.say(printer))
}

/// Why a command ends early.
enum Stop {
    /// The template, or what it reads.
    Template(Failure),
    /// An input that cannot be read, in spruce's words.
    Input(String),
    Printing(jetbridge_core::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Template(failure)
    }
}

impl From<jetbridge_core::Error> for Stop {
    fn from(error: jetbridge_core::Error) -> Self {
        Self::Printing(error)
    }
}

impl From<Missing> for Stop {
    fn from(Missing(text): Missing) -> Self {
        Self::Input(text)
    }
}

impl Stop {
    /// Says everything that is wrong.
    fn say(self, printer: &Printer) -> Result<Status> {
        match self {
            Self::Template(failure) => printer.error(&Refused::of(&failure)),
            Self::Input(text) => printer.error(&Refused::input(text)),
            Self::Printing(error) => return Err(error),
        }
        Ok(Status::Failed(ErrorKind::InvalidInput))
    }
}

/// What every command has.
struct Desk<'a> {
    manner: Manner,
    global: &'a Global,
    printer: &'a Printer,
}

impl Desk<'_> {
    async fn merge(&self, args: &Merge) -> Result<Status, Stop> {
        let environment = Environment::of_process();
        let options = self.options(&args.how, &args.layout, &environment);
        let inputs = Reader::default().files(&args.files)?;
        let sources = self.sources(&args.how, environment);
        let rendered = template::render(inputs, &options, &sources).await;
        self.close(&sources).await;
        let rendered = rendered?;
        self.warn(&rendered);
        self.printer.bytes(rendered.text.as_bytes())?;
        if self.manner == Manner::Linked {
            // They end what they print with an empty line.
            self.printer.bytes(b"\n")?;
        }
        Ok(Status::Done)
    }

    async fn fan(&self, args: &Fan) -> Result<Status, Stop> {
        let environment = Environment::of_process();
        let options = self.options(&args.how, &args.layout, &environment);
        let mut reader = Reader::default();
        let source = reader.file(&args.source)?;
        // With the documents of one file as source and targets, none needs to be named.
        let alone = args.targets.is_empty() && args.how.multi_doc;
        let targets = if alone { Vec::new() } else { reader.files(&args.targets)? };
        let sources = self.sources(&args.how, environment);
        let rendered = template::fan(source, targets, &options, &sources).await;
        self.close(&sources).await;
        for rendered in rendered? {
            self.warn(&rendered);
            self.printer.bytes(b"---\n")?;
            self.printer.bytes(rendered.text.as_bytes())?;
            if self.manner == Manner::Linked {
                self.printer.bytes(b"\n")?;
            }
        }
        Ok(Status::Done)
    }

    fn json(&self, args: &Json) -> Result<Status, Stop> {
        let convert = if args.strict { template::strict_json } else { template::json };
        let mut lines = String::new();
        for input in Reader::default().files(&args.files)? {
            lines.push_str(&convert(&input)?);
        }
        self.printer.bytes(lines.as_bytes())?;
        Ok(Status::Done)
    }

    fn diff(&self, args: &Diff) -> Result<Status, Stop> {
        let mut reader = Reader::default();
        let (from, to) = (reader.file(&args.from)?, reader.file(&args.to)?);
        let found = template::diff(from, to)?;
        self.printer.value(&view::Differences::of(&found))?;
        Ok(if found.is_empty() { Status::Done } else { Status::No })
    }

    fn options(&self, how: &How, layout: &Layout, environment: &Environment) -> Options {
        let mut options = options(how, environment);
        options.style = match (layout.style, self.manner) {
            (Some(Style::Graft), _) | (None, Manner::Linked) => template::Style::Graft,
            _ => template::Style::Lossless,
        };
        options
    }

    fn sources(&self, how: &How, environment: Environment) -> StoreSources {
        let mut request = request(self.global);
        if self.manner == Manner::Linked {
            request = request.otherwise(LINKED_STORE);
        }
        sources(request, how, self.global, environment)
    }

    async fn close(&self, sources: &StoreSources) {
        close(sources, self.printer).await;
    }

    fn warn(&self, rendered: &Rendered) {
        rendered.warnings.iter().for_each(|warning| self.printer.warn(warning));
    }
}

fn request(global: &Global) -> StoreRequest {
    StoreRequest::new().store(global.store.clone()).context(global.context.clone())
}

fn sources(
    request: StoreRequest,
    how: &How,
    global: &Global,
    environment: Environment,
) -> StoreSources {
    StoreSources::new(request, environment).secret(&how.secret).timeout(global.timeout)
}

/// Says what is to be said about the stores.
fn remark(sources: &StoreSources, printer: &Printer) {
    let remarks = sources.remarks();
    remarks.warnings.iter().for_each(|warning| printer.warn(warning));
    remarks.notices.iter().for_each(|notice| printer.note(notice));
}

/// As [`remark`], and closes them.
async fn close(sources: &StoreSources, printer: &Printer) {
    remark(sources, printer);
    let _nothing_was_written = sources.close(CLOSE_GRACE).await;
}

fn options(how: &How, environment: &Environment) -> Options {
    let mut options = Options::default();
    options.prune.clone_from(&how.prune);
    options.cherry_pick.clone_from(&how.cherry_pick);
    options.skip_eval = how.skip_eval;
    options.fallback_append = how.fallback_append;
    options.go_patch = how.go_patch;
    options.streams = if how.multi_doc { Streams::Merge } else { Streams::Refuse };
    // As spruce has it: set to anything but a no.
    let asked = environment.get("REDACT").is_some_and(|text| !matches!(text, "false" | "0"));
    options.redact = how.redact || asked;
    options.array_merge_key = environment.get("DEFAULT_ARRAY_MERGE_KEY").map(str::to_owned);
    options.env = environment
        .names()
        .filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned())))
        .collect();
    let base = environment
        .get("GRAFT_FILE_BASE_PATH")
        .or_else(|| environment.get("SPRUCE_FILE_BASE_PATH"));
    options.file_base = base.map(PathBuf::from);
    options
}
