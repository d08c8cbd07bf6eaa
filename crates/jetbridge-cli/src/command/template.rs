//! `template`: what templates give, printed as spruce prints it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge::StoreSources;
use jetbridge::settings::{Environment, StoreRequest};
use jetbridge::template::{self, Failure, Input, Options, Streams};
use jetbridge_core::{ErrorKind, Result};
use serde::Serialize;

use crate::args::Global;
use crate::args::template::{Json, Merge, Style, Template, Word};
use crate::input::file_error;
use crate::printer::{Printer, Text, View};
use crate::report::Status;

/// How long closing may take: nothing was written.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: &Template, global: &Global, printer: &Printer) -> Result<Status> {
    match &args.word {
        Word::Merge(args) => merge(args, global, printer).await,
        Word::Json(args) => json(args, printer),
    }
}

async fn merge(args: &Merge, global: &Global, printer: &Printer) -> Result<Status> {
    let environment = Environment::of_process();
    let options = options(args, &environment);
    let inputs = inputs(&args.files)?;
    let request = StoreRequest::new().store(global.store.clone()).context(global.context.clone());
    let sources = StoreSources::new(request, environment).timeout(global.timeout);
    let rendered = template::render(inputs, &options, &sources).await;
    let remarks = sources.remarks();
    remarks.warnings.iter().for_each(|warning| printer.warn(warning));
    remarks.notices.iter().for_each(|notice| printer.note(notice));
    let _nothing_was_written = sources.close(CLOSE_GRACE).await;
    match rendered {
        Ok(rendered) => {
            rendered.warnings.iter().for_each(|warning| printer.warn(warning));
            printer.bytes(rendered.text.as_bytes())?;
            Ok(Status::Done)
        }
        Err(failure) => Ok(refused(&failure, printer)),
    }
}

fn options(args: &Merge, environment: &Environment) -> Options {
    let mut options = Options::default();
    options.prune.clone_from(&args.prune);
    options.cherry_pick.clone_from(&args.cherry_pick);
    options.skip_eval = args.skip_eval;
    options.fallback_append = args.fallback_append;
    options.go_patch = args.go_patch;
    options.streams = if args.multi_doc { Streams::Merge } else { Streams::Refuse };
    options.style = match args.style {
        Style::Lossless => template::Style::default(),
        Style::Graft => template::Style::Graft,
    };
    // As spruce has it: set to anything but a no.
    let asked = environment.get("REDACT").is_some_and(|text| !matches!(text, "false" | "0"));
    options.redact = args.redact || asked;
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

fn json(args: &Json, printer: &Printer) -> Result<Status> {
    let mut lines = String::new();
    for input in inputs(&args.files)? {
        match template::json(input) {
            Ok(text) => lines.push_str(&text),
            Err(failure) => return Ok(refused(&failure, printer)),
        }
    }
    printer.bytes(lines.as_bytes())?;
    Ok(Status::Done)
}

fn inputs(files: &[PathBuf]) -> Result<Vec<Input>> {
    files.iter().map(|path| input(path)).collect()
}

fn input(path: &Path) -> Result<Input> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_size| ())
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    read.map_err(|error| file_error("file.read", path, error))?;
    Ok(Input::new(path.display().to_string(), bytes))
}

/// Says everything that is wrong with a template.
fn refused(failure: &Failure, printer: &Printer) -> Status {
    let errors = failure.diagnostics().iter().map(ToString::to_string).collect();
    let snippets = failure.diagnostics().iter().map(template::Diagnostic::snippet).collect();
    printer.error(&Refused { errors, text: failure.to_string(), snippets });
    Status::Failed(ErrorKind::InvalidInput)
}

#[derive(Serialize)]
struct Refused {
    errors: Vec<String>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    snippets: Vec<String>,
}

impl View for Refused {
    fn text(&self, out: &mut Text) {
        out.line(self.text.trim_end());
        let snippets = self.snippets.iter().filter(|snippet| !snippet.is_empty());
        for snippet in snippets {
            out.line("");
            out.bytes(snippet.as_bytes());
        }
    }
}
