//! Settings from one or several sources become what a connection needs to know.

use std::time::Duration;

use jetbridge_core::Result;
use jetbridge_nats::{ClientCertificate, ConnectOptions, Tls};

use super::draft::{Draft, FileOrText, Half, Raw};
use super::environment::Environment;
use super::login::take_login;
use super::place::{Place, Problem};
use super::source::{Entry, Node, Value};
use super::table::{Dialect, TABLE};
use super::url::{ServerList, parse_query};

/// A set of settings, all written in one dialect.
#[derive(Clone, Debug)]
pub struct Source {
    dialect: Dialect,
    entries: Vec<Entry>,
    also_known: Vec<&'static str>,
}

impl Source {
    /// Settings as they stand in a file.
    pub fn new(dialect: Dialect, entries: &[Entry]) -> Self {
        Self { dialect, entries: entries.to_vec(), also_known: Vec::new() }
    }

    /// The `NATS_*` variables.
    pub fn variables(environment: &Environment) -> Self {
        Self::prefixed("NATS_", environment)
    }

    /// The variables of a graft target: `NATS_<TARGET>_URL` and so on. What is no letter or
    /// digit in `target` is `_` in the variables' names.
    pub fn target(target: &str, environment: &Environment) -> Self {
        Self::prefixed(&target_prefix(target), environment)
    }

    /// A server by its URL, with the options after its `?`; `place` is who wrote it.
    pub fn url(dialect: Dialect, url: &str, place: &Place) -> Self {
        let entry = |name: &str, text: &str| Entry {
            name: name.to_owned(),
            place: place.clone(),
            node: Node::scalar(text, place.clone()),
        };
        let server = dialect.name_of("server");
        let entries = match url.split_once('?').map(|(servers, it)| (servers, parse_query(it))) {
            Some((servers, Ok(options))) => std::iter::once(entry(server, servers))
                .chain(options.iter().map(|(name, value)| entry(name, value)))
                .collect(),
            // What is wrong with the options is said when the servers are read.
            Some((_, Err(_))) | None => vec![entry(server, url)],
        };
        Self { dialect, entries, also_known: Vec::new() }
    }

    /// evo's settings in a tree: entries `NATS.KEY` or `NATS_KEY`, as in `KEY=value` files and
    /// on the command line, and the entries of a map called `nats`; a text there is the server.
    pub fn evo(root: &Node) -> Self {
        let mut entries = Vec::new();
        for entry in root.entries() {
            let name = evo_name(&entry.name);
            match (name, &entry.node.value) {
                (None, _) | (Some(""), Value::Null) => {}
                (Some(""), Value::Map(settings)) => entries.extend_from_slice(settings),
                (Some(name), _) => {
                    let name = if name.is_empty() { "server" } else { name }.to_owned();
                    entries.push(Entry { name, ..entry.clone() });
                }
            }
        }
        Self { dialect: Dialect::Evo, entries, also_known: Vec::new() }
    }

    /// Names that somebody else reads from the same map: they are passed over here, and offered
    /// when a name is misspelt.
    #[must_use]
    pub fn also_known(mut self, names: &[&'static str]) -> Self {
        self.also_known.extend_from_slice(names);
        self
    }

    /// True if nothing is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where its first setting stands.
    pub(super) fn place(&self) -> Option<&Place> {
        self.first().map(|entry| &entry.place)
    }

    /// Its first setting.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.first()
    }

    fn prefixed(prefix: &str, environment: &Environment) -> Self {
        let names = TABLE.iter().flat_map(|row| row.variables.iter().copied());
        let entries = names.filter_map(|name| {
            let variable = format!("{prefix}{name}");
            let value = environment.get(&variable)?;
            let place = Place::variable(variable);
            let node = Node::scalar(value, place.clone());
            Some(Entry { name: name.to_owned(), place, node })
        });
        let entries = entries.collect();
        Self { dialect: Dialect::Variables, entries, also_known: Vec::new() }
    }

