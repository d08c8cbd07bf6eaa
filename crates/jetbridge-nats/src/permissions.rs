//! The least a user needs: which subjects each operation of this crate touches, as a block for
//! nats-server's configuration.
//!
//! This is the other side of what the rest of the crate sends; a test runs with what it prints.

use std::collections::BTreeSet;
use std::fmt::{self, Display};

use jetbridge_core::{BucketKind, BucketName, ConsumerName, Pattern, StreamName};

use crate::options::ConnectOptions;

/// The subjects that a user may publish to and subscribe to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permissions {
    api: String,
    publish: BTreeSet<String>,
    subscribe: BTreeSet<String>,
    responses: bool,
}

impl Permissions {
    /// What every connection with `options` needs: its answers.
    pub fn new(options: &ConnectOptions) -> Self {
        let api = match (&options.domain, &options.api_prefix) {
            (Some(domain), _) => format!("$JS.{domain}.API"),
            (None, Some(prefix)) => prefix.trim_end_matches('.').to_owned(),
            (None, None) => "$JS.API".to_owned(),
        };
        let inbox = options.inbox_prefix.as_deref().unwrap_or("_INBOX");
        Self {
            api,
            publish: BTreeSet::new(),
            subscribe: BTreeSet::from([format!("{inbox}.>")]),
            responses: false,
        }
    }

    /// To look at a bucket, and to make it if it is missing.
    pub fn ensure_bucket(&mut self, kind: BucketKind, bucket: &BucketName) -> &mut Self {
        let stream = match kind {
            BucketKind::Kv => format!("KV_{bucket}"),
            BucketKind::Object => format!("OBJ_{bucket}"),
        };
        self.ensure(&stream)
    }

    /// To get values of a bucket that is there, with all that says what became of them.
    pub fn read_bucket(&mut self, kind: BucketKind, bucket: &BucketName) -> &mut Self {
        let stream = match kind {
            BucketKind::Kv => format!("KV_{bucket}"),
            BucketKind::Object => format!("OBJ_{bucket}"),
        };
        if kind == BucketKind::Object {
            // Servers without batches send the chunks through a consumer.
            self.publish.insert(format!("$JS.FC.{stream}.>"));
            self.call(&format!("CONSUMER.CREATE.{stream}.*.$O.{bucket}.C.>"))
                .call(&format!("CONSUMER.DELETE.{stream}.*"));
        }
        self.call(&format!("STREAM.INFO.{stream}"))
            .call(&format!("DIRECT.GET.{stream}"))
            .call(&format!("DIRECT.GET.{stream}.>"))
            .call(&format!("STREAM.MSG.GET.{stream}"))
    }

    /// To count in a bucket of counters, which is made if it is missing, as native counters or
    /// as keys, whichever the server has.
    pub fn count(&mut self, bucket: &BucketName) -> &mut Self {
        let native = format!("CTR_{bucket}");
        self.publish.extend([format!("$CTR.{bucket}.>"), format!("$KV.{bucket}.>")]);
        self.ensure(&native)
            .call(&format!("DIRECT.GET.{native}.>"))
            .call(&format!("STREAM.MSG.GET.{native}"))
            .call(&format!("STREAM.PURGE.{native}"))
            .ensure_bucket(BucketKind::Kv, bucket)
            .read_bucket(BucketKind::Kv, bucket)
    }

    /// To watch the keys of a bucket that is there.
    pub fn watch_bucket(&mut self, bucket: &BucketName) -> &mut Self {
        let stream = format!("KV_{bucket}");
        self.publish.insert(format!("$JS.FC.{stream}.>"));
        self.call(&format!("CONSUMER.CREATE.{stream}.*.$KV.{bucket}.>"))
            .call(&format!("CONSUMER.INFO.{stream}.*"))
            .call(&format!("CONSUMER.DELETE.{stream}.*"))
    }

