//! `check`: what `up` would run, and everything that is wrong with its files.

use std::path::PathBuf;

use jetbridge::limit::LimiterSpec;
use jetbridge::nats::ConnectOptions;
use jetbridge::settings::{Environment, Location};
use jetbridge_agent::{ComponentSpec, Source, TemplateSpec, UpFile};
use jetbridge_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::{Check, Global};
use crate::format::span;
use crate::location::Place;
use crate::printer::{Printer, Text, View};
use crate::report::{Report, Status};

/// Reads the files and says what they name; connects to nothing.
pub(crate) fn run(args: &Check, global: &Global, printer: &Printer) -> Result<Status> {
    let Some(file) = read(&args.files, printer) else {
        return Ok(Status::Failed(ErrorKind::InvalidInput));
    };
    let place = Place::find_with(global, file.store.clone())?;
    if args.permissions {
        let options = match &place.location {
            Location::Nats(options) => (**options).clone(),
            _ => ConnectOptions::default(),
        };
        let permissions = file.permissions(&options)?.to_string();
        printer.value(&Block { permissions, not_covered: file.not_covered(&options)? })?;
        return Ok(Status::Done);
    }
    printer.value(&plan(&file, &place))?;
    Ok(Status::Done)
}

/// The files, or every problem on stderr.
pub(super) fn read(paths: &[PathBuf], printer: &Printer) -> Option<UpFile> {
    match UpFile::read(paths, &Environment::of_process()) {
        Ok(file) => Some(file),
        Err(problems) => {
            say(&problems, printer);
            None
        }
    }
}

/// Says every problem.
pub(super) fn say(problems: &[Error], printer: &Printer) {
    problems.iter().for_each(|problem| printer.error(&Report::of(problem)));
}

fn plan(file: &UpFile, place: &Place) -> Plan {
    let mut warnings = place.warnings.clone();
    let alone = !matches!(place.location, Location::Nats(_));
    let buckets = file.buckets.iter().map(|bucket| {
        let name = format!("{} ({})", bucket.name, bucket.kind);
        if alone && bucket.spec.replicas > 1 {
            let wish = bucket.spec.replicas;
            warnings.push(format!("bucket {name}: this store keeps 1 copy, not {wish}"));
        }
        Line {
            kind: "bucket",
            name,
            detail: "made if it is missing, else left as it is".to_owned(),
        }
    });
    let mut sections: Vec<Line> = buckets.collect();
    sections.extend(file.handlers.iter().map(|handler| Line {
        kind: "handler",
        name: handler.name.clone(),
        detail: handler_words(handler),
    }));
    sections.extend(file.limits.limiters.iter().map(|limiter| Line {
        kind: "limiter",
        name: limiter.id.clone(),
        detail: limiter_words(limiter),
    }));
    for databases in &file.databases {
        sections.extend(databases.list.iter().map(|database| Line {
            kind: "database",
            name: database.source.path().display().to_string(),
            detail: format!("replicated to {}", database.replica),
        }));
        warnings.extend(databases.warnings.iter().cloned());
    }
    warnings.extend(file.limits.notes.iter().cloned());
    sections.extend(file.templates.iter().map(|template| Line {
        kind: "template",
        name: template.name.clone(),
        detail: template_words(template, &mut warnings),
    }));
    sections.extend(file.components.iter().map(|component| Line {
        kind: "component",
        name: component.name.clone(),
        detail: component_words(component, &place.location, &mut warnings),
    }));
    Plan {
        store: place.location.to_string(),
        origin: place.origin.clone(),
        http: file.http.as_ref().map(|http| http.listen.to_string()),
        sections,
        warnings,
    }
}

fn limiter_words(limiter: &LimiterSpec) -> String {
    let policy = &limiter.policy;
    let mut words = match (policy.window(), policy.slots()) {
        (Some(window), _) => {
            format!("{} in {} ({})", policy.limit(), span(window), policy.kind())
        }
        (None, _) => format!("{} at once", policy.limit()),
    };
    if let (Some(_), Some(slots)) = (policy.window(), policy.slots()) {
        words.push_str(&format!(", {slots} at once"));
    }
    match &limiter.store {
        Some(store) => format!("{words}, in {store}"),
        None => format!("{words}, in the file's store"),
    }
}

fn handler_words(handler: &jetbridge_agent::HandlerSpec) -> String {
    let from = match &handler.source {
        Source::Stream { stream, durable } => format!("stream {stream} as {durable}"),
        Source::Subject { queue: Some(queue) } => format!("plain messages, in group {queue}"),
        _ => "plain messages".to_owned(),
    };
    let (subject, to) = (&handler.subject, &handler.target);
    format!("{subject} from {from}, {} at once, to: {to}", handler.concurrency)
}

/// What it is made of and what it reads; a template that is wrong is a warning, because `up`
/// waits for a better one.
fn template_words(template: &TemplateSpec, warnings: &mut Vec<String>) -> String {
    let paths: Vec<String> =
        template.render.from.iter().map(|path| path.display().to_string()).collect();
    let mut buckets: Vec<String> = Vec::new();
    match template.reads() {
        Ok(reads) => buckets.extend(reads.iter().map(|read| match &read.value {
            Some(value) => format!("{} of {}", value.bucket, value.server),
            None => format!("what {} names", read.path),
        })),
        Err(error) => warnings.push(error.message().unwrap_or_default().trim_end().to_owned()),
    }
    buckets.sort();
    buckets.dedup();
    let reads = if buckets.is_empty() { "no store".to_owned() } else { buckets.join(", ") };
    format!("{} from {}, reads {reads}", template.render.to.display(), paths.join(", "))
}

/// Who calls it and what it is linked to; a link that is wrong is a warning, because `up` says so
/// too and goes on.
fn component_words(
    component: &ComponentSpec,
    store: &Location,
    warnings: &mut Vec<String>,
) -> String {
    let mut words = vec![component.wasm.display().to_string()];
    words.extend(component.route.iter().map(|route| format!("answers {route}")));
    words.extend(component.watch.iter().map(|store| format!("watches \"{store}\"")));
    match component.plan(store) {
        Ok(plans) => words.extend(plans.into_iter().map(|plan| {
            warnings.extend(plan.warnings.iter().cloned());
            let place = match plan.is_default() {
                true => String::new(),
                false => format!(" of {}", plan.location),
            };
            format!("\"{}\" is bucket {}{place}", plan.name, plan.bucket)
        })),
        Err(error) => warnings.push(error.to_string()),
    }
    words.join(", ")
}

/// What would run.
#[derive(Serialize)]
struct Plan {
    store: String,
    /// Who named the store.
    origin: String,
    /// Where HTTP would listen.
    http: Option<String>,
    sections: Vec<Line>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    name: String,
    detail: String,
}

impl View for Plan {
    fn text(&self, out: &mut Text) {
        out.field("store", format_args!("{} ({})", self.store, self.origin));
        match &self.http {
            Some(listen) => out.field("http", listen),
            None => out.field("http", "nothing listens"),
        }
        for section in &self.sections {
            out.field(section.kind, format_args!("{}: {}", section.name, section.detail));
        }
        for warning in &self.warnings {
            out.field("warning", warning);
        }
    }
}

/// A block of nats-server's configuration.
#[derive(Serialize)]
struct Block {
    permissions: String,
    not_covered: Vec<String>,
}

impl View for Block {
    fn text(&self, out: &mut Text) {
        out.line(&self.permissions);
        for line in &self.not_covered {
            out.line(format_args!("# not covered: {line}"));
        }
    }
}
