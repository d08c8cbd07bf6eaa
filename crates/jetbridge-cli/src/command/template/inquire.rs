//! `template refs` and `template explain`: what a template reads, and where a value comes from.

use std::collections::BTreeMap;

use jetbridge::StoreSources;
use jetbridge::nats::{ConnectOptions, Permissions};
use jetbridge::settings::{Environment, Location};
use jetbridge::template::{self, Server, StoreRef};
use jetbridge_core::{BucketName, Result};

use super::inputs::Reader;
use super::view::{Explained, Grants, Line};
use super::{Stop, close, options, request, sources};
use crate::args::Global;
use crate::args::template::{Explain, Refs};
use crate::printer::Printer;
use crate::report::Status;

pub(super) fn refs(args: &Refs, global: &Global, printer: &Printer) -> Result<Status> {
    list(args, global, printer).or_else(|stop| stop.say(printer))
}

fn list(args: &Refs, global: &Global, printer: &Printer) -> Result<Status, Stop> {
    let environment = Environment::of_process();
    let options = options(&args.how, &environment);
    let inputs = Reader::default().files(&args.files)?;
    let found = template::refs(inputs, &options)?;
    if !args.permissions {
        printer.table(&found.iter().map(Line::of).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let sources = sources(request(global), &args.how, global, environment);
    printer.value(&Grants { blocks: grants(&found, &sources)?, unknown: unknown(&found) })?;
    Ok(Status::Done)
}

/// The permissions for each server that is one of NATS.
fn grants(found: &[StoreRef], sources: &StoreSources) -> Result<Vec<(String, String)>> {
    let mut blocks: BTreeMap<&Server, Permissions> = BTreeMap::new();
    for value in found.iter().filter_map(|found| found.value.as_ref()) {
        if !blocks.contains_key(&value.server) {
            let options = match sources.locate(&value.server) {
                Ok(Location::Nats(options)) => *options,
                Ok(_) => continue,
                // What its variables do not say yet does not change what is read.
                Err(_) => ConnectOptions::default(),
            };
            blocks.insert(&value.server, Permissions::new(&options));
        }
        if let Some(permissions) = blocks.get_mut(&value.server) {
            permissions.read_bucket(value.kind, &BucketName::parse(&value.bucket)?);
        }
    }
    Ok(blocks.iter().map(|(server, block)| (server.to_string(), block.to_string())).collect())
}

/// The paths whose reads are known only when they happen.
fn unknown(found: &[StoreRef]) -> Vec<String> {
    found.iter().filter(|found| found.value.is_none()).map(|found| found.path.clone()).collect()
}

pub(super) async fn explain(args: &Explain, global: &Global, printer: &Printer) -> Result<Status> {
    describe(args, global, printer).await.or_else(|stop| stop.say(printer))
}

async fn describe(args: &Explain, global: &Global, printer: &Printer) -> Result<Status, Stop> {
    let environment = Environment::of_process();
    let options = options(&args.how, &environment);
    let inputs = Reader::default().files(&args.files)?;
    let sources = sources(request(global), &args.how, global, environment);
    let explained = template::explain(inputs, &args.path, &options, &sources).await;
    close(&sources, printer).await;
    printer.value(&Explained::of(&explained?))?;
    Ok(Status::Done)
}
