//! Where the store is: the options of the command line, then what `jetbridge::settings` knows.

use jetbridge::settings::{Environment, Location, StoreRequest, resolve};
use jetbridge_core::Result;

use crate::args::Global;
use crate::printer::Printer;

/// A store's place and who named it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) location: Location,
    /// The flag, variable or file, in words.
    pub(crate) origin: String,
    /// What probably is not meant.
    pub(crate) warnings: Vec<String>,
    notices: Vec<String>,
}

impl Place {
    /// Finds the store.
    pub(crate) fn find(global: &Global) -> Result<Self> {
        Self::find_with(global, StoreRequest::new())
    }

    /// Finds the store, where a file may say it.
    pub(crate) fn find_with(global: &Global, request: StoreRequest) -> Result<Self> {
        let request = request.store(global.store.clone()).context(global.context.clone());
        let resolved = resolve(&request, &Environment::of_process())?;
        let mut location = resolved.location;
        if let Location::Nats(options) = &mut location {
            if let Some(timeout) = global.timeout {
                options.connect_timeout = timeout;
                options.request_timeout = timeout;
            }
            options.name.get_or_insert_with(|| "jetbridge".to_owned());
        }
        let origin = resolved.origin.to_string();
        Ok(Self { location, origin, warnings: resolved.warnings, notices: resolved.notices })
    }

    /// The same place, to be connected to in the background: for a process that outlives outages.
    pub(crate) fn in_background(mut self) -> Self {
        if let Location::Nats(options) = &mut self.location {
            options.connect_in_background = true;
        }
        self
    }

    /// Says what the user should know, warnings included.
    pub(crate) fn announce(&self, printer: &Printer) {
        self.warnings.iter().for_each(|warning| printer.warn(warning));
        self.notices.iter().for_each(|notice| printer.note(notice));
    }
}
