//! What the sections of a file need of a NATS account.

use jetbridge::limit::Engine;
use jetbridge::nats::{ConnectOptions, Permissions};
use jetbridge_core::{BucketKind, Pattern, Result};

use crate::file::UpFile;
use crate::handler::{Source, dead_letter_subjects};

impl UpFile {
    /// The least permissions with which everything that the files name runs.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if a stream's name makes a
    /// subject too long.
    pub fn permissions(&self, options: &ConnectOptions) -> Result<Permissions> {
        let mut permissions = Permissions::new(options);
        for bucket in &self.buckets {
            permissions.ensure_bucket(bucket.kind, &bucket.name);
        }
        for handler in &self.handlers {
            let dead: Pattern = dead_letter_subjects(&handler.dead_letters)?;
            permissions.ensure_stream(&handler.dead_letters).publish(&dead);
            match &handler.source {
                Source::Subject { .. } => permissions.subscribe(&handler.subject),
                Source::Stream { stream, durable } => permissions.ensure_stream(stream).consume(
                    stream,
                    durable,
                    Some(&handler.subject),
                ),
            };
        }
        for limiter in &self.limits.limiters {
            let store = self.limits.store_of(limiter)?;
            if store.engine == Engine::Nats && store.location.is_none() {
                let keys = Pattern::parse(format!("$KV.{}.>", store.bucket))?;
                permissions
                    .ensure_bucket(BucketKind::Kv, &store.bucket)
                    .read_bucket(BucketKind::Kv, &store.bucket)
                    .watch_bucket(&store.bucket)
                    .publish(&keys);
            }
        }
        Ok(permissions)
    }
}
