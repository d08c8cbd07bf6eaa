//! `buckets:` — `NAME: {kind: kv|object, history: 5, ttl: 24h, …}`.

use jetbridge::settings::{ByteSize, GoDuration, Node};
use jetbridge_core::{BucketKind, BucketName, BucketSpec, Error, HISTORY_MAX, Placement, Storage};
use serde::Deserialize;

use super::{at, at_node, entries};
use crate::bucket::BucketSection;
use crate::http::Reach;

/// Most copies that JetStream keeps.
const REPLICAS_MAX: u8 = 5;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    kind: Kind,
    history: u8,
    ttl: Option<GoDuration>,
    max_bytes: Option<ByteSize>,
    max_value_bytes: Option<ByteSize>,
    replicas: u8,
    storage: StorageWord,
    placement: Option<PlacementWritten>,
    compression: bool,
    description: Option<String>,
    secret: bool,
    http: ReachWord,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            kind: Kind::Kv,
            history: 1,
            ttl: None,
            max_bytes: None,
            max_value_bytes: None,
            replicas: 1,
            storage: StorageWord::File,
            placement: None,
            compression: false,
            description: None,
            secret: false,
            http: ReachWord::Write,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Kv,
    Object,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StorageWord {
    File,
    Memory,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReachWord {
    None,
    Read,
    Write,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlacementWritten {
    cluster: Option<String>,
    tags: Vec<String>,
}

pub(super) fn read(node: &Node, sections: &mut Vec<BucketSection>, problems: &mut Vec<Error>) {
    entries::<Written>(node, problems, |entry, written| {
        let name = BucketName::parse(&entry.name).map_err(|error| at_node(&entry.node, &error))?;
        let range = |value: u8, most: u8, what: &str| {
            if (1..=most).contains(&value) {
                return Ok(value);
            }
            Err(at(&entry.node, format!("`{what}` is 1 to {most}, not {value}")))
        };
        let mut spec = BucketSpec::default();
        spec.history = range(written.history, HISTORY_MAX, "history")?;
        spec.replicas = range(written.replicas, REPLICAS_MAX, "replicas")?;
        spec.max_age = written.ttl.map(|ttl| ttl.0).filter(|ttl| !ttl.is_zero());
        spec.max_bytes = written.max_bytes.map(|size| size.0);
        spec.max_value_bytes = written
            .max_value_bytes
            .map(|size| u32::try_from(size.0))
            .transpose()
            .map_err(|_range| at(&entry.node, "`max_value_bytes` is under 4 GiB".to_owned()))?;
        spec.storage = match written.storage {
            StorageWord::File => Storage::File,
            StorageWord::Memory => Storage::Memory,
        };
        let placement = written.placement;
        spec.placement = placement.map(|it| Placement { cluster: it.cluster, tags: it.tags });
        spec.compression = written.compression;
        spec.description = written.description;
        let kind = match written.kind {
            Kind::Kv => BucketKind::Kv,
            Kind::Object => BucketKind::Object,
        };
        let http = match written.http {
            ReachWord::None => Reach::None,
            ReachWord::Read => Reach::Read,
            ReachWord::Write => Reach::Write,
        };
        // Several files may name one bucket, in the same words.
        sections.retain(|known: &BucketSection| known.name != name || known.kind != kind);
        sections.push(BucketSection { name, kind, spec, secret: written.secret, http });
        Ok(())
    });
}
