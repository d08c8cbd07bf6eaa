//! Encryption: from [`Tls`] to what `async_nats` takes.
//!
//! The client's own options know one file of authorities; several of them, or their text, need a
//! ready-made configuration. Where nothing is said of authorities the system's are trusted, which
//! honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::path::Path;
use std::sync::Arc;

use async_nats::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use async_nats::rustls::crypto::{self, CryptoProvider};
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use async_nats::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use jetbridge_core::{Error, ErrorKind, Result};

use crate::options::{ClientCertificate, Tls};

const OPERATION: &str = "nats.tls";

/// Adds `tls` to the client's options.
pub(crate) async fn apply(
    tls: &Tls,
    mut options: async_nats::ConnectOptions,
) -> Result<async_nats::ConnectOptions> {
    let given = !tls.ca_pem.is_empty() || !tls.ca_files.is_empty() || tls.client.is_some();
    options = options.require_tls(tls.required || tls.handshake_first || tls.insecure || given);
    if tls.handshake_first {
        options = options.tls_first();
    }
    if tls.insecure {
        tracing::warn!("the server's certificate is not checked: `insecure` is for tests only");
        return Ok(options.tls_client_config(insecure(tls).await?));
    }
    if !tls.ca_pem.is_empty() || !tls.ca_files.is_empty() {
        return Ok(options.tls_client_config(trusting_only(tls).await?));
    }
    if let Some(client) = &tls.client {
        client_certificate(client).await?;
        let (certificate, key) = (client.certificate_file.clone(), client.key_file.clone());
        options = options.add_client_certificate(certificate, key);
    }
    Ok(options)
}

async fn trusting_only(tls: &Tls) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for text in &tls.ca_pem {
        add_authorities(&mut roots, text.as_bytes(), "the CA text")?;
    }
    for file in &tls.ca_files {
        let text = read(file, "cannot read the CA file").await?;
        add_authorities(&mut roots, &text, &file.display().to_string())?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    finish(builder, tls.client.as_ref()).await
}

async fn insecure(tls: &Tls) -> Result<ClientConfig> {
    let verifier = Arc::new(TrustAnything(provider()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    finish(builder, tls.client.as_ref()).await
}

async fn finish(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig> {
    let Some(client) = client else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = client_certificate(client).await?;
    builder.with_client_auth_cert(chain, key).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the client certificate and its key do not go together")
            .with("certificate", client.certificate_file.display())
            .with("key", client.key_file.display())
            .caused_by(cause)
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn unusable(cause: rustls::Error) -> Error {
    Error::new(ErrorKind::Internal, OPERATION).because("no usable version of TLS").caused_by(cause)
}

async fn read(file: &Path, why: &str) -> Result<Vec<u8>> {
    tokio::fs::read(file).await.map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because(why)
            .with("file", file.display())
            .caused_by(cause)
    })
}

fn add_authorities(roots: &mut RootCertStore, pem: &[u8], origin: &str) -> Result<()> {
    let bad = |why: &str| {
        Error::new(ErrorKind::InvalidInput, OPERATION).because(why).with("from", origin)
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|cause| bad("not PEM").caused_by(cause.to_string()))?;
        roots.add(certificate).map_err(|cause| bad("not a CA certificate").caused_by(cause))?;
        found = true;
    }
    if found { Ok(()) } else { Err(bad("there is no certificate in it")) }
}

async fn client_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let file = &client.certificate_file;
    let pem = read(file, "cannot read the client certificate").await?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, OPERATION)
                .because("the client certificate is not PEM")
                .with("file", file.display())
                .caused_by(cause.to_string())
        })?;
    if chain.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the client certificate's file holds none")
            .with("file", file.display()));
    }
    let pem = read(&client.key_file, "cannot read the client certificate's key").await?;
    // The cause is not kept: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_may_quote_the_key| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the client certificate's key file holds no PEM key")
            .with("file", client.key_file.display())
    })?;
    Ok((chain, key))
}

/// Accepts any certificate, but checks that the peer has its key.
#[derive(Debug)]
struct TrustAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
