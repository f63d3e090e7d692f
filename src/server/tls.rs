//! Encryption of connections.
//!
//! In: a certificate chain and a key as PEM, and optionally the authority that client certificates must come from.
//! Out: an acceptor, and the certificate for SCRAM's channel binding. Invariant: a certificate that cannot be used is an
//! error at start; the server never falls back to plain text. Deliberately absent: reloading.

use std::sync::Arc;

use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::tokio::tokio_rustls::TlsAcceptor;
use pgwire::tokio::tokio_rustls::rustls::crypto::ring;
use pgwire::tokio::tokio_rustls::rustls::pki_types::pem::PemObject;
use pgwire::tokio::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use pgwire::tokio::tokio_rustls::rustls::server::WebPkiClientVerifier;
use pgwire::tokio::tokio_rustls::rustls::{RootCertStore, ServerConfig};
use squilla_core::error::{Error, Kind, Result};
use x509_certificate::certificate::X509Certificate;

/// PEM texts of the server's identity.
#[derive(Clone)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Authorities of client certificates; clients may then show one.
    pub client_authority: Option<Vec<u8>>,
}

/// A ready TLS identity.
#[derive(Clone)]
pub struct Tls {
    /// Makes the handshake.
    pub acceptor: TlsAcceptor,
    /// SCRAM bound to the certificate.
    pub scram: ScramServerAuth,
}

fn bad(what: &str, e: impl std::fmt::Display) -> Error {
    Error::new(Kind::ConfigFile, format!("could not load {what}: {e}")).hint("Check --tls-cert, --tls-key and --tls-ca.")
}

impl Tls {
    /// Checks and loads the identity.
    pub fn new(files: &TlsFiles) -> Result<Self> {
        let chain = certificates(&files.certificate, "the server certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|e| bad("the private key", e))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(|e| bad("TLS", e))?;
        let builder = match &files.client_authority {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem, "the client authority")? {
                    roots.add(certificate).map_err(|e| bad("the client authority", e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build();
                builder.with_client_cert_verifier(verifier.map_err(|e| bad("the client authority", e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| bad("the server certificate", e))?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let mut scram = ScramServerAuth::new();
        // Certificates signed in a way that has no channel binding (Ed25519) still encrypt.
        if let Err(e) = scram.configure_certificate(&files.certificate) {
            tracing::warn!("no SCRAM channel binding with this certificate: {e}");
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), scram })
    }
}

/// The common name of a certificate's subject.
pub fn common_name(der: &[u8]) -> Option<String> {
    X509Certificate::from_der(der).ok()?.subject_common_name()
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>().map_err(|e| bad(what, e))?;
    if all.is_empty() { Err(bad(what, "no certificate in the file")) } else { Ok(all) }
}
