//! `wasi inspect`: what a component speaks, what it is for, what it finds, and what that needs.
//! Nothing is run and nothing is connected to.

use jetbridge::nats::Permissions;
use jetbridge::settings::Location;
use jetbridge::wasi::host::{HostOpts, Purpose};
use jetbridge_core::Result;
use serde::Serialize;

use super::{CLOSE_GRACE, Loaded, links, load, planned};
use crate::args::Global;
use crate::args::wasi::Guest;
use crate::location::Place;
use crate::printer::{Printer, Text, View};
use crate::report::Status;

pub(super) async fn run(guest: &Guest, global: &Global, printer: &Printer) -> Result<Status> {
    let Loaded { host, program } = load(guest, HostOpts::default()).await?;
    let place = Place::find(global)?;
    let links = links(guest, &place)?;
    let mut stores = Vec::new();
    let mut permissions = Vec::new();
    for (name, properties) in planned(guest)? {
        let plan = links.plan(&name, &properties)?;
        stores.push(Store {
            identifier: plan.name.clone(),
            bucket: plan.bucket.to_string(),
            store: plan.location.to_string(),
            created: plan.creates,
        });
        if let Location::Nats(options) = &plan.location {
            let mut needed = Permissions::new(options);
            plan.permit(&mut needed)?;
            permissions.push(Needed { store: plan.name, permissions: needed.to_string() });
        }
    }
    let purposes = program.purposes();
    printer.value(&Inspected {
        component: program.name().to_owned(),
        dialects: program.dialects().iter().map(|dialect| dialect.to_string()).collect(),
        purposes: purposes.iter().map(purpose).collect(),
        imports: program.imports(),
        stores: if program.dialects().is_empty() { Vec::new() } else { stores },
        permissions,
    })?;
    host.close(CLOSE_GRACE).await;
    Ok(Status::Done)
}

fn purpose(purpose: &Purpose) -> String {
    match purpose {
        Purpose::Command => "command: `jetbridge wasi run`".to_owned(),
        Purpose::Http => "http: `jetbridge wasi serve`, or `route:` of `components:`".to_owned(),
        Purpose::Watcher(dialect) => format!("watcher of {dialect}: `watch:` of `components:`"),
        _ => "something that this command does not know".to_owned(),
    }
}

/// What there is to say about a component.
#[derive(Serialize)]
struct Inspected {
    component: String,
    dialects: Vec<String>,
    purposes: Vec<String>,
    imports: Vec<String>,
    /// What it finds behind the identifiers that it opens.
    stores: Vec<Store>,
    permissions: Vec<Needed>,
}

#[derive(Serialize)]
struct Store {
    identifier: String,
    bucket: String,
    store: String,
    /// Made if it is missing.
    created: bool,
}

/// The permissions of one store's login.
#[derive(Serialize)]
struct Needed {
    store: String,
    permissions: String,
}

impl View for Inspected {
    fn text(&self, out: &mut Text) {
        out.field("component", &self.component);
        if self.dialects.is_empty() {
            out.field("dialect", "none: it does not use wasi:keyvalue");
        }
        self.dialects.iter().for_each(|it| out.field("dialect", it));
        if self.purposes.is_empty() {
            out.field("for", "nothing that can be run here");
        }
        self.purposes.iter().for_each(|it| out.field("for", it));
        self.imports.iter().for_each(|it| out.field("import", it));
        for store in &self.stores {
            let Store { identifier, bucket, store, created } = store;
            let made = if *created { ", made if it is missing" } else { ", which must be there" };
            let also = if identifier == "default" { " and \"\"" } else { "" };
            out.field(
                "store",
                format_args!("\"{identifier}\"{also}: bucket {bucket} of {store}{made}"),
            );
        }
        if !self.stores.is_empty() {
            out.field("store", "any other identifier: no-such-store");
        }
        for Needed { store, permissions } in &self.permissions {
            out.line(format_args!("\n# what the login of store \"{store}\" needs"));
            out.line(permissions);
        }
    }
}