    fn fill(
        &self,
        draft: &mut Draft,
        layer: usize,
        environment: &Environment,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for entry in &self.entries {
            if self.also_known.iter().any(|known| known.eq_ignore_ascii_case(&entry.name)) {
                continue;
            }
            let Some(row) = self.dialect.row(&entry.name) else {
                let unknown = format!("unknown key `{}`", entry.name);
                if self.dialect == Dialect::Context {
                    warnings.push(format!("{}: {unknown} is passed over", entry.place));
                    continue;
                }
                let known = self.dialect.names().chain(self.also_known.iter().copied());
                return Err(Problem::new(unknown).suggest(&entry.name, known).at(&entry.place));
            };
            let raw = Raw {
                name: &entry.name,
                node: &entry.node,
                place: &entry.place,
                layer,
                environment,
            };
            let read = (row.read)(draft, &raw).map_err(|problem| problem.of(entry))?;
            warnings.extend(read);
        }
        Ok(warnings)
    }
}

/// The variable that names the server of a graft target.
pub fn target_variable(target: &str) -> String {
    format!("{}URL", target_prefix(target))
}

fn target_prefix(target: &str) -> String {
    let upper = target
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("NATS_{}_", upper.collect::<String>())
}

/// What `NATS.` or `NATS_` stands before; nothing for `NATS` itself.
fn evo_name(name: &str) -> Option<&str> {
    const DOMAIN: &str = "NATS";
    let (domain, key) = name.split_at_checked(DOMAIN.len())?;
    let key = if key.is_empty() { key } else { key.strip_prefix(['.', '_'])? };
    domain.eq_ignore_ascii_case(DOMAIN).then_some(key)
}

/// What settings say about a connection, and what they say to its user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NatsSettings {
    /// The connection.
    pub connect: ConnectOptions,
    /// Where a server is named; `None` if none is, and `connect` has the dialect's default.
    pub server_place: Option<Place>,
    /// What follows the server in its URL: Litestream keeps the bucket there.
    pub path: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// Whether a missing bucket is made.
    pub auto_create: Option<bool>,
    /// Time that stopping may take.
    pub drain_timeout: Option<Duration>,
    /// By what the wait between two attempts grows (graft).
    pub retry_backoff: Option<f64>,
    /// Longest wait between two attempts (graft).
    pub retry_wait_max: Option<Duration>,
    /// How long a value that was read is kept (graft).
    pub cache_ttl: Option<Duration>,
    /// Bytes from which on an object is streamed (graft).
    pub streaming_threshold: Option<u64>,
    /// Whether each read is logged (graft).
    pub audit_logging: Option<bool>,
    /// Wait after a lost race (rate-sync).
    pub conflict_wait: Option<Duration>,
    /// Lost races before giving up (rate-sync).
    pub conflicts_max: Option<u64>,
    /// Margin for clocks that differ (rate-sync).
    pub timing_margin: Option<Duration>,
    /// What contradicts itself or does nothing.
    pub warnings: Vec<String>,
    reconnects_are_written: bool,
}

impl NatsSettings {
    /// For long-running programs: reconnects for ever unless the user wrote a number, whatever
    /// default a page prints.
    #[must_use]
    pub fn patient(mut self) -> Self {
        if !self.reconnects_are_written {
            self.connect.reconnects_max = None;
        }
        self
    }
}

/// Reads `sources`, of which each overrides those before it, into the settings of a connection.
/// The defaults and the order of logins are those of `dialect`.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput), with file, line and column or the
/// variable: for an unknown name, with the nearest known one; for a value that is none of its
/// kind; for half a login or half a client certificate; for a file that cannot be read; and for
/// two names of one setting that say different things.
pub fn read(
    dialect: Dialect,
    sources: &[Source],
    environment: &Environment,
) -> Result<NatsSettings> {
    read_over(dialect, dialect.defaults(), sources, environment)
}

