//! Where a replica is: a bucket, a path in it, and the server, if it says one.

use std::fmt;

use jetbridge_core::{BucketName, Error, ErrorKind, Result};
use jetbridge_nats::ConnectOptions;

use super::super::environment::Environment;
use super::super::read::{Source, read};
use super::super::source::{Entry, Node, Value};
use super::super::table::Dialect;
use super::{argument, idle, unknown};

/// Where a replica is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplicaSpec {
    /// The server; `None` for the store that everything else is in.
    pub server: Option<Box<ConnectOptions>>,
    /// The bucket.
    pub bucket: BucketName,
    /// Where in the bucket; empty for the bucket as a whole, as Litestream has it.
    pub path: String,
}

/// Keys of a replica that are read here, beside those of a NATS connection.
const OWN: [&str; 3] = ["path", "type", "url"];
/// Keys that are known and have no effect: NATS needs none of them, and a change is shipped when
/// it is made.
const IDLE: [&str; 5] =
    ["auto-recover", "max-sync-ltx-files", "name", "sync-interval", "validation-interval"];
/// Keys of replicas elsewhere, which say that one is not on NATS.
const ELSEWHERE: [&str; 14] = [
    "access-key-id",
    "account-key",
    "account-name",
    "endpoint",
    "force-path-style",
    "host",
    "host-key",
    "key-path",
    "part-size",
    "region",
    "secret-access-key",
    "skip-verify",
    "user",
    "webdav-url",
];

impl fmt::Display for ReplicaSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, "{}/", server.servers.join(","))?;
        }
        let slash = if self.path.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.bucket, self.path)
    }
}

impl ReplicaSpec {
    /// A replica by its URL: `nats://HOST:PORT/BUCKET[/PATH]`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a URL that cannot be read, and
    /// [`Unsupported`](ErrorKind::Unsupported) for one of another kind.
    pub fn from_url(url: &str, environment: &Environment) -> Result<Self> {
        refuse_scheme(url).map_err(|kind| elsewhere(&kind, &argument().to_string()))?;
        let sources =
            [Source::variables(environment), Source::url(Dialect::Litestream, url, &argument())];
        let settings = read(Dialect::Litestream, &sources, environment)?.patient();
        let (bucket, path) = place(settings.path.as_deref(), settings.bucket.as_deref(), None)
            .ok_or_else(|| {
                argument()
                    .error("bucket required for NATS replica")
                    .hint("write it behind the server: nats://HOST:PORT/BUCKET")
            })?;
        let bucket = BucketName::parse(bucket)?;
        Ok(Self { server: Some(Box::new(settings.connect)), bucket, path })
    }

    /// A replica in the store that everything else is in.
    pub fn in_store(bucket: BucketName, path: impl Into<String>) -> Self {
        Self { server: None, bucket, path: path.into() }
    }

    pub(super) fn read(
        node: &Node,
        (defaults, environment): (&[Entry], &Environment),
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        if let Value::Scalar(url) = &node.value {
            return Self::from_url(&url.text, environment);
        }
        let text = |name: &str| node.get(name).and_then(Node::text);
        let url = text("url");
        let kind = match url.map(refuse_scheme) {
            Some(Err(kind)) => Err(kind),
            Some(Ok(())) => Ok(()),
            None => match text("type") {
                None | Some("nats") => Ok(()),
                Some(kind) => Err(kind.to_owned()),
            },
        };
        kind.map_err(|kind| elsewhere(&kind, &node.place.to_string()))?;
        let given: Vec<&Entry> = node.entries().iter().collect();
        let entries = known(given, &OWN, warnings);
        let layer = |entries: &[Entry]| {
            let connection: Vec<Entry> = entries
                .iter()
                .filter(|entry| !matches!(entry.name.as_str(), "path" | "type"))
                .cloned()
                .collect();
            Source::new(Dialect::Litestream, &connection)
        };
        let sources = [layer(defaults), layer(&entries)];
        let settings = read(Dialect::Litestream, &sources, environment)?.patient();
        warnings.extend(settings.warnings.iter().cloned());
        let own = text("path").or_else(|| {
            let default = defaults.iter().find(|entry| entry.name == "path")?;
            default.node.text()
        });
        let found = place(settings.path.as_deref(), settings.bucket.as_deref(), own);
        let (bucket, path) = found.ok_or_else(|| {
            node.place
                .error("bucket required for NATS replica")
                .hint("add `bucket: NAME`, or write it behind the server: nats://HOST:PORT/NAME")
        })?;
        let bucket = BucketName::parse(bucket)
            .map_err(|error| node.place.error("this is no name of a bucket").caused_by(error))?;
        let server = settings.server_place.is_some().then(|| Box::new(settings.connect));
        Ok(Self { server, bucket, path })
    }
}

/// The bucket, and where in it. What stands in the URL wins, as in Litestream.
fn place(
    in_url: Option<&str>,
    bucket: Option<&str>,
    path: Option<&str>,
) -> Option<(String, String)> {
    let in_url = in_url.map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
    let (bucket, rest) = match in_url {
        Some(in_url) => in_url.split_once('/').unwrap_or((in_url, "")),
        None => (bucket?, ""),
    };
    let path = path.filter(|_| rest.is_empty()).unwrap_or(rest);
    Some((bucket.to_owned(), path.trim_matches('/').to_owned()))
}

/// True if `name` is a key of a replica, of whatever kind.
pub(super) fn is_key(name: &str) -> bool {
    let ours = OWN.contains(&name) || Dialect::Litestream.knows(name);
    ours || IDLE.contains(&name) || ELSEWHERE.contains(&name)
}

/// The entries that mean something for a replica on NATS; the others are warned of.
pub(super) fn known(
    entries: Vec<&Entry>,
    also: &[&'static str],
    warnings: &mut Vec<String>,
) -> Vec<Entry> {
    let mut kept = Vec::new();
    for entry in entries {
        let name = entry.name.as_str();
        if OWN.contains(&name) || Dialect::Litestream.knows(name) {
            kept.push(entry.clone());
        } else if IDLE.contains(&name) || ELSEWHERE.contains(&name) {
            warnings.push(idle(entry));
        } else {
            let names: Vec<&str> =
                Dialect::Litestream.names().chain(OWN).chain(also.iter().copied()).collect();
            warnings.push(unknown(entry, &names));
        }
    }
    kept
}

/// The kind of a replica that is not on NATS, by its URL.
fn refuse_scheme(url: &str) -> Result<(), String> {
    match url.split_once("://") {
        None | Some(("nats" | "tls" | "ws" | "wss", _)) => Ok(()),
        Some((scheme, _)) => Err(scheme.to_owned()),
    }
}

fn elsewhere(kind: &str, place: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "settings.read")
        .because(format!("{place}: replicas of the type `{kind}` are not on NATS"))
        .hint("this replicates to NATS and to stores of its own; use Litestream for the others")
}
