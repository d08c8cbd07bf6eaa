//! One entry of `buckets:`: made if it is missing, never changed, its differences reported.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jetbridge_core::{Backend, Backoff, BucketKind, BucketName, BucketSpec, ErrorKind, Result};

use crate::board::State;
use crate::http::Reach;
use crate::supervise::{Context, Drained, Section};

/// A bucket as the file wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BucketSection {
    /// Its name.
    pub name: BucketName,
    /// Keys or objects.
    pub kind: BucketKind,
    /// The settings it is made with.
    pub spec: BucketSpec,
    /// No template of the file shows its values.
    pub secret: bool,
    /// How far it is reachable over HTTP.
    pub http: Reach,
}

impl Section for BucketSection {
    fn run(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
        Box::pin(async move {
            let mut backoff = Backoff::outage();
            loop {
                match self.ensure(&*context.backend).await {
                    Ok(notes) => {
                        context.reporter.notes(notes);
                        context.reporter.set(State::Running);
                        context.stop.begins().await;
                        return Drained::default();
                    }
                    Err(error) => context.reporter.failed(&error),
                }
                tokio::select! {
                    () = backoff.wait() => {}
                    _deadline = context.stop.begins() => return Drained::default(),
                }
            }
        })
    }
}

impl BucketSection {
    /// Makes the bucket if it is missing; returns what there is to say about it.
    async fn ensure(&self, backend: &dyn Backend) -> Result<Vec<String>> {
        match backend.create_bucket(self.kind, &self.name, &self.spec).await {
            Ok(info) if self.spec.replicas > info.spec.replicas => Ok(vec![format!(
                "this store keeps {} copy, the file wishes {}",
                info.spec.replicas, self.spec.replicas
            )]),
            Ok(_as_wished) => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let differences = error.fact("differs").unwrap_or("its settings");
                Ok(vec![format!("it was there with other settings ({differences}): left as it is")])
            }
            Err(error) => Err(error),
        }
    }
}