/// As [`read`], over a connection that is there: what no source says is as it is in `base`. A
/// login, encryption and a place in the account each go as a whole.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_over(
    dialect: Dialect,
    base: ConnectOptions,
    sources: &[Source],
    environment: &Environment,
) -> Result<NatsSettings> {
    let mut draft = Draft::default();
    let mut warnings = Vec::new();
    for (layer, source) in sources.iter().enumerate() {
        warnings.extend(source.fill(&mut draft, layer, environment)?);
    }
    let (auth, warning) = take_login(&mut draft, dialect)?;
    warnings.extend(warning);
    let mut connect = base;
    connect.auth = auth.unwrap_or(connect.auth);
    warnings.extend(encryption(&mut draft, &mut connect, dialect)?);
    pace(&mut draft, &mut connect);
    let reconnects_are_written = draft.reconnects.value().is_some();
    if let Some(reconnects) = draft.reconnects.take() {
        connect.reconnects_max = reconnects;
    }
    subjects(&mut draft, &mut connect)?;
    let server_place = draft.servers.mention().map(|mention| mention.place.clone());
    let mut path = None;
    if let Some(list) = draft.servers.take() {
        connect.servers = list.servers;
        path = list.path;
    }
    Ok(NatsSettings {
        connect,
        server_place,
        path,
        bucket: draft.bucket.take(),
        auto_create: draft.auto_create.take(),
        drain_timeout: draft.drain_timeout.take(),
        retry_backoff: draft.retry_backoff.take(),
        retry_wait_max: draft.retry_wait_max.take(),
        cache_ttl: draft.cache_ttl.take(),
        streaming_threshold: draft.streaming_threshold.take(),
        audit_logging: draft.audit_logging.take(),
        conflict_wait: draft.conflict_wait.take(),
        conflicts_max: draft.conflicts_max.take(),
        timing_margin: draft.timing_margin.take(),
        warnings,
        reconnects_are_written,
    }
    .with_printed_defaults(dialect))
}

impl Dialect {
    /// What the dialect's page prints, where it prints something.
    fn defaults(self) -> ConnectOptions {
        let mut options = ConnectOptions::default();
        match self {
            Self::Evo => {
                options.reconnects_max = Some(5);
                options.reconnect_wait = Duration::from_secs(2);
                options.connect_timeout = Duration::from_secs(5);
                options.randomize = true;
            }
            Self::Graft => {
                options.reconnects_max = Some(3);
                options.reconnect_wait = Duration::from_secs(1);
                options.connect_timeout = Duration::from_secs(5);
            }
            Self::Litestream => {
                options.reconnects_max = Some(60);
                options.reconnect_wait = Duration::from_secs(2);
                options.connect_timeout = Duration::from_secs(10);
            }
            Self::Context | Self::Link | Self::RateSync | Self::Store | Self::Variables => {}
        }
        options
    }
}

impl NatsSettings {
    fn with_printed_defaults(mut self, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Evo => {
                self.bucket.get_or_insert_with(|| "default".to_owned());
                self.drain_timeout.get_or_insert(Duration::from_secs(30));
            }
            Dialect::Graft => {
                self.retry_backoff.get_or_insert(2.0);
                self.retry_wait_max.get_or_insert(Duration::from_secs(30));
                self.cache_ttl.get_or_insert(Duration::from_secs(300));
                self.streaming_threshold.get_or_insert(10 << 20);
                self.audit_logging.get_or_insert(false);
            }
            Dialect::RateSync => {
                self.bucket.get_or_insert_with(|| "rate_limits".to_owned());
                self.auto_create.get_or_insert(false);
                self.conflict_wait.get_or_insert(Duration::from_millis(50));
                self.conflicts_max.get_or_insert(100);
                self.timing_margin.get_or_insert(Duration::from_millis(10));
            }
            Dialect::Context
            | Dialect::Link
            | Dialect::Litestream
            | Dialect::Store
            | Dialect::Variables => {}
        }
        self
    }
}

