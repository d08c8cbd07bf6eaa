//! The ways to write one connection: each program's names, variables, contexts, URLs.

use std::path::{Path, PathBuf};

use jetbridge::settings::{
    Dialect, Environment, Location, Source, StoreRequest, parse_pairs, parse_yaml, read, resolve,
};

use super::realm::{Encryption, Login, Realm, Secrets, USER};

/// Whose names, and in which file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Context,
    Evo,
    Graft,
    Link,
    Litestream,
    RateSync,
    Store,
    Url,
    Variables,
}

/// A login as one form writes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    pub(super) entries: Vec<(&'static str, String)>,
    /// What stands before the host of the URL.
    pub(super) in_url: String,
}

impl Entries {
    fn one(name: &'static str, value: &str) -> Self {
        Self { entries: vec![(name, value.to_owned())], in_url: String::new() }
    }

    fn two(first: (&'static str, &str), second: (&'static str, &str)) -> Self {
        let entries = [first, second].map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { entries, in_url: String::new() }
    }

    fn url(login: String) -> Self {
        Self { entries: Vec::new(), in_url: login }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

impl Form {
    pub(super) const ALL: [Self; 9] = [
        Self::Context,
        Self::Evo,
        Self::Graft,
        Self::Link,
        Self::Litestream,
        Self::RateSync,
        Self::Store,
        Self::Url,
        Self::Variables,
    ];

    /// The names of the server, and the URL with its login and options.
    pub(super) fn server(
        self,
        address: &str,
        encryption: Encryption,
        login: &Entries,
    ) -> Vec<(&'static str, String)> {
        let name = match self {
            Self::Evo => "SERVER",
            Self::Link => "CLUSTER_URI",
            Self::Context
            | Self::Graft
            | Self::Litestream
            | Self::RateSync
            | Self::Store
            | Self::Url => "url",
            Self::Variables => "NATS_URL",
        };
        let at = if login.in_url.is_empty() { "" } else { "@" };
        // The pages that print `tls: true` write `nats://` beside it, and a link has no scheme.
        let scheme = match self {
            Self::Link if login.in_url.is_empty() => "",
            Self::Url if encryption != Encryption::Plain => "tls://",
            _ => "nats://",
        };
        vec![(name, format!("{scheme}{}{at}{address}", login.in_url))]
    }

    /// The ways in which this form writes a login; none if its program knows none and our own
    /// names are tried elsewhere.
    pub(super) fn logins(self, login: Login, secrets: &Secrets) -> Vec<Entries> {
        let encoded =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let token = |name| vec![Entries::one(name, &secrets.token)];
        let user = |name, word| vec![Entries::two((name, USER), (word, &secrets.password))];
        let jwt =
            |name, seed| Entries::two((name, &secrets.signed.jwt), (seed, &secrets.signed.seed));
        let (nkey_file, creds_file) = (path(&secrets.nkey_file), path(&secrets.creds_file));
        let (seed, creds) = (&secrets.key.seed, secrets.signed.creds());
        let in_url = match login {
            Login::Token => vec![Entries::url(encoded(&secrets.token))],
            Login::UserPassword => {
                vec![Entries::url(format!("{USER}:{}", encoded(&secrets.password)))]
            }
            Login::Jwt | Login::Nkey => Vec::new(),
        };
        match (self, login) {
            (Self::Context | Self::Litestream | Self::RateSync, Login::Token) => token("token"),
            (Self::Evo, Login::Token) => token("TOKEN"),
            (Self::Variables, Login::Token) => token("NATS_TOKEN"),
            (Self::Store, Login::Token) => [token("token"), in_url].concat(),
            (Self::Context, Login::UserPassword) => user("user", "password"),
            (Self::Evo, Login::UserPassword) => user("USERNAME", "PASSWORD"),
            (Self::Litestream, Login::UserPassword) => user("username", "password"),
            (Self::Store, Login::UserPassword) => [user("username", "password"), in_url].concat(),
            (Self::Variables, Login::UserPassword) => {
                [user("NATS_USERNAME", "NATS_PASSWORD"), user("NATS_USER", "NATS_PASSWORD")]
                    .concat()
            }
            (Self::Graft | Self::Url | Self::Link, Login::Token | Login::UserPassword) => in_url,
            (Self::Context, Login::Nkey) => vec![Entries::one("nkey", &nkey_file)],
            (Self::Evo, Login::Nkey) => vec![Entries::one("NKEY_FILE", &nkey_file)],
            (Self::Litestream | Self::Store, Login::Nkey) => {
                vec![Entries::one("nkey", seed), Entries::one("nkey", &nkey_file)]
            }
            (Self::Url, Login::Nkey) => vec![Entries::one("nkey", &nkey_file)],
            (Self::Variables, Login::Nkey) => {
                vec![Entries::one("NATS_NKEY", seed), Entries::one("NATS_NKEY_FILE", &nkey_file)]
            }
            (Self::Context, Login::Jwt) => {
                vec![jwt("user_jwt", "user_seed"), Entries::one("creds", &creds_file)]
            }
            (Self::Evo, Login::Jwt) => vec![Entries::one("CREDENTIALS", &creds_file)],
            (Self::Link, Login::Jwt) => {
                vec![jwt("CLIENT_JWT", "CLIENT_SEED"), jwt("client_jwt", "client_seed")]
            }
            (Self::Litestream | Self::Store, Login::Jwt) => {
                vec![jwt("jwt", "seed"), Entries::one("creds", &creds_file)]
            }
            (Self::Url, Login::Jwt) => vec![Entries::one("creds", &creds_file)],
            (Self::Variables, Login::Jwt) => vec![
                jwt("NATS_JWT", "NATS_SEED"),
                Entries::one("NATS_CREDENTIALS", &creds_file),
                Entries::one("NATS_CREDS", &creds),
            ],
            (Self::Graft | Self::RateSync | Self::Link, _) => Vec::new(),
        }
    }

    /// Who is trusted and who the client is, in this form's names.
    pub(super) fn encryption(self, realm: &Realm) -> Vec<(&'static str, String)> {
        let ca = path(&realm.certificates.ca_file());
        let pem = realm.certificates.ca_pem().to_owned();
        let names = self.tls_names();
        match realm.encryption {
            Encryption::Plain => Vec::new(),
            Encryption::CaFile => vec![(names.ca, ca)],
            Encryption::CaText => vec![(names.ca_text, pem)],
            Encryption::SeveralCas => {
                vec![(names.ca_text, format!("{}{pem}", realm.stranger.ca_pem()))]
            }
            Encryption::ClientCertificate => vec![
                (names.ca, ca),
                (names.certificate, path(&realm.certificates.client_certificate_file())),
                (names.key, path(&realm.certificates.client_key_file())),
            ],
            Encryption::HandshakeFirst => {
                vec![(names.ca, ca), (names.first, "true".to_owned())]
            }
        }
    }

    fn tls_names(self) -> TlsNames {
        let names = |ca, ca_text, certificate, key, first| TlsNames {
            ca,
            ca_text,
            certificate,
            key,
            first,
        };
        match self {
            // A context names files alone; its text of authorities is our own extension.
            Self::Context => names("ca", "ca", "cert", "key", "tls_first"),
            Self::Evo => names("TLS_CA", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_FIRST"),
            Self::Graft => names("ca_file", "ca_file", "cert_file", "key_file", "tls_first"),
            Self::Link => names("TLS_CA_FILE", "TLS_CA", "tls_cert", "tls_key", "tls_first"),
            Self::Litestream => {
                names("root-cas", "root-cas", "client-cert", "client-key", "tls-first")
            }
            Self::RateSync | Self::Store | Self::Url => {
                names("tls_ca", "tls_ca_pem", "tls_cert", "tls_key", "tls_first")
            }
            Self::Variables => {
                names("NATS_CA_FILE", "NATS_TLS_CA", "NATS_CERT", "NATS_KEY", "NATS_TLS_FIRST")
            }
        }
    }
}

struct TlsNames {
    ca: &'static str,
    ca_text: &'static str,
    certificate: &'static str,
    key: &'static str,
    first: &'static str,
}

/// One connection, written in one form.
pub(super) struct Writing {
    form: Form,
    entries: Vec<(&'static str, String)>,
    directory: PathBuf,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.entries.iter().map(|(name, _)| *name);
        write!(f, "{:?} with {}", self.form, names.collect::<Vec<_>>().join(", "))
    }
}

impl Writing {
    pub(super) fn new(form: Form, entries: Vec<(&'static str, String)>, directory: &Path) -> Self {
        Self { form, entries, directory: directory.to_path_buf() }
    }

    /// What the settings make of it.
    pub(super) fn location(&self) -> Location {
        match self.form {
            Form::Context => {
                std::fs::create_dir_all(self.directory.join("nats/context")).unwrap();
                let file = self.directory.join("nats/context/it.json");
                std::fs::write(file, self.json()).unwrap();
                let environment = [("XDG_CONFIG_HOME", path(&self.directory))];
                let request = StoreRequest::new().context(Some("it".to_owned()));
                resolve(&request, &environment.into_iter().collect()).unwrap().location
            }
            Form::Evo => {
                let lines =
                    self.entries.iter().map(|(name, value)| format!("NATS.{name}={value:?}\n"));
                let root = parse_pairs("app.env", &lines.collect::<String>()).unwrap();
                let settings = read(Dialect::Evo, &[Source::evo(&root)], &Environment::default());
                Location::Nats(Box::new(settings.unwrap().connect))
            }
            Form::Graft => self.section(Dialect::Graft),
            Form::Link => self.section(Dialect::Link),
            Form::Litestream => self.section(Dialect::Litestream),
            Form::RateSync => self.section(Dialect::RateSync),
            Form::Store => {
                let root = parse_yaml("app.yml", &format!("store: {}", self.json())).unwrap();
                let request = StoreRequest::new().file(&root);
                resolve(&request, &Environment::default()).unwrap().location
            }
            Form::Url => {
                let (_, server) = &self.entries[0];
                let options = self.entries[1..].iter().map(|(name, value)| {
                    let bytes = value.bytes().map(|byte| format!("%{byte:02X}"));
                    format!("{name}={}", bytes.collect::<String>())
                });
                let options = options.collect::<Vec<_>>().join("&");
                let url = format!("{server}?{options}");
                let request = StoreRequest::new().store(Some(url));
                resolve(&request, &Environment::default()).unwrap().location
            }
            Form::Variables => {
                let environment = self.entries.iter().cloned().collect();
                resolve(&StoreRequest::new(), &environment).unwrap().location
            }
        }
    }

    fn section(&self, dialect: Dialect) -> Location {
        let root = parse_yaml("app.yml", &self.json()).unwrap();
        let source = Source::new(dialect, root.entries());
        let settings = read(dialect, &[source], &Environment::default()).unwrap();
        Location::Nats(Box::new(settings.connect))
    }

    /// A map whose values are quoted; JSON is YAML too.
    fn json(&self) -> String {
        let map: serde_json::Map<String, serde_json::Value> = self
            .entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        serde_json::Value::Object(map).to_string()
    }
}
