//! Templates: files that are kept what their templates and stores say.
//!
//! Rendering is the template crate's business; here it becomes a section with a state, figures
//! and an end.

mod metrics;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jetbridge::StoreSources;
use jetbridge::template::{
    Event, Input, RenderSpec, Renderer, Rendering, Server, Sources, StoreRef, refs,
};
use jetbridge_core::{Backend, Clock as _, Error, ErrorKind, Result, SystemClock};

pub(crate) use self::metrics::{Came, TemplateMetrics};

use crate::board::{Reporter, State};
use crate::supervise::{Context, Drained, Section};

/// How long the watches of one template may take to end.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Bytes that are kept of what a writing changed.
const DIFF_BYTES_MAX: usize = 16 << 10;

/// One entry of `templates:`, parsed. What it means is in `docs/guide/templates.md`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TemplateSpec {
    /// What status, metrics and logs call it.
    pub name: String,
    /// From where to where, and what happens around it.
    pub render: RenderSpec,
    /// Buckets whose values are never shown.
    pub secret: BTreeSet<String>,
}

impl TemplateSpec {
    /// What it can read of stores, without reading it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if a file cannot be read, or is no template.
    pub fn reads(&self) -> Result<Vec<StoreRef>> {
        let bad = |message: String| {
            let message = format!("template {}: {message}", self.name);
            Error::new(ErrorKind::InvalidInput, "template.read").because(message)
        };
        let input = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|error| {
                bad(format!("{} cannot be read", path.display())).caused_by(error)
            })?;
            Ok(Input::new(path.display().to_string(), bytes))
        };
        let inputs = self.render.from.iter().map(input).collect::<Result<Vec<_>>>()?;
        refs(inputs, &self.render.options).map_err(|failure| bad(failure.to_string()))
    }
}

/// A template and the stores that it reads.
pub(crate) struct TemplateSection {
    pub(crate) spec: TemplateSpec,
    pub(crate) sources: Arc<StoreSources>,
}

impl Section for TemplateSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let sources =
                Marked { sources: Arc::clone(&self.sources), secret: self.spec.secret.clone() };
            let mut renderer = Renderer::new(self.spec.render.clone(), Arc::new(sources));
            let mut teller = Teller {
                name: self.spec.name.clone(),
                reporter: context.reporter,
                metrics: context.metrics.templates,
                failure: None,
                deaf: None,
            };
            let stop = context.stop;
            let end = async {
                stop.begins().await;
            };
            renderer.follow(end, |event| teller.hear(event)).await;
            let left = renderer.stop(STOP_GRACE).await;
            Drained { abandoned: u64::try_from(left).unwrap_or(u64::MAX), ..Drained::default() }
        })
    }
}

/// Sources that all templates share, with what one of them keeps secret.
struct Marked {
    sources: Arc<StoreSources>,
    secret: BTreeSet<String>,
}

#[async_trait]
impl Sources for Marked {
    async fn open(&self, server: &Server) -> Result<Arc<dyn Backend>> {
        self.sources.open(server).await
    }

    fn is_secret(&self, bucket: &str) -> bool {
        self.secret.contains(bucket)
    }

    fn has_secrets(&self) -> bool {
        !self.secret.is_empty()
    }
}

/// As much of a difference as is kept: it is for people.
fn kept(diff: &str) -> String {
    if diff.len() <= DIFF_BYTES_MAX {
        return diff.to_owned();
    }
    let cut = &diff[..diff.floor_char_boundary(DIFF_BYTES_MAX)];
    format!("{cut}\n… and more")
}

/// Tells status, metrics and the log what happens to one file.
struct Teller {
    name: String,
    reporter: Reporter,
    metrics: TemplateMetrics,
    /// Why the file is not what it should be.
    failure: Option<String>,
    /// Why it may not be.
    deaf: Option<String>,
}

impl Teller {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Rendered(rendering) => self.rendered(&rendering),
            Event::Deaf(why) => {
                self.deaf = why.map(|why| format!("changes are not heard of: {why}"));
            }
            _ => {}
        }
        match self.failure.as_ref().or(self.deaf.as_ref()) {
            Some(reason) => self.reporter.degraded(reason),
            None => self.reporter.set(State::Running),
        }
    }

    fn rendered(&mut self, rendering: &Rendering) {
        let (template, now) = (&self.name, SystemClock.now());
        if rendering.written {
            self.metrics.came(template, Came::Written, now);
            self.metrics.changed(template, kept(&rendering.diff));
            tracing::info!(template, "written");
        }
        if rendering.reloaded {
            self.metrics.reloaded(template);
            tracing::info!(template, "reloaded");
        }
        if !rendering.written && rendering.failure.is_none() {
            self.metrics.came(template, Came::Same, now);
        }
        if rendering.failure.is_some() {
            self.metrics.came(template, Came::Failed, now);
        }
        self.failure = rendering.failure.as_ref().map(|failure| {
            let left = if rendering.written { "" } else { "; the file stays as it was" };
            format!("{failure}{left}")
        });
        self.reporter.notes(rendering.warnings.iter().map(ToString::to_string).collect());
    }
}