    /// As [`Permissions::read_bucket`], and to hear what changes.
    pub fn follow_bucket(&mut self, kind: BucketKind, bucket: &BucketName) -> &mut Self {
        let (stream, filters) = match kind {
            BucketKind::Kv => (format!("KV_{bucket}"), format!("$KV.{bucket}.>")),
            BucketKind::Object => (format!("OBJ_{bucket}"), format!("$O.{bucket}.M.>")),
        };
        self.publish.insert(format!("$JS.FC.{stream}.>"));
        // Without a filter in the subject: servers of today take several of them in the request.
        self.call(&format!("CONSUMER.CREATE.{stream}.*"))
            .call(&format!("CONSUMER.CREATE.{stream}.*.{filters}"))
            .call(&format!("CONSUMER.DELETE.{stream}.*"))
            .read_bucket(kind, bucket)
    }

    /// To store, read, list, watch and delete the objects of a bucket that is there.
    pub fn replicate_into(&mut self, bucket: &BucketName) -> &mut Self {
        let stream = format!("OBJ_{bucket}");
        self.publish.extend([format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")]);
        self.call(&format!("STREAM.PURGE.{stream}")).follow_bucket(BucketKind::Object, bucket)
    }

    /// To look at a stream, and to make it if it is missing.
    pub fn ensure_stream(&mut self, stream: &StreamName) -> &mut Self {
        self.ensure(stream.as_str())
    }

    /// To take the deliveries of a durable consumer, which is made if it is missing.
    pub fn consume(
        &mut self,
        stream: &StreamName,
        durable: &ConsumerName,
        filter: Option<&Pattern>,
    ) -> &mut Self {
        let create = match filter {
            Some(filter) => format!("CONSUMER.CREATE.{stream}.{durable}.{filter}"),
            None => format!("CONSUMER.CREATE.{stream}.{durable}"),
        };
        self.call(&create)
            .call(&format!("CONSUMER.INFO.{stream}.{durable}"))
            .call(&format!("CONSUMER.MSG.NEXT.{stream}.{durable}"));
        // The second form is that of servers which put domain and account before the stream.
        self.publish.insert(format!("$JS.ACK.{stream}.{durable}.>"));
        self.publish.insert(format!("$JS.ACK.*.*.{stream}.{durable}.>"));
        self
    }

    /// To publish or append on subjects of `pattern`.
    pub fn publish(&mut self, pattern: &Pattern) -> &mut Self {
        self.publish.insert(pattern.to_string());
        self
    }

    /// To receive plain messages on subjects of `pattern`, and to answer those that ask.
    pub fn subscribe(&mut self, pattern: &Pattern) -> &mut Self {
        self.subscribe.insert(pattern.to_string());
        self.responses = true;
        self
    }

    fn ensure(&mut self, stream: &str) -> &mut Self {
        self.call(&format!("STREAM.INFO.{stream}")).call(&format!("STREAM.CREATE.{stream}"))
    }

    fn call(&mut self, verb: &str) -> &mut Self {
        self.publish.insert(format!("{}.{verb}", self.api));
        self
    }
}

impl Display for Permissions {
    /// A `permissions` block as nats-server reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, verb: &str, subjects: &BTreeSet<String>| {
            writeln!(f, "  {verb}: {{ allow: [")?;
            for subject in subjects {
                writeln!(f, "    {subject:?}")?;
            }
            writeln!(f, "  ] }}")
        };
        writeln!(f, "permissions: {{")?;
        list(f, "publish", &self.publish)?;
        list(f, "subscribe", &self.subscribe)?;
        if self.responses {
            writeln!(f, "  allow_responses: true")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_each_subject_once() {
        let mut permissions = Permissions::new(&ConnectOptions::default());
        let stream = StreamName::parse("S").unwrap();
        permissions.ensure_stream(&stream).ensure_stream(&stream);
        let text = permissions.to_string();
        let expected = "permissions: {\n  publish: { allow: [\n    \"$JS.API.STREAM.CREATE.S\"\n    \
                        \"$JS.API.STREAM.INFO.S\"\n  ] }\n  subscribe: { allow: [\n    \
                        \"_INBOX.>\"\n  ] }\n}";
        assert_eq!(text, expected);
    }
}
