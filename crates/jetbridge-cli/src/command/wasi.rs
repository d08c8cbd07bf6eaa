//! `wasi`: runs components, which find the store behind the identifiers that they open.

mod inspect;
mod run;
mod serve;

use std::time::Duration;

use jetbridge::Links;
use jetbridge::settings::{self, Environment, Expansion, Node};
use jetbridge::wasi::host::{Host, HostOpts, Limits, Program, Purpose};
use jetbridge_core::{Error, ErrorKind, Result, StopReport};

use crate::args::wasi::{Guest, Limits as Wanted, Property, Wasi, Word};
use crate::args::{Global, parse};
use crate::input::file_error;
use crate::location::Place;
use crate::printer::Printer;
use crate::report::Status;

/// How long closing may take: enough for a slow link to take the last bytes.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Wasi, global: &Global, printer: &Printer) -> Result<Status> {
    match args.word {
        Word::Run(args) => run::run(&args, global, printer).await,
        Word::Serve(args) => serve::run(&args, global, printer).await,
        Word::Inspect(args) => inspect::run(&args, global, printer).await,
    }
}

/// An engine with a component on it.
struct Loaded {
    host: Host,
    program: Program,
}

/// Compiles the component, or finds it compiled.
async fn load(guest: &Guest, mut opts: HostOpts) -> Result<Loaded> {
    let path = &guest.component;
    let wasm = tokio::fs::read(path).await.map_err(|error| file_error("wasi.load", path, error))?;
    opts.cache = Environment::of_process().cache_directory();
    let name = path.display().to_string();
    // Compiling may take minutes, and a signal ends the wait for it.
    let loaded = tokio::task::spawn_blocking(move || {
        let host = Host::new(opts)?;
        let program = host.load(&name, &wasm).map_err(|error| explain(error, &wasm))?;
        Ok(Loaded { host, program })
    });
    loaded.await.map_err(|error| Error::new(ErrorKind::Internal, "wasi.load").caused_by(error))?
}

/// What helps with a file that cannot be loaded.
fn explain(error: Error, wasm: &[u8]) -> Error {
    /// What a core module begins with; a component has another version there.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if error.kind() == ErrorKind::InvalidInput && wasm.starts_with(MODULE) {
        return error.hint(
            "this is a core module: make a component of it, as with \
                           `wasm-tools component new`",
        );
    }
    error
}

/// A host with these limits.
fn within(limits: Limits) -> HostOpts {
    let mut opts = HostOpts::default();
    opts.limits = limits;
    opts
}

/// The limits as the user wrote them.
fn limits(wanted: &Wanted, time_default: Option<Duration>) -> Limits {
    let bytes = |limit: parse::Limit<u64>| {
        limit.0.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    };
    let mut limits = Limits::default();
    limits.memory_bytes = bytes(wanted.max_memory);
    limits.result_bytes = bytes(wanted.max_result);
    limits.time = wanted.max_time.map_or(time_default, |limit| limit.0);
    limits
}

/// The links as the user wrote them; without any, the bucket `default` of the store.
async fn link(guest: &Guest, global: &Global, printer: &Printer) -> Result<Links> {
    let place = Place::find(global)?;
    let links = links(guest, &place)?;
    let linked = connect(&links, guest).await;
    if links.uses_default().await {
        place.announce(printer);
    }
    match linked {
        Ok(()) => Ok(links),
        Err(error) => {
            links.close(CLOSE_GRACE).await;
            Err(error)
        }
    }
}

/// No links yet, on the store at `place`, with what holds for all of them.
fn links(guest: &Guest, place: &Place) -> Result<Links> {
    let provider = expanded("--provider", &guest.provider)?;
    Ok(Links::new(Environment::of_process()).at(place.location.clone()).provider(&provider))
}

async fn connect(links: &Links, guest: &Guest) -> Result<()> {
    for (name, properties) in planned(guest)? {
        links.add(&name, &properties).await?;
    }
    Ok(())
}

/// A link's name and its properties.
type Planned = (String, Vec<(String, String)>);

/// Each link with its properties, in the order in which they are first named.
fn planned(guest: &Guest) -> Result<Vec<Planned>> {
    if guest.links.is_empty() {
        let (name, properties) = Links::default_link();
        return Ok(vec![(name.to_owned(), properties.to_vec())]);
    }
    let mut planned: Vec<Planned> = Vec::new();
    for Property { link, property } in &guest.links {
        let at = planned.iter().position(|(name, _)| name == link).unwrap_or_else(|| {
            planned.push((link.clone(), Vec::new()));
            planned.len() - 1
        });
        planned[at].1.extend(expanded("--link", property.as_slice())?);
    }
    Ok(planned)
}

/// Properties with `${VAR}` replaced: what logs in need not stand in a command line, where others
/// can read it.
fn expanded(option: &str, properties: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let environment = Environment::of_process();
    let expand = |(name, text): &(String, String)| {
        let mut value = Node::scalar(text, settings::Place::argument(option));
        value.expand(&environment, Expansion::Braces)?;
        Ok((name.clone(), value.text().unwrap_or_default().to_owned()))
    };
    properties.iter().map(expand).collect()
}

/// Refuses a component that is for something else, and says what it is for.
fn demand(program: &Program, wanted: Purpose) -> Result<()> {
    let purposes = program.purposes();
    if purposes.contains(&wanted) {
        return Ok(());
    }
    let export = match wanted {
        Purpose::Command => "wasi:cli/run",
        _ => "wasi:http/incoming-handler",
    };
    let hint = match purposes.first() {
        Some(Purpose::Command) => "it is a command: `jetbridge wasi run`",
        Some(Purpose::Http) => "it answers HTTP: `jetbridge wasi serve`",
        Some(_) => "it watches a store: `watch:` of `components:` in a file of `jetbridge up`",
        None => "`jetbridge wasi inspect` says what it imports",
    };
    Err(Error::new(ErrorKind::InvalidInput, "wasi.load")
        .because(format!("the component does not export {export}"))
        .with("component", program.name())
        .hint(hint))
}

/// Says which option sets a limit that was exceeded.
fn with_option(error: Error) -> Error {
    match error.fact("limit") {
        Some("memory") => error.hint("`--max-memory SIZE` sets the limit"),
        Some("time") => error.hint("`--max-time DURATION` sets the limit"),
        _ => error,
    }
}

/// Says if something of the stores was left.
fn say_left(reports: &[StopReport], printer: &Printer) {
    let left: u64 = reports.iter().map(|report| report.writes_unacknowledged as u64).sum();
    if left > 0 {
        printer.warn(format_args!("{left} writes were not acknowledged"));
    }
}
