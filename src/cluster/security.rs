//! Who may talk to a worker: the token, the certificates, and where neither is needed.
//!
//! In: settings and the address that is listened on. Out: what channels and servers need. Invariant: a worker that can be
//! reached from another machine takes plans only from those that know the token or have a certificate of the authority.
//! Deliberately absent: roles; the coordinator has checked them, and a worker runs whatever it is sent.

use std::net::SocketAddr;
use std::path::Path;

use http::HeaderValue;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::settings::Settings;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use x509_certificate::certificate::X509Certificate;

/// Token and certificates of a cluster, the same in every process of it.
#[derive(Clone, Default)]
pub struct Security {
    token: Option<String>,
    authority: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    name: Option<String>,
    /// When the certificate of this process ends: seconds since 1970, and as text.
    ends: Option<(i64, String)>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Security(token: {}, tls: {})", self.token.is_some(), self.tls())
    }
}

impl Security {
    /// Reads the files that the settings name.
    pub fn new(settings: &Settings) -> Result<Self> {
        let file = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = settings.get(name);
            if path.is_empty() {
                return Ok(None);
            }
            std::fs::read(Path::new(path)).map(Some).map_err(|e| Error::io(format!("could not read {path} (setting {name})"), e))
        };
        let token = match file("squilla.cluster_token_file")? {
            None => None,
            Some(bytes) => {
                let text = String::from_utf8(bytes).unwrap_or_default().trim().to_owned();
                if text.len() < TOKEN_BYTES_MIN || HeaderValue::from_str(&text).is_err() {
                    return Err(Error::new(
                        Kind::ConfigFile,
                        format!("the cluster token must be at least {TOKEN_BYTES_MIN} characters of plain text"),
                    )
                    .hint("Make one with: openssl rand -hex 32"));
                }
                Some(text)
            }
        };
        let identity = match (file("squilla.cluster_cert")?, file("squilla.cluster_key")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(Error::new(Kind::ConfigFile, "squilla.cluster_cert and squilla.cluster_key go together")),
        };
        let authority = file("squilla.cluster_ca")?;
        if identity.is_some() != authority.is_some() {
            return Err(Error::new(Kind::ConfigFile, "squilla.cluster_cert and squilla.cluster_ca go together")
                .hint("Each process of a cluster shows a certificate and checks that of the other side against the authority."));
        }
        let name = Some(settings.get("squilla.cluster_tls_name").to_owned()).filter(|n| !n.is_empty());
        let ends = identity.as_ref().and_then(|(certificate, _)| {
            let end = X509Certificate::from_pem(certificate).ok()?.validity_not_after();
            Some((end.timestamp(), end.to_string()))
        });
        let security = Self { token, authority, identity, name, ends };
        if let Some(expired) = security.expired() {
            tracing::warn!("{expired}");
        }
        Ok(security)
    }

    /// Refuses an address that others can reach when nothing would keep them out.
    pub fn check_listen(&self, address: SocketAddr) -> Result<()> {
        if address.ip().is_loopback() || self.token.is_some() || self.authority.is_some() {
            return Ok(());
        }
        Err(Error::new(Kind::InvalidAuthorization, format!("a worker will not listen on {address} without a token or certificates")).hint(
            "Set squilla.cluster_token_file, or squilla.cluster_ca, squilla.cluster_cert and squilla.cluster_key, in every process of the cluster.",
        ))
    }

    /// Said when the certificate of this process has ended: the other side then closes without a word.
    pub fn expired(&self) -> Option<String> {
        let (end, text) = self.ends.as_ref()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
        (*end < now).then(|| format!("the certificate of this process (squilla.cluster_cert) expired on {text}"))
    }

    /// Whether channels are encrypted.
    pub fn tls(&self) -> bool {
        self.identity.is_some()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls() { "https" } else { "http" }
    }

    /// The header that every request carries.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.token.as_ref()?)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a request with this header may pass. Takes as long for a wrong token as for a nearly right one.
    pub fn admits(&self, header: Option<&HeaderValue>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = header.and_then(|h| h.as_bytes().strip_prefix(b"Bearer ")).unwrap_or_default();
        let differ = given.iter().zip(token.as_bytes()).fold(given.len() ^ token.len(), |differ, (a, b)| differ | usize::from(a ^ b));
        differ == 0
    }

    /// For connections to workers.
    pub fn client_tls(&self) -> Option<ClientTlsConfig> {
        let (certificate, key) = self.identity.as_ref()?;
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.as_ref()?)).identity(Identity::from_pem(certificate, key));
        Some(match &self.name {
            Some(name) => tls.domain_name(name),
            None => tls,
        })
    }

    /// For the port of a worker.
    pub fn server_tls(&self) -> Option<ServerTlsConfig> {
        let (certificate, key) = self.identity.as_ref()?;
        Some(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).client_ca_root(Certificate::from_pem(self.authority.as_ref()?)))
    }
}

/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_the_token_passes() {
        let security = Security { token: Some("0123456789abcdef".into()), ..Security::default() };
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        assert!(security.admits(security.header().as_ref()));
        for wrong in ["Bearer 0123456789abcdeg", "Bearer ", "Bearer 0123456789abcdef0", "0123456789abcdef"] {
            assert!(!security.admits(Some(&header(wrong))), "{wrong}");
        }
        assert!(!security.admits(None));
        assert!(Security::default().admits(None));
    }

    #[test]
    fn other_machines_need_a_secret() {
        assert!(Security::default().check_listen("127.0.0.1:1".parse().unwrap()).is_ok());
        assert!(Security::default().check_listen("[::1]:1".parse().unwrap()).is_ok());
        assert_eq!(Security::default().check_listen("0.0.0.0:1".parse().unwrap()).unwrap_err().sqlstate(), "28000");
    }
}
