//! The records of many keys, in the order of their writes, as listings and watches need them.

use futures_core::stream::BoxStream;
use futures_util::stream::{self, StreamExt as _};

use jetbridge_core::{Result, Scope};

use super::NatsKv;
use crate::facts::Facts;
use crate::merge::read_any;
use crate::reader::{Begin, Event, Follow, ReaderSpec};
use crate::record::Record;
use crate::request::Call;

/// What a scan delivers.
#[derive(Clone, Debug)]
pub(super) enum Scanned {
    Record(Record),
    /// What was there at the beginning has been delivered.
    CaughtUp,
}

/// How to scan.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) operation: &'static str,
    pub(super) scope: Scope,
    pub(super) from: Begin,
    pub(super) headers_only: bool,
    /// Whether it goes on for ever, and must therefore not lag behind what is remembered.
    pub(super) follow: Follow,
    /// How many records are likely to be wanted, where those are few of many.
    pub(super) window: Option<u32>,
    pub(super) filtered: Filtered,
}

/// Whether the server is told which subjects are meant. What it delivers is looked at anyway; the
/// permission to read everything in a stream is another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Filtered {
    No,
    Yes,
}

impl NatsKv {
    /// The facts, and what the stream delivers of `scan.scope`.
    pub(super) async fn scan(
        &self,
        scan: Scan,
        call: &Call,
    ) -> Result<(std::sync::Arc<Facts>, BoxStream<'static, Result<Scanned>>)> {
        let facts = self.bucket.facts(call).await?;
        let filters = self.names.filters(&facts.keyspace, &scan.scope, scan.operation)?;
        let means_none = filters.is_empty();
        let shared = match scan.follow {
            Follow::Yes => {
                let mut all = self.names.filters(&facts.keyspace, &Scope::All, scan.operation)?;
                Some(if all.len() == 1 { all.remove(0) } else { ">".to_owned() })
            }
            Follow::No => None,
        };
        let filters = if scan.filtered == Filtered::Yes { filters } else { Vec::new() };
        let spec = ReaderSpec {
            operation: scan.operation,
            stream: self.bucket.stream.clone(),
            filters,
            from: scan.from,
            headers_only: scan.headers_only,
            away_max: facts.marker_ttl.filter(|_| scan.follow == Follow::Yes),
            created: facts.created.clone(),
            asks_for_end: scan.from != Begin::Now,
            window: scan.window,
            shared,
        };
        let stems = facts.keyspace.stems().to_vec();
        let delivered = if means_none {
            // No key is meant, so nothing ever comes.
            stream::iter([Ok(Event::CaughtUp)]).chain(stream::pending()).boxed()
        } else {
            read_any(self.bucket.api.clone(), spec, stems)
        };
        let (kv, keyspace, scope) = (self.clone(), facts.keyspace.clone(), scan.scope);
        let bucket = self.bucket.name.clone();
        let scanned = delivered.filter_map(move |item| {
            let scanned = match item {
                Ok(Event::CaughtUp) => Some(Ok(Scanned::CaughtUp)),
                Ok(Event::Message(stored)) => {
                    let text = keyspace.text(&stored.subject).map(str::to_owned);
                    text.map(|text| kv.names.key(&text).map(|key| (key, text)))
                        .filter(|named| match named {
                            Ok((key, text)) => scope.contains(key.as_str(), text),
                            Err(_) => true,
                        })
                        .map(|named| {
                            named.map(|(key, _)| Scanned::Record(Record::new(key, stored)))
                        })
                }
                Err(error) if error.fact("bucket").is_some() => Some(Err(error)),
                Err(error) => Some(Err(error.with("bucket", &bucket))),
            };
            std::future::ready(scanned)
        });
        Ok((facts, scanned.boxed()))
    }
}