/// Fills in encryption; the texts are warnings.
fn encryption(
    draft: &mut Draft,
    connect: &mut ConnectOptions,
    dialect: Dialect,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let client = client_certificate(draft, dialect)?;
    if !draft.names_encryption() {
        return Ok(warnings);
    }
    connect.tls = Tls::default();
    let first = draft.tls_first.written().filter(|written| written.value);
    let insecure = draft.insecure.written().filter(|written| written.value);
    let implied_by = [
        draft.authorities.mention(),
        draft.authority_text.mention(),
        draft.certificate.mention(),
        first.map(|written| &written.mention),
    ]
    .into_iter()
    .flatten()
    .next();
    if let Some(off) = draft.tls.written().filter(|written| !written.value) {
        let name = off.mention.describe();
        if let Some(server) = draft.servers.value().and_then(ServerList::encrypted) {
            return Err(Problem::new(format!(
                "`{}` is false, but a server is `{server}`",
                off.mention.name
            ))
            .hint("leave one of them out")
            .at(&off.mention.place));
        }
        let ignored =
            implied_by.map(|other| format!("{name} is false, so {} is not used", other.describe()));
        return Ok(ignored.into_iter().collect());
    }
    if let Some(insecure) = insecure {
        let name = insecure.mention.describe();
        warnings.push(format!("{name} trusts any certificate: for tests only"));
    }
    connect.tls.required = draft.tls.value().is_some() || implied_by.is_some();
    connect.tls.handshake_first = first.is_some();
    connect.tls.insecure = insecure.is_some();
    connect.tls.client = client;
    warnings.extend(authorities(draft, connect));
    Ok(warnings)
}

/// Fills in who is trusted. Nobody named is the system's authorities, which the connection looks
/// up: they honour `SSL_CERT_FILE`.
fn authorities(draft: &Draft, connect: &mut ConnectOptions) -> Option<String> {
    if let Some(text) = draft.authority_text.written() {
        connect.tls.ca_pem.push(text.value.clone());
        return draft.authorities.mention().map(|files| {
            let text = text.mention.describe();
            format!("{text} and {} both name authorities; {text} is used", files.describe())
        });
    }
    for authority in draft.authorities.value().into_iter().flatten() {
        match authority {
            FileOrText::File(path) => connect.tls.ca_files.push(path.clone()),
            FileOrText::Text(pem) => connect.tls.ca_pem.push(pem.expose().clone()),
        }
    }
    None
}

fn client_certificate(draft: &mut Draft, dialect: Dialect) -> Result<Option<ClientCertificate>> {
    const HINT: &str = "a client certificate needs its key, and a key its certificate";
    let (certificate, key) = (draft.certificate.mention(), draft.certificate_key.mention());
    let half = Half::of(certificate, key, "tls_key", HINT)
        .or_else(|| Half::of(key, certificate, "tls_cert", HINT));
    if let Some(half) = half {
        return Err(half.problem(dialect));
    }
    let files = draft.certificate.value().cloned().zip(draft.certificate_key.take());
    Ok(files.map(|(certificate_file, key_file)| ClientCertificate { certificate_file, key_file }))
}

fn pace(draft: &mut Draft, connect: &mut ConnectOptions) {
    let set = |target: &mut Duration, written: Option<Duration>| {
        if let Some(duration) = written {
            *target = duration;
        }
    };
    set(&mut connect.reconnect_wait, draft.reconnect_wait.take());
    set(&mut connect.connect_timeout, draft.connect_timeout.take());
    set(&mut connect.request_timeout, draft.request_timeout.take());
    set(&mut connect.ping_interval, draft.ping_interval.take());
    if let Some(randomize) = draft.randomize.take() {
        connect.randomize = randomize;
    }
}

fn subjects(draft: &mut Draft, connect: &mut ConnectOptions) -> Result<()> {
    if let (Some(domain), Some(prefix)) = (draft.domain.mention(), draft.api_prefix.mention()) {
        let message = format!("{} is set too: a domain is an API prefix", domain.describe());
        return Err(Problem::new(message).hint("keep one of them").at(&prefix.place));
    }
    if draft.domain.value().is_some() || draft.api_prefix.value().is_some() {
        connect.domain = draft.domain.take();
        connect.api_prefix = draft.api_prefix.take();
    }
    let over = |base: &mut Option<String>, written: Option<String>| *base = written.or(base.take());
    over(&mut connect.name, draft.name.take());
    over(&mut connect.inbox_prefix, draft.inbox_prefix.take());
    Ok(())
}
