//! A server's idea of who may enter and how it encrypts, with the secrets that go with it.

use std::path::{Path, PathBuf};

use jetbridge::nats::{ConnectOptions, Permissions};
use jetbridge_core::{BucketKind, BucketName, Pattern};
use jetbridge_testkit::jwt::{Account, Grant, Operator, UserKey, UserLogin};
use jetbridge_testkit::{Certificates, NatsServer};
use tempfile::TempDir;

use super::writing::{Form, Writing};

/// How a server lets users in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Login {
    Token,
    UserPassword,
    Nkey,
    Jwt,
}

impl Login {
    /// What the hint of a refused login names.
    pub(super) fn to_fix(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::UserPassword => "password",
            Self::Nkey => "nkey",
            Self::Jwt => "JWT",
        }
    }
}

/// How a server encrypts, and who the client is told to trust.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encryption {
    Plain,
    CaFile,
    CaText,
    SeveralCas,
    ClientCertificate,
    HandshakeFirst,
}

impl Encryption {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "plain" => Self::Plain,
            "ca_file" => Self::CaFile,
            "ca_text" => Self::CaText,
            "several_cas" => Self::SeveralCas,
            "client_certificate" => Self::ClientCertificate,
            "handshake_first" => Self::HandshakeFirst,
            other => panic!("no encryption is called {other}"),
        }
    }
}

/// What one user presents; a wrong one is of the same shape.
pub(super) struct Secrets {
    pub(super) token: String,
    pub(super) password: String,
    pub(super) key: UserKey,
    pub(super) signed: UserLogin,
    pub(super) nkey_file: PathBuf,
    pub(super) creds_file: PathBuf,
}

impl Secrets {
    fn new(directory: &Path, name: &str, account: &Account) -> Self {
        let key = UserKey::new();
        let signed = account.user(USER, &least_grant());
        let (nkey_file, creds_file) =
            (directory.join(format!("{name}.nk")), directory.join(format!("{name}.creds")));
        std::fs::write(&nkey_file, &key.seed).unwrap();
        std::fs::write(&creds_file, signed.creds()).unwrap();
        Self {
            token: format!("t0k3n/{name}@:1e5"),
            password: format!("pa:ss/{name}@,%0"),
            key,
            signed,
            nkey_file,
            creds_file,
        }
    }
}

pub(super) const USER: &str = "ann";

/// The bucket of the round trip.
pub(super) const BUCKET: &str = "logins";

/// What the round trip needs and no more, as `check --permissions` prints it. A token alone has
/// no user whose permissions a server could limit.
fn least() -> Permissions {
    let mut permissions = Permissions::new(&ConnectOptions::default());
    let bucket = BucketName::parse(BUCKET).unwrap();
    permissions
        .ensure_bucket(BucketKind::Kv, &bucket)
        .read_bucket(BucketKind::Kv, &bucket)
        .publish(&Pattern::parse(format!("$KV.{BUCKET}.>")).unwrap());
    permissions
}

/// The same as a user's token has it.
fn least_grant() -> Grant {
    let text = least().to_string();
    let (publish, subscribe) = text.split_once("subscribe:").unwrap();
    let quoted = |list| -> Vec<&str> { str::split(list, '"').skip(1).step_by(2).collect() };
    Grant::all().publish(&quoted(publish)).subscribe(&quoted(subscribe))
}

pub(super) struct Realm {
    pub(super) login: Login,
    pub(super) encryption: Encryption,
    pub(super) certificates: Certificates,
    pub(super) stranger: Certificates,
    operator: Operator,
    account: Account,
    right: Secrets,
    wrong: Secrets,
    directory: TempDir,
}

impl Realm {
    pub(super) fn new(login: Login, encryption: Encryption) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let operator = Operator::new();
        let account = operator.account("APP");
        let right = Secrets::new(directory.path(), "right", &account);
        let wrong = Secrets::new(directory.path(), "wrong", &Operator::new().account("APP"));
        Self {
            login,
            encryption,
            certificates: Certificates::new(),
            stranger: Certificates::new(),
            operator,
            account,
            right,
            wrong,
            directory,
        }
    }

    pub(super) fn server_config(&self) -> String {
        let secrets = &self.right;
        let login = match self.login {
            Login::Token => format!("authorization {{ token: {:?} }}", secrets.token),
            Login::UserPassword => format!(
                "authorization {{ users: [{{user: {USER}, password: {:?}, {}}}] }}",
                secrets.password,
                least()
            ),
            Login::Nkey => format!(
                "authorization {{ users: [{{nkey: {}, {}}}] }}",
                secrets.key.public,
                least()
            ),
            Login::Jwt => self.operator.server_config(&[&self.account]),
        };
        let tls = match self.encryption {
            Encryption::Plain => String::new(),
            Encryption::CaFile | Encryption::CaText | Encryption::SeveralCas => {
                self.certificates.server_config("")
            }
            Encryption::ClientCertificate => self.certificates.server_config("verify: true"),
            Encryption::HandshakeFirst => self.certificates.server_config("handshake_first: true"),
        };
        format!("{login}\n{tls}")
    }

    /// `host:port` under the name that the server's certificate has.
    pub(super) fn address(&self, server: &NatsServer) -> String {
        format!("localhost:{}", server.address().port())
    }

    pub(super) fn right(&self, address: &str) -> Vec<Writing> {
        self.writings(&self.right, address)
    }

    pub(super) fn wrong(&self, address: &str) -> Vec<Writing> {
        self.writings(&self.wrong, address)
    }

    /// Everything that no output may show.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        [&self.right, &self.wrong].into_iter().flat_map(|secrets| {
            [
                secrets.token.as_str(),
                &secrets.password,
                &secrets.key.seed,
                &secrets.signed.jwt,
                &secrets.signed.seed,
            ]
        })
    }

    fn writings(&self, secrets: &Secrets, address: &str) -> Vec<Writing> {
        Form::ALL
            .into_iter()
            .flat_map(|form| {
                form.logins(self.login, secrets).into_iter().map(move |login| (form, login))
            })
            .map(|(form, login)| {
                let mut entries = form.server(address, self.encryption, &login);
                entries.extend(login.entries);
                entries.extend(form.encryption(self));
                Writing::new(form, entries, self.directory.path())
            })
            .collect()
    }
}
