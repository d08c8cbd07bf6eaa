//! TLS by a certificate and its key.

use std::path::Path;
use std::sync::Arc;

use jetbridge_core::{Error, ErrorKind, Result, Secret};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with those above it, and its key, as the files had them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TlsSpec {
    certificate: Vec<u8>,
    key: Secret<Vec<u8>>,
}

impl TlsSpec {
    /// Reads both files.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput), naming the file, if one cannot be read or they
    /// do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| bad(path, "it cannot be read").caused_by(error))
        };
        let spec = Self { certificate: read(certificate)?, key: Secret::new(read(key)?) };
        let chain: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&spec.certificate).collect();
        if !chain.is_ok_and(|chain| !chain.is_empty()) {
            return Err(bad(certificate, "it holds no certificate in PEM")
                .hint("it begins with `-----BEGIN CERTIFICATE-----`"));
        }
        if PrivateKeyDer::from_pem_slice(spec.key.expose()).is_err() {
            return Err(bad(key, "it holds no private key in PEM")
                .hint("it begins with `-----BEGIN PRIVATE KEY-----`, and has no password"));
        }
        spec.acceptor().map_err(|error| {
            bad(certificate, "it and the key do not belong together")
                .with("key", key.display())
                .caused_by(error)
        })?;
        Ok(spec)
    }

    /// What connections are accepted with.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::InvalidInput, "http.tls").caused_by(error)
        };
        let chain: std::result::Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| failed(error.into()))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose());
        let key = key.map_err(|error| failed(error.into()))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| failed(error.into()))?.with_no_client_auth();
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| failed(error.into()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn bad(path: &Path, words: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "http.tls").because(words).with("file", path.display())
}
