//! `template render`: a file that is kept what its templates say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetbridge::StoreSources;
use jetbridge::settings::Environment;
use jetbridge::template::{
    self, Event, Reload, RenderFailure, RenderSpec, Renderer, Rendering, Stage,
};
use jetbridge_core::{Error, ErrorKind, Result};

use super::view::Refused;
use super::{CLOSE_GRACE, close, options, remark, request, sources};
use crate::args::Global;
use crate::args::template::{Absence, Render, Style};
use crate::interrupt::{Ended, Interrupt, Stop};
use crate::printer::Printer;
use crate::report::{Report, Status};

/// Where stdin can be read like a file.
const STDIN: &str = "/dev/stdin";

pub(super) async fn run(args: &Render, global: &Global, printer: &Printer) -> Result<Status> {
    let environment = Environment::of_process();
    let spec = spec(args, &environment)?;
    let mut sources = sources(request(global), &args.how, global, environment);
    if args.watch {
        sources = sources.in_background();
    }
    let sources = Arc::new(sources);
    let reads: Arc<dyn template::Sources> = Arc::clone(&sources) as _;
    let desk = Desk { args, printer, sources: &sources };
    let mut renderer = Renderer::new(spec, reads);
    let interrupt = Interrupt::new();
    let work = async {
        if args.watch {
            return desk.watch(&mut renderer, interrupt.claim()).await;
        }
        if args.diff {
            return desk.diff(&mut renderer).await;
        }
        Ok(desk.once(renderer.render().await))
    };
    let ended = interrupt.guard(Box::pin(work)).await;
    close(&sources, printer).await;
    match ended? {
        Ended::Itself(status) => Ok(status),
        Ended::Short(signal) => Ok(Status::Interrupted(signal)),
    }
}

fn spec(args: &Render, environment: &Environment) -> Result<RenderSpec> {
    let is_stdin = |path: &Path| path == Path::new("-");
    if args.watch && args.files.iter().any(|path| is_stdin(path)) {
        return Err(Error::new(ErrorKind::InvalidInput, "template.render")
            .because("stdin cannot be read again when something changes")
            .hint("put the template in a file"));
    }
    let real = |path: &PathBuf| if is_stdin(path) { PathBuf::from(STDIN) } else { path.clone() };
    let mut spec = RenderSpec::new(args.files.iter().map(real).collect(), &args.output);
    spec.options = options(&args.how, environment);
    spec.options.missing = match args.missing {
        Absence::Error => template::Missing::Error,
        Absence::Null => template::Missing::Null,
        Absence::Keep => template::Missing::Keep,
    };
    if let Some(Style::Graft) = args.layout.style {
        spec.options.style = template::Style::Graft;
    }
    spec.mode = args.mode;
    spec.backups = args.backup;
    spec.check = args.check.as_deref().map(shell);
    spec.reload = args.reload.as_deref().map(shell).map(Reload::Command);
    spec.command_timeout = args.command_timeout;
    spec.wait = args.wait;
    Ok(spec)
}

/// A line of the shell with the file's name in it: as an argument, so that no name is a command.
fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", &line.replace("{}", "\"$0\""), "{}"].map(str::to_owned).to_vec()
}

struct Desk<'a> {
    args: &'a Render,
    printer: &'a Printer,
    sources: &'a StoreSources,
}

impl Desk<'_> {
    fn once(&self, rendering: Rendering) -> Status {
        rendering.warnings.iter().for_each(|warning| self.printer.warn(warning));
        let Some(failure) = rendering.failure else { return Status::Done };
        if self.args.last_known_good && failure.is_outage() && self.args.output.exists() {
            let output = self.args.output.display();
            self.printer.warn(format_args!("{output} is left as it is: {failure}"));
            return Status::Done;
        }
        self.refuse(&failure)
    }

    async fn diff(&self, renderer: &mut Renderer) -> Result<Status> {
        match renderer.preview().await {
            Ok(preview) => {
                self.printer.bytes(preview.diff.as_bytes())?;
                Ok(if preview.differs { Status::No } else { Status::Done })
            }
            Err(failure) => Ok(self.refuse(&failure)),
        }
    }

    async fn watch(&self, renderer: &mut Renderer, mut stop: Stop) -> Result<Status> {
        let end = async {
            stop.raised().await;
        };
        renderer.follow(end, |event| self.say(event)).await;
        renderer.stop(CLOSE_GRACE).await;
        Ok(Status::Done)
    }

    fn say(&self, event: Event) {
        remark(self.sources, self.printer);
        let output = self.args.output.display();
        match event {
            Event::Rendered(rendering) => {
                rendering.warnings.iter().for_each(|warning| self.printer.warn(warning));
                if rendering.written {
                    self.printer.note(format_args!("{output}: written"));
                }
                if rendering.reloaded {
                    self.printer.note(format_args!("{output}: reloaded"));
                }
                if let Some(failure) = &rendering.failure {
                    let left = if rendering.written { "" } else { " is left as it is" };
                    self.printer.warn(format_args!("{output}{left}: {failure}"));
                }
            }
            Event::Deaf(Some(why)) => {
                self.printer.warn(format_args!("changes are not heard of: {why}"));
            }
            Event::Deaf(None) => self.printer.note("changes are heard of again"),
            _ => {}
        }
    }

    /// Says why there is no new file, or nobody was told of it.
    fn refuse(&self, failure: &RenderFailure) -> Status {
        match failure {
            RenderFailure::Template { failure: why, .. } => {
                self.printer.error(&Refused::of(why));
                let outage = failure.is_outage();
                let kind = if outage { ErrorKind::Unavailable } else { ErrorKind::InvalidInput };
                Status::Failed(kind)
            }
            RenderFailure::Step { stage, error, .. } => {
                self.printer.error(&Report::of(error));
                match stage {
                    Stage::Check => {
                        let output = self.args.output.display();
                        self.printer.note(format_args!("{output} is left as it is"));
                        Status::No
                    }
                    _ => Status::Failed(error.kind()),
                }
            }
            other => {
                self.printer.error(&Refused::input(other.to_string()));
                Status::Failed(ErrorKind::Internal)
            }
        }
    }
}
