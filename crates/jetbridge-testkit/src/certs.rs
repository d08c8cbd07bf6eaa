//! Certificates for one test: an authority, a server and a client that it vouches for.
//!
//! Made anew each time, so nothing expires and no private key lies in the repository.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// What a test of encryption needs, as PEM files in a directory that goes with it.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
    ca_pem: String,
}

const CA: &str = "ca.pem";
const SERVER: &str = "server.pem";
const SERVER_KEY: &str = "server-key.pem";
const CLIENT: &str = "client.pem";
const CLIENT_KEY: &str = "client-key.pem";

impl Certificates {
    /// A new authority, a server `localhost` (also `127.0.0.1`) and a client
    /// `jetbridge-client`.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("own directory");
        };
        write(CA, &authority.pem);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = authority.issue("localhost", names, ExtendedKeyUsagePurpose::ServerAuth);
        write(SERVER, &server.certificate);
        write(SERVER_KEY, &server.key);
        let names = vec!["jetbridge-client".to_owned()];
        let client =
            authority.issue("jetbridge-client", names, ExtendedKeyUsagePurpose::ClientAuth);
        write(CLIENT, &client.certificate);
        write(CLIENT_KEY, &client.key);
        Self { directory, ca_pem: authority.pem }
    }

    /// A `tls {}` block for [`ServerOptions::config`](crate::ServerOptions::config), with `extra`
    /// in it, such as `verify: true` (ask for a client certificate) or `handshake_first: true`.
    pub fn server_config(&self, extra: &str) -> String {
        format!("tls {{\n{}{extra}\n}}\n", self.server_files())
    }

    /// The lines that name the server's files, for a block other than the main `tls {}`.
    pub fn server_files(&self) -> String {
        format!(
            "cert_file: \"{}\"\nkey_file: \"{}\"\nca_file: \"{}\"\n",
            self.file(SERVER).display(),
            self.file(SERVER_KEY).display(),
            self.file(CA).display()
        )
    }

    /// The authority, as PEM text.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's file.
    pub fn ca_file(&self) -> PathBuf {
        self.file(CA)
    }

    /// The client's certificate.
    pub fn client_certificate_file(&self) -> PathBuf {
        self.file(CLIENT)
    }

    /// The client's private key.
    pub fn client_key_file(&self) -> PathBuf {
        self.file(CLIENT_KEY)
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "jetbridge-testkit");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Issued {
        let mut params = CertificateParams::new(names).expect("legal names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}
