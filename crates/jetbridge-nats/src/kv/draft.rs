//! One message for a key, before it is sent.

use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;

use jetbridge_core::{Headers, Key, Result};

use crate::facts::Facts;
use crate::record::ttl_seconds;
use crate::request::Outgoing;
use crate::{headers, time};

/// Bytes that this crate's own headers and conditions may add to a message.
const OWN_HEADERS_BYTES_MAX: usize = 256;

/// The largest value that fits whatever the condition of its write.
pub(crate) fn value_bytes_max(max_payload: usize) -> usize {
    max_payload.saturating_sub(OWN_HEADERS_BYTES_MAX)
}

/// A message for a key, ready but for its condition.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) key: Key,
    /// Where it is written.
    pub(super) subject: Subject,
    /// Where it is stored.
    pub(super) stored_under: String,
    /// All but those that say which write it is and over what.
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    /// The last sequence it demands; 0 is "none", `None` is no condition.
    pub(super) expected: Option<u64>,
    /// Its name; `None` as long as it has none, no room for one, or is one of a burst.
    pub(super) id: Option<String>,
    /// Whether the stream remembers it by its name.
    pub(super) fenced: bool,
}

impl Draft {
    /// The message on the condition that `over` is the last sequence on its subject.
    pub(super) fn outgoing(&self, over: Option<u64>) -> Outgoing {
        let mut map = self.headers.clone();
        if let Some(id) = &self.id {
            map.insert(if self.fenced { headers::MESSAGE_ID } else { headers::WRITE }, id.as_str());
        }
        if let Some(sequence) = over {
            let value = HeaderValue::from(sequence);
            map.insert(headers::EXPECTED_LAST_SUBJECT_SEQUENCE, value);
        }
        Outgoing::new(self.subject.clone(), self.payload.clone()).headers(map)
    }

    /// True if nothing that is stored tells whether it landed: by its bytes alone it is not to be
    /// told from another's, and a copy still on its way would not be kept out.
    pub(super) fn leaves_no_trace(&self) -> bool {
        self.id.is_none() && self.expected.is_none()
    }

    /// Takes over the writer's headers.
    pub(super) fn writers(&mut self, given: &Headers, operation: &'static str) -> Result<()> {
        if !given.is_empty() {
            self.headers = headers::to_wire(given, operation)?;
        }
        Ok(())
    }

    /// Bytes of the value and its headers.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + headers::wire_bytes(&self.headers)
    }

    /// Makes the value expire. Under a server that removes it, older values would come back to
    /// light, so they are dropped with the write.
    pub(super) fn expires(&mut self, facts: &Facts, ttl: Duration, at: SystemTime) {
        self.headers.insert(headers::EXPIRES, time::to_unix_ms(at).to_string());
        if facts.ttl {
            self.headers.insert(headers::TTL, ttl_seconds(ttl));
            if facts.keeps_history() {
                self.headers.insert(headers::ROLLUP, "sub");
            }
        }
    }

    /// Leaves expiry to the readers; `false` if it was left to them already.
    pub(super) fn without_server_expiry(&mut self) -> bool {
        let own = [headers::TTL, headers::ROLLUP];
        let mut kept = HeaderMap::new();
        for (name, values) in self.headers.iter() {
            if !own.contains(&AsRef::<str>::as_ref(name)) {
                values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
            }
        }
        let changed = kept.len() < self.headers.len();
        self.headers = kept;
        changed
    }

    /// Makes it a deletion, of the key's history too if `forget`. It goes by itself where the
    /// server can forget one and nothing older lies under it.
    pub(super) fn tombstone(&mut self, facts: &Facts, forget: bool) {
        self.headers.insert(headers::KV_OPERATION, if forget { "PURGE" } else { "DEL" });
        if forget {
            self.headers.insert(headers::ROLLUP, "sub");
        }
        let alone = forget || !facts.keeps_history();
        if let Some(ttl) = facts.marker_ttl.filter(|_| alone) {
            self.headers.insert(headers::TTL, ttl_seconds(ttl));
        }
    }
}
