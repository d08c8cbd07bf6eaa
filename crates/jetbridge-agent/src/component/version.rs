//! A component as its file was at one time: an engine with the program on it, and the requests
//! that it answers.

use jetbridge::wasi::KeyvalueCtx;
use jetbridge::wasi::host::{Handler, Host, HostOpts, Program, Purpose};
use jetbridge_core::{Error, ErrorKind, Result, Tasks};
use tokio::time::Instant;

use super::{CLOSE_GRACE, ComponentSpec};

/// A component that is loaded, and can do what the file wants of it.
pub(super) struct Version {
    host: Host,
    program: Program,
    /// The requests that it answers.
    requests: Tasks,
}

impl Version {
    /// Reads, compiles and checks.
    pub(super) async fn load(spec: &ComponentSpec) -> Result<Self> {
        let wasm = tokio::fs::read(&spec.wasm).await.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "component.load")
                .because(format!("{} cannot be read", spec.wasm.display()))
                .caused_by(error)
        })?;
        let mut opts = HostOpts::default();
        (opts.limits, opts.cache) = (spec.limits, spec.environment.cache_directory());
        opts.reuse = spec.route.is_some();
        let host = Host::new(opts)?;
        let name = spec.name.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let program = host.load(&name, &wasm)?;
            Ok((host, program))
        });
        let (host, program) = compiled.await.map_err(|error| {
            Error::new(ErrorKind::Internal, "component.load").caused_by(error)
        })??;
        check(spec, &program)?;
        Ok(Self { host, program, requests: Tasks::new() })
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// What answers requests by it.
    pub(super) fn handler(&self, ctx: KeyvalueCtx) -> Result<Handler> {
        Handler::new(self.program.clone(), ctx, &self.requests)
    }

    /// Lets requests end by themselves until the deadline, and ends the rest: how many.
    pub(super) async fn end(self, deadline: Instant) -> u64 {
        let grace = deadline.saturating_duration_since(Instant::now());
        let left = self.requests.stop(grace).await;
        self.host.close(CLOSE_GRACE).await;
        u64::try_from(left).unwrap_or(u64::MAX)
    }
}

/// Refuses a component that cannot do what the file wants of it.
fn check(spec: &ComponentSpec, program: &Program) -> Result<()> {
    let purposes = program.purposes();
    let watches = purposes.iter().any(|it| matches!(it, Purpose::Watcher(_)));
    let lacks = match spec {
        spec if spec.route.is_some() && !purposes.contains(&Purpose::Http) => {
            "`route` needs a component that exports wasi:http/incoming-handler"
        }
        spec if !spec.watch.is_empty() && !watches => {
            "`watch` needs a component that exports wasi:keyvalue/watcher"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, "component.load")
        .because(lacks)
        .with("component", program.name())
        .hint("`jetbridge wasi inspect` says what a component is for"))
}
