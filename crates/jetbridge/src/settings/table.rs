//! Every name that a user can have for a setting of a NATS connection, in one table. A row is a
//! setting, its columns are the programs whose names Jetbridge keeps, and its last field reads
//! the value. A setting that a program does not name can be written with our own name there.

use super::draft::{Draft, Raw};
use super::place::Problem;
use super::value;

/// Whose names a set of settings is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Dialect {
    /// A context of the `nats` CLI.
    Context,
    /// evo's `NATS.*` settings and its YAML `nats:` map, with the defaults that its page prints.
    Evo,
    /// The map after the path in graft's `(( nats … ))`, and its `NATS_<TARGET>_*` variables.
    Graft,
    /// A wasmCloud link.
    Link,
    /// The `replica` of a Litestream database.
    Litestream,
    /// A rate-sync store.
    RateSync,
    /// Our own: options of a store URL, a `store:` map. Without printed defaults.
    Store,
    /// `NATS_*` variables: evo's, graft's and the `nats` CLI's.
    Variables,
}

/// Reads one value into its place in a draft; the text, if any, is a warning.
pub(super) type Read = fn(&mut Draft, &Raw<'_>) -> Result<Option<String>, Problem>;

/// One setting.
pub(super) struct Row {
    /// Our name first, then its synonyms: good in every dialect but those below that are closed.
    pub(super) own: &'static [&'static str],
    /// What follows `NATS_` or `NATS_<TARGET>_`.
    pub(super) variables: &'static [&'static str],
    evo: &'static [&'static str],
    graft: &'static [&'static str],
    link: &'static [&'static str],
    litestream: &'static [&'static str],
    rate_sync: &'static [&'static str],
    context: &'static [&'static str],
    pub(super) read: Read,
}

/// A row without names, for rows to fill.
const NO_NAMES: Row = Row {
    own: &[],
    variables: &[],
    evo: &[],
    graft: &[],
    link: &[],
    litestream: &[],
    rate_sync: &[],
    context: &[],
    read: |_, _| Ok(None),
};

