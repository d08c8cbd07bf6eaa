//! The measures, by what they are about; and what they share.

mod agent;
pub(crate) mod bus;
pub(crate) mod kv;
pub(crate) mod limit;
pub(crate) mod local;
pub(crate) mod object;
mod render;
mod sqlite;
pub(crate) mod template;
pub(crate) mod wasi;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use bytes::Bytes;

use jetbridge_core::{BucketName, BucketSpec, Key, Open};
use jetbridge_nats::{ConnectOptions, NatsBackend};

use crate::Outcome;
use crate::args::Args;
use crate::report::Report;

/// Bytes of a value or message.
const VALUE_BYTES: usize = 128;
/// Keys that values go to.
const KEYS: usize = 10_000;
/// Bytes of a large object.
pub(crate) const OBJECT_BYTES: usize = 256 << 20;
const MIB: f64 = 1_048_576.0;

/// What can be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suite {
    /// Keys on servers.
    Kv,
    /// Objects on servers.
    Object,
    /// The embedded store.
    Local,
    /// Messages through servers.
    Bus,
    /// Limits over processes.
    Limit,
    /// Replicas of databases.
    Sqlite,
    /// Templates.
    Template,
    /// Guests of wasi:keyvalue.
    Wasi,
    /// `up` over HTTP, and `copy`.
    Agent,
}

impl Suite {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kv,
        Self::Object,
        Self::Local,
        Self::Bus,
        Self::Limit,
        Self::Sqlite,
        Self::Template,
        Self::Wasi,
        Self::Agent,
    ];
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kv => "kv",
            Self::Object => "object",
            Self::Local => "local",
            Self::Bus => "bus",
            Self::Limit => "limit",
            Self::Sqlite => "sqlite",
            Self::Template => "template",
            Self::Wasi => "wasi",
            Self::Agent => "agent",
        })
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|suite| suite.to_string() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|suite| suite.to_string()).join(", ");
            format!("there is no suite `{text}`: {names}")
        })
    }
}

pub(crate) async fn run(suite: Suite, args: &Args, report: &mut Report) -> Outcome {
    match suite {
        Suite::Kv => Box::pin(kv::run(args, report)).await,
        Suite::Object => Box::pin(object::run(args, report)).await,
        Suite::Local => Box::pin(local::run(args, report)).await,
        Suite::Bus => Box::pin(bus::run(args, report)).await,
        Suite::Limit => Box::pin(limit::run(args, report)).await,
        Suite::Wasi => Box::pin(wasi::run(args, report)).await,
        Suite::Agent => Box::pin(agent::run(args, report)).await,
        Suite::Sqlite => Box::pin(sqlite::run(args, report)).await,
        Suite::Template => {
            Box::pin(template::run(args, report)).await?;
            Box::pin(render::run(args, report)).await
        }
    }
}

/// Connects as users do, with the defaults.
pub(crate) async fn connect(url: &str) -> Outcome<NatsBackend> {
    let mut options = ConnectOptions::default();
    options.servers = vec![url.to_owned()];
    Ok(NatsBackend::connect(&options).await?)
}

fn ensure() -> Open {
    Open::ensure(BucketSpec::default())
}

fn bucket(name: &str) -> Outcome<BucketName> {
    Ok(BucketName::parse(name)?)
}

fn keys() -> Outcome<Vec<Key>> {
    (0..KEYS).map(|number| Ok(Key::parse(format!("a.b.key{number:05}"))?)).collect()
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; VALUE_BYTES])
}

/// `count` per second since `begin`.
fn rate(count: usize, begin: Instant) -> f64 {
    count as f64 / begin.elapsed().as_secs_f64()
}
