//! rustls configurations of servers and clients, and who a client certificate speaks for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Pair, PkiError};

/// Who a client certificate speaks for: CN is the user, each O a group (Kubernetes' X.509 authentication).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// SHA-256 of the certificate, in hexadecimal: which credential it was.
    pub fingerprint: String,
    /// The name of the authority that signed it, DER.
    pub issuer: Vec<u8>,
    /// The last second in which it is good, since 1970.
    pub not_after: i64,
}

fn roots(pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
    if let (0, ignored @ 1..) = roots.add_parsable_certificates(certificates) {
        return Err(rustls::Error::General(format!("none of {ignored} certificates can be read")).into());
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

/// Believes whoever answers, and shows `pair`, if there is one: only where upstream does (probes and proxies of pods, whose
/// certificates nobody could check) or where an administrator has said so (`insecureSkipTLSVerify`).
pub fn credulous_client_config(pair: Option<&Pair>) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(credulous(provider));
    let Some(pair) = pair else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = material(pair)?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

/// Believes any certificate (`insecure-skip-tls-verify`), but its holder must have the key.
pub fn credulous(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Credulous(provider))
}

#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Where Debian, Fedora and Alpine keep the machine's authorities.
const MACHINE_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The machine's own authorities, PEM; `None` when it has none.
pub fn machine_authorities() -> Option<String> {
    let bytes = MACHINE_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok())?;
    // Remarks between the certificates may be in any encoding.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who a (verified) certificate speaks for; `None` when it has no CN.
pub fn identity(der: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(Into::into).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let fingerprint = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let not_after = certificate.validity().not_after.timestamp();
    Some(Identity { user, groups, fingerprint, issuer: certificate.issuer().as_raw().to_vec(), not_after })
}