pub(super) const TABLE: &[Row] = &[
    // Where.
    Row {
        own: &["server", "servers", "url"],
        evo: &["server"],
        variables: &["URL", "SERVER"],
        graft: &["url"],
        link: &["cluster_uri"],
        litestream: &["url"],
        rate_sync: &["url"],
        context: &["url"],
        read: |draft, raw| draft.servers.put(raw, Raw::servers),
    },
    // How to log in.
    Row {
        own: &["credentials", "creds"],
        evo: &["credentials"],
        variables: &["CREDENTIALS", "CREDS"],
        litestream: &["creds"],
        context: &["creds"],
        read: |draft, raw| draft.credentials.put(raw, Raw::credentials),
        ..NO_NAMES
    },
    Row {
        own: &["nkey", "nkey_seed", "nkey_file"],
        evo: &["nkey_file"],
        variables: &["NKEY_FILE", "NKEY"],
        litestream: &["nkey"],
        context: &["nkey"],
        read: |draft, raw| draft.nkey.put(raw, Raw::nkey),
        ..NO_NAMES
    },
    Row {
        own: &["jwt", "user_jwt"],
        variables: &["JWT"],
        link: &["client_jwt"],
        litestream: &["jwt"],
        context: &["user_jwt"],
        read: |draft, raw| draft.jwt.put(raw, Raw::secret),
        ..NO_NAMES
    },
    Row {
        own: &["seed", "user_seed"],
        variables: &["SEED"],
        link: &["client_seed"],
        litestream: &["seed"],
        context: &["user_seed"],
        read: |draft, raw| draft.seed.put(raw, Raw::seed),
        ..NO_NAMES
    },
    Row {
        own: &["token"],
        evo: &["token"],
        variables: &["TOKEN"],
        litestream: &["token"],
        rate_sync: &["token"],
        context: &["token"],
        read: |draft, raw| draft.token.put(raw, Raw::secret),
        ..NO_NAMES
    },
    Row {
        own: &["username", "user"],
        evo: &["username"],
        variables: &["USERNAME", "USER"],
        litestream: &["username"],
        context: &["user"],
        read: |draft, raw| draft.user.put(raw, Raw::text),
        ..NO_NAMES
    },
    Row {
        own: &["password"],
        evo: &["password"],
        variables: &["PASSWORD"],
        litestream: &["password"],
        context: &["password"],
        read: |draft, raw| draft.password.put(raw, Raw::secret),
        ..NO_NAMES
    },
    // Encryption.
    Row {
        own: &["tls"],
        variables: &["TLS"],
        graft: &["tls"],
        litestream: &["tls"],
        read: |draft, raw| draft.tls.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    Row {
        own: &["tls_first", "tls_handshake_first", "handshake_first"],
        variables: &["TLS_FIRST"],
        context: &["tls_first"],
        read: |draft, raw| draft.tls_first.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    Row {
        own: &["tls_ca", "ca", "ca_file", "tls_ca_file", "root_cas"],
        evo: &["tls_ca"],
        variables: &["TLS_CA", "CA_FILE", "CA"],
        graft: &["ca_file"],
        link: &["tls_ca_file"],
        litestream: &["root-cas"],
        context: &["ca"],
        read: |draft, raw| draft.authorities.put(raw, Raw::authorities),
        ..NO_NAMES
    },
    Row {
        own: &["tls_ca_pem"],
        link: &["tls_ca"],
        read: |draft, raw| draft.authority_text.put(raw, Raw::authority_text),
        ..NO_NAMES
    },
    Row {
        own: &["tls_cert", "cert_file", "cert", "client_cert"],
        evo: &["tls_cert"],
        variables: &["TLS_CERT", "CERT_FILE", "CERT"],
        graft: &["cert_file"],
        litestream: &["client-cert"],
        context: &["cert"],
        read: |draft, raw| draft.certificate.put(raw, Raw::readable),
        ..NO_NAMES
    },
    Row {
        own: &["tls_key", "key_file", "key", "client_key"],
        evo: &["tls_key"],
        variables: &["TLS_KEY", "KEY_FILE", "KEY"],
        graft: &["key_file"],
        litestream: &["client-key"],
        context: &["key"],
        read: |draft, raw| draft.certificate_key.put(raw, Raw::readable),
        ..NO_NAMES
    },
    Row {
        own: &["insecure_skip_verify", "tls_insecure"],
        variables: &["INSECURE_SKIP_VERIFY"],
        graft: &["insecure_skip_verify"],
        read: |draft, raw| draft.insecure.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    // How patient to be.
    Row {
        own: &["max_reconnect", "max_reconnects"],
        evo: &["max_reconnect"],
        variables: &["MAX_RECONNECT", "RETRIES"],
        graft: &["retries"],
        litestream: &["max-reconnects"],
        read: |draft, raw| draft.reconnects.put(raw, |raw| raw.parse(value::reconnects)),
        ..NO_NAMES
    },
    Row {
        own: &["reconnect_wait"],
        evo: &["reconnect_wait"],
        variables: &["RECONNECT_WAIT", "RETRY_INTERVAL"],
        graft: &["retry_interval"],
        litestream: &["reconnect-wait"],
        read: |draft, raw| draft.reconnect_wait.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        own: &["connect_timeout", "timeout"],
        variables: &["CONNECT_TIMEOUT", "TIMEOUT"],
        evo: &["connect_timeout"],
        graft: &["timeout"],
        litestream: &["timeout"],
        read: |draft, raw| draft.connect_timeout.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        own: &["request_timeout"],
        variables: &["REQUEST_TIMEOUT"],
        read: |draft, raw| draft.request_timeout.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        own: &["ping_interval"],
        variables: &["PING_INTERVAL"],
        read: |draft, raw| draft.ping_interval.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        own: &["randomize"],
        evo: &["randomize"],
        variables: &["RANDOMIZE"],
        read: |draft, raw| draft.randomize.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    // Which part of the account.
    Row {
        own: &["connection_name"],
        variables: &["CONNECTION_NAME"],
        read: |draft, raw| draft.name.put(raw, Raw::text),
        ..NO_NAMES
    },
    Row {
        own: &["domain", "js_domain", "jetstream_domain"],
        variables: &["JS_DOMAIN", "JETSTREAM_DOMAIN"],
        link: &["js_domain"],
        context: &["jetstream_domain"],
        read: |draft, raw| draft.domain.put(raw, Raw::subject_part),
        ..NO_NAMES
    },
    Row {
        own: &["api_prefix", "js_api_prefix", "jetstream_api_prefix"],
        variables: &["JS_API_PREFIX", "JETSTREAM_API_PREFIX"],
        context: &["jetstream_api_prefix"],
        read: |draft, raw| draft.api_prefix.put(raw, Raw::subject_part),
        ..NO_NAMES
    },
    Row {
        own: &["inbox_prefix"],
        variables: &["INBOX_PREFIX"],
        context: &["inbox_prefix"],
        read: |draft, raw| draft.inbox_prefix.put(raw, Raw::subject_part),
        ..NO_NAMES
    },
    // What the parts that use a connection want to know.
    Row {
        own: &["bucket", "default_bucket"],
        variables: &["DEFAULT_BUCKET"],
        evo: &["default_bucket"],
        link: &["bucket"],
        litestream: &["bucket"],
        rate_sync: &["bucket_name"],
        read: |draft, raw| draft.bucket.put(raw, Raw::text),
        ..NO_NAMES
    },
    Row {
        own: &["auto_create"],
        link: &["enable_bucket_auto_create"],
        rate_sync: &["auto_create"],
        read: |draft, raw| draft.auto_create.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    Row {
        own: &["drain_timeout"],
        evo: &["drain_timeout"],
        variables: &["DRAIN_TIMEOUT"],
        read: |draft, raw| draft.drain_timeout.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        variables: &["RETRY_BACKOFF"],
        graft: &["retry_backoff"],
        read: |draft, raw| draft.retry_backoff.put(raw, |raw| raw.parse(value::factor)),
        ..NO_NAMES
    },
    Row {
        variables: &["MAX_RETRY_INTERVAL"],
        graft: &["max_retry_interval"],
        read: |draft, raw| draft.retry_wait_max.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        variables: &["CACHE_TTL"],
        graft: &["cache_ttl"],
        read: |draft, raw| draft.cache_ttl.put(raw, |raw| raw.parse(value::duration)),
        ..NO_NAMES
    },
    Row {
        variables: &["STREAMING_THRESHOLD"],
        graft: &["streaming_threshold"],
        read: |draft, raw| draft.streaming_threshold.put(raw, |raw| raw.parse(value::size)),
        ..NO_NAMES
    },
    Row {
        variables: &["AUDIT_LOGGING"],
        graft: &["audit_logging"],
        read: |draft, raw| draft.audit_logging.put(raw, |raw| raw.parse(value::boolean)),
        ..NO_NAMES
    },
    Row {
        rate_sync: &["retry_interval"],
        read: |draft, raw| draft.conflict_wait.put(raw, |raw| raw.parse(value::seconds)),
        ..NO_NAMES
    },
    Row {
        rate_sync: &["max_retries"],
        read: |draft, raw| draft.conflicts_max.put(raw, |raw| raw.parse(value::count)),
        ..NO_NAMES
    },
    Row {
        rate_sync: &["timing_margin_ms"],
        read: |draft, raw| draft.timing_margin.put(raw, |raw| raw.parse(value::milliseconds)),
        ..NO_NAMES
    },
    // Known, and of no use here.
    Row { context: &["name", "description", "color_scheme", "jetstream_event_prefix"], ..NO_NAMES },
    Row {
        context: &[
            "nsc",
            "windows_ca_certs_match",
            "windows_cert_match",
            "windows_cert_match_by",
            "windows_cert_store",
        ],
        read: |_, raw| raw.refuse("name files instead: `creds`, `cert`, `key`, `ca`"),
        ..NO_NAMES
    },
    Row {
        variables: &["SOCKS_PROXY"],
        context: &["socks_proxy"],
        read: |_, raw| raw.refuse("Jetbridge does not connect through SOCKS proxies"),
        ..NO_NAMES
    },
];

impl Dialect {
    /// True if `name` is a setting here: whoever reads other things from the same map leaves
    /// these to [`read`](super::read()).
    pub fn knows(self, name: &str) -> bool {
        self.row(name).is_some()
    }

    /// The row that `name` means here, if any. Case, `-`, `_` and `.` make no difference.
    pub(super) fn row(self, name: &str) -> Option<&'static Row> {
        let has = |names: &[&str]| names.iter().any(|known| same_name(known, name));
        let rows = || TABLE.iter();
        rows()
            .find(|row| has(row.names_in(self)))
            .or_else(|| rows().find(|row| self.takes_own_names() && has(row.own)))
    }

    /// True if `name` is where the server stands.
    pub(super) fn is_server(self, name: &str) -> bool {
        self.row(name).is_some_and(|row| row.own.first() == Some(&"server"))
    }

    /// Every name that means something here.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().flat_map(move |row| {
            let own = if self.takes_own_names() { row.own } else { &[] };
            row.names_in(self).iter().chain(own).copied()
        })
    }

    /// What the setting that we call `own` is called here.
    pub(super) fn name_of(self, own: &'static str) -> &'static str {
        let row = TABLE.iter().find(|row| row.own.first() == Some(&own));
        row.and_then(|row| row.names_in(self).first()).unwrap_or(&own)
    }

    /// Contexts and variables belong to others: what Jetbridge adds is not looked for there.
    fn takes_own_names(self) -> bool {
        !matches!(self, Self::Context | Self::Variables)
    }
}

impl Row {
    pub(super) fn names_in(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Context => self.context,
            Dialect::Evo => self.evo,
            Dialect::Graft => self.graft,
            Dialect::Link => self.link,
            Dialect::Litestream => self.litestream,
            Dialect::RateSync => self.rate_sync,
            Dialect::Store => self.own,
            Dialect::Variables => self.variables,
        }
    }
}

fn same_name(known: &str, written: &str) -> bool {
    let plain =
        |byte: u8| if matches!(byte, b'-' | b'.') { b'_' } else { byte.to_ascii_lowercase() };
    known.len() == written.len()
        && known.bytes().zip(written.bytes()).all(|(a, b)| plain(a) == plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 8] = [
        Dialect::Context,
        Dialect::Evo,
        Dialect::Graft,
        Dialect::Link,
        Dialect::Litestream,
        Dialect::RateSync,
        Dialect::Store,
        Dialect::Variables,
    ];

    #[test]
    fn no_dialect_has_a_name_for_two_settings() {
        for dialect in ALL {
            for (index, row) in TABLE.iter().enumerate() {
                for name in row.names_in(dialect) {
                    let others = TABLE.iter().skip(index + 1);
                    for other in others {
                        let clash = other.names_in(dialect).iter().any(|it| same_name(it, name));
                        assert!(!clash, "{dialect:?} has `{name}` twice");
                    }
                }
            }
        }
    }

    #[test]
    fn a_dialect_knows_its_own_names_and_ours() {
        assert!(Dialect::Litestream.knows("root-cas") && Dialect::Litestream.knows("domain"));
        assert!(!Dialect::Litestream.knows("sync-interval") && !Dialect::Context.knows("domain"));
        assert!(Dialect::Link.knows("CLUSTER_URI"));
    }

    #[test]
    fn names_are_alike_whatever_their_case_and_joints() {
        for name in ["TLS_CA", "tls-ca", "Tls.Ca"] {
            assert!(same_name("tls_ca", name), "{name}");
        }
        assert!(!same_name("tls_ca", "tls_c") && !same_name("tls_ca", "tlsca"));
    }
}
