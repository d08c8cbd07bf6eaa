//! Logins of a server in operator mode: an operator vouches for accounts, an account for users.
//!
//! Each is a key pair and a token signed by the one above; the server is given the operator's and
//! the accounts' tokens, and a user presents its own and signs a challenge.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jetbridge_core::{Clock as _, SystemClock};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// Vouches for accounts.
#[derive(Debug)]
pub struct Operator {
    keys: KeyPair,
    system: Account,
}

/// Vouches for users; its messages and streams are its own.
#[derive(Debug)]
pub struct Account {
    keys: KeyPair,
    jwt: String,
}

/// What a user logs in with.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a token and the key it names")]
pub struct UserLogin {
    /// The token.
    pub jwt: String,
    /// The seed of the key it names.
    pub seed: String,
}

/// What a user may do; by default everything, for ever.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grant {
    /// Subjects to publish to; empty is all.
    pub publish: Vec<String>,
    /// Subjects to subscribe to; empty is all.
    pub subscribe: Vec<String>,
    /// The token is good for this long.
    pub expires_in: Option<Duration>,
}

impl Grant {
    /// Everything, for ever.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these subjects to publish to.
    #[must_use]
    pub fn publish(mut self, subjects: &[&str]) -> Self {
        self.publish = subjects.iter().map(ToString::to_string).collect();
        self
    }

    /// Only these subjects to subscribe to.
    #[must_use]
    pub fn subscribe(mut self, subjects: &[&str]) -> Self {
        self.subscribe = subjects.iter().map(ToString::to_string).collect();
        self
    }

    /// Only for this long.
    #[must_use]
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires_in = Some(after);
        self
    }
}

impl Operator {
    /// A new operator, with the system account that JetStream wants.
    pub fn new() -> Self {
        let keys = KeyPair::new_operator();
        let system = Account::new("SYS", &keys, json!({}));
        Self { keys, system }
    }

    /// A new account with JetStream and no limits.
    pub fn account(&self, name: &str) -> Account {
        Account::new(name, &self.keys, json!({"mem_storage": -1, "disk_storage": -1}))
    }

    /// The text that makes a server trust this operator and know these accounts, for
    /// [`ServerOptions::config`](crate::ServerOptions::config).
    pub fn server_config(&self, accounts: &[&Account]) -> String {
        let system = self.system.keys.public_key();
        let claims = json!({"type": "operator", "version": 2, "system_account": system});
        let operator = sign(&Token {
            issuer: &self.keys,
            subject: &self.keys,
            name: "operator",
            nats: claims,
            expires_in: None,
        });
        let known: String = [&self.system]
            .iter()
            .chain(accounts)
            .map(|account| format!("  {}: {}\n", account.keys.public_key(), account.jwt))
            .collect();
        format!(
            "operator: {operator}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{\n{known}}}\n"
        )
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self::new()
    }
}

impl Account {
    fn new(name: &str, operator: &KeyPair, storage: Value) -> Self {
        let keys = KeyPair::new_account();
        let mut limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1, "streams": -1, "consumer": -1,
        });
        if let (Value::Object(limits), Value::Object(storage)) = (&mut limits, storage) {
            limits.extend(storage);
        }
        let claims = json!({"type": "account", "version": 2, "limits": limits});
        let jwt =
            sign(&Token { issuer: operator, subject: &keys, name, nats: claims, expires_in: None });
        Self { keys, jwt }
    }

    /// A new user of this account.
    pub fn user(&self, name: &str, grant: &Grant) -> UserLogin {
        let keys = KeyPair::new_user();
        let allow = |subjects: &[String]| {
            if subjects.is_empty() { json!({}) } else { json!({"allow": subjects}) }
        };
        let claims = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": allow(&grant.publish), "sub": allow(&grant.subscribe),
        });
        let jwt = sign(&Token {
            issuer: &self.keys,
            subject: &keys,
            name,
            nats: claims,
            expires_in: grant.expires_in,
        });
        UserLogin { jwt, seed: keys.seed().expect("a new key has a seed") }
    }
}

impl UserLogin {
    /// The text of a creds file.
    pub fn creds(&self) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            self.jwt, self.seed
        )
    }
}

/// A key that a server's `users` list names without any token.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the two halves of a key pair")]
pub struct UserKey {
    /// What the server is given, `U…`.
    pub public: String,
    /// What the user signs with, `SU…`.
    pub seed: String,
}

impl UserKey {
    /// A new key.
    pub fn new() -> Self {
        let keys = KeyPair::new_user();
        Self { public: keys.public_key(), seed: keys.seed().expect("a new key has a seed") }
    }
}

impl Default for UserKey {
    fn default() -> Self {
        Self::new()
    }
}

struct Token<'a> {
    issuer: &'a KeyPair,
    subject: &'a KeyPair,
    name: &'a str,
    nats: Value,
    expires_in: Option<Duration>,
}

fn sign(token: &Token<'_>) -> String {
    let now = SystemClock.now();
    let mut claims = json!({
        "jti": jetbridge_core::random::name(),
        "iat": unix_seconds(now),
        "iss": token.issuer.public_key(),
        "name": token.name,
        "sub": token.subject.public_key(),
        "nats": token.nats,
    });
    if let Some(after) = token.expires_in {
        claims["exp"] = json!(unix_seconds(now + after));
    }
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = token.issuer.sign(signed.as_bytes()).expect("own key");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
