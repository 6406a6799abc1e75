//! rustls configurations of servers and clients, and who a client certificate speaks for.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Pair, PkiError};

/// Who a client certificate speaks for: CN is the user, each O a group (Kubernetes' X.509 authentication).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// SHA-256 of the certificate in hexadecimal digits.
    pub fingerprint: String,
}

fn roots(pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn material(pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, rustls_pki_types::PrivateKeyDer<'static>), PkiError> {
    let missing = |what| PkiError::Malformed { path: "the certificate in memory".into(), what };
    let certificate = pair.certificate_der().ok_or_else(|| missing("certificate"))?;
    Ok((vec![certificate], pair.key_der().ok_or_else(|| missing("key"))?))
}

/// Serves `pair`; a client may show a certificate, which must then be signed by `client_ca` (PEM). HTTP/2 and HTTP/1.1.
pub fn server_config(pair: &Pair, client_ca: &str) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let (chain, key) = material(pair)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Trusts `server_ca` (PEM), and shows `pair` when asked.
pub fn client_config(server_ca: &str, pair: Option<&Pair>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(server_ca)?);
    Ok(match pair {
        Some(pair) => {
            let (chain, key) = material(pair)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

/// Who a (verified) certificate speaks for; `None` when it has no CN.
pub fn identity(der: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(Into::into).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let fingerprint = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Identity { user, groups, fingerprint })
}
