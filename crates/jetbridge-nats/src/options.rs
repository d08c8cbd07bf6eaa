//! How to reach and enter a NATS account, as types. Where the values come from (files, variables,
//! flags) is the business of `jetbridge::settings`; nothing here reads anything.

use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::Secret;

/// Everything a connection needs to know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Server addresses: `nats://`, `tls://`, `ws://` or `wss://`, a host and a port, without
    /// user information, which belongs in `auth`.
    pub servers: Vec<String>,
    /// How to log in.
    pub auth: Auth,
    /// Encryption.
    pub tls: Tls,
    /// Attempts to reconnect to each server before giving up; `None` is for ever.
    pub reconnects_max: Option<usize>,
    /// Longest wait between two attempts to reconnect; shorter ones lead up to it, with jitter.
    pub reconnect_wait: Duration,
    /// Time for one attempt to connect, handshake and login included.
    pub connect_timeout: Duration,
    /// Time for one request to the server, retries included.
    pub request_timeout: Duration,
    /// How often the server is asked for a sign of life.
    pub ping_interval: Duration,
    /// Choose among the servers at random; else in the order given.
    pub randomize: bool,
    /// Return from connecting before a server was reached, and go on trying.
    pub connect_in_background: bool,
    /// Ask for the level of the server's API while connecting, which is a round trip. Else its
    /// version stands in until a bucket says more.
    pub ask_level: bool,
    /// The connection's name, as the server's monitoring shows it.
    pub name: Option<String>,
    /// JetStream domain.
    pub domain: Option<String>,
    /// Prefix of JetStream's API subjects, instead of `$JS.API`; excludes `domain`.
    pub api_prefix: Option<String>,
    /// Prefix of reply subjects, instead of `_INBOX`.
    pub inbox_prefix: Option<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            auth: Auth::None,
            tls: Tls::default(),
            reconnects_max: None,
            reconnect_wait: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            randomize: true,
            connect_in_background: false,
            ask_level: true,
            name: None,
            domain: None,
            api_prefix: None,
            inbox_prefix: None,
        }
    }
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Auth {
    /// As nobody.
    #[default]
    None,
    /// By a token.
    Token(Secret<String>),
    /// By user name and password.
    UserPassword {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// By signing the server's challenge with the key of this seed (`SU…`).
    NkeySeed(Secret<String>),
    /// As [`Auth::NkeySeed`], the seed being read from a file at every connect.
    NkeyFile(PathBuf),
    /// By a user JWT, signing the challenge with the key of the seed.
    Jwt {
        /// The user JWT.
        jwt: Secret<String>,
        /// The seed of the key it names.
        seed: Secret<String>,
    },
    /// By the text of a creds file.
    Creds(Secret<String>),
    /// By a creds file, read at every connect.
    CredsFile(PathBuf),
}

/// Encryption of the connection.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tls {
    /// Refuse a server that does not encrypt.
    pub required: bool,
    /// Encrypt before the server's first word, as servers with `handshake_first` want it.
    pub handshake_first: bool,
    /// Authorities to trust: PEM text with any number of certificates. Empty: the system's.
    pub ca_pem: Vec<String>,
    /// Files of authorities to trust, each PEM with any number of certificates.
    pub ca_files: Vec<PathBuf>,
    /// A client certificate.
    pub client: Option<ClientCertificate>,
    /// Trust any certificate. For tests only; every connection says so in the log.
    pub insecure: bool,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a certificate and its key are a pair")]
pub struct ClientCertificate {
    /// PEM file with the certificate chain.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}
