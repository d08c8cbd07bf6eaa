//! What the sections of a file need of a NATS account.

use jetbridge::LinkPlan;
use jetbridge::limit::{Engine, tickets_bucket};
use jetbridge::nats::{ConnectOptions, Permissions};
use jetbridge::settings::{DatabaseSpec, Location};
use jetbridge::template::Server;
use jetbridge_core::{BucketKind, BucketName, Pattern, Result};

use crate::file::UpFile;
use crate::handler::{Source, dead_letter_subjects};

impl UpFile {
    /// The least permissions with which everything that the files name runs.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if a stream's name makes a
    /// subject too long, or a template cannot be read.
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
                if let Some(counters) = tickets_bucket(&store.bucket) {
                    permissions.count(&counters);
                }
            }
        }
        for link in self.links(options)?.filter(|link| link.is_default()) {
            link.permit(&mut permissions)?;
        }
        for database in self.replicas().filter(|it| self.is_covered(it)) {
            permissions.replicate_into(&database.replica.bucket);
        }
        for template in &self.templates {
            let values = template.reads()?.into_iter().filter_map(|read| read.value);
            for value in values.filter(|value| value.server == Server::Default) {
                permissions.follow_bucket(value.kind, &BucketName::parse(&value.bucket)?);
            }
        }
        Ok(permissions)
    }

    fn replicas(&self) -> impl Iterator<Item = &DatabaseSpec> {
        self.databases.iter().flat_map(|part| &part.list)
    }

    /// True if a replica is on the server that the permissions are for: that of everything else,
    /// or the one that all replicas of a file name, as Litestream's do, if there is nothing else.
    fn is_covered(&self, database: &DatabaseSpec) -> bool {
        let servers =
            |spec: &DatabaseSpec| spec.replica.server.as_ref().map(|it| it.servers.clone());
        let nothing_else = self.buckets.is_empty()
            && self.handlers.is_empty()
            && self.limits.limiters.is_empty()
            && self.components.is_empty()
            && self.templates.is_empty();
        let wanted = match self.replicas().next() {
            Some(first) if nothing_else => servers(first),
            _ => None,
        };
        servers(database) == wanted
    }

    /// Where the links of all components lead, if the file's store is where `options` lead.
    fn links(&self, options: &ConnectOptions) -> Result<impl Iterator<Item = LinkPlan>> {
        let place = Location::Nats(Box::new(options.clone()));
        let mut plans = Vec::new();
        for component in &self.components {
            plans.extend(component.plan(&place)?);
        }
        Ok(plans.into_iter())
    }

    /// What [`UpFile::permissions`] does not cover, a line each: what a template reads of other
    /// servers, and what only shows when it runs.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if a template cannot be read.
    pub fn not_covered(&self, options: &ConnectOptions) -> Result<Vec<String>> {
        let elsewhere = self.links(options)?.filter(|link| !link.is_default());
        let mut lines: Vec<String> = elsewhere
            .map(|link| {
                format!("link {} opens bucket {} of {}", link.name, link.bucket, link.location)
            })
            .collect();
        for database in self.replicas().filter(|it| !self.is_covered(it)) {
            let source = database.source.path().display();
            lines.push(format!("database {source} replicates to {}", database.replica));
        }
        for template in &self.templates {
            for read in template.reads()? {
                let name = &template.name;
                match read.value {
                    None => lines.push(format!(
                        "what {} of template {name} reads shows when it runs",
                        read.path
                    )),
                    Some(value) if value.server != Server::Default => lines.push(format!(
                        "{} of template {name} reads bucket {} of {}",
                        read.path, value.bucket, value.server
                    )),
                    Some(_covered) => {}
                }
            }
        }
        Ok(lines)
    }
}
