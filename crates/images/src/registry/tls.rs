//! TLS towards registries: rustls on ring; the machine's authorities or configured ones.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::RegistryError;
use crate::registries::Tls;

/// Where Debian, Fedora and Alpine keep the machine's authorities.
const MACHINE_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The configuration for one way of trusting.
pub(crate) fn config(tls: &Tls) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::TlsFile { path: "default protocol versions".into(), why: e.to_string() })?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let refused = |path: &Path, why: String| RegistryError::TlsFile { path: path.to_owned(), why };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| refused(key, e.to_string()))?;
    builder.with_client_auth_cert(certificates(cert)?, private).map_err(|e| refused(cert, e.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|all| all.collect());
    read.map_err(|e: rustls_pki_types::pem::Error| RegistryError::TlsFile { path: path.to_owned(), why: e.to_string() })
}

fn roots(tls: &Tls) -> Result<RootCertStore, RegistryError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &tls.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| RegistryError::TlsFile { path: path.clone(), why: e.to_string() })?;
        }
        return Ok(roots);
    }
    // A machine without authorities still talks to hosts without TLS; the others' handshakes say what is missing.
    if let Some(path) = MACHINE_AUTHORITIES.iter().map(Path::new).find(|p| p.is_file()) {
        roots.add_parsable_certificates(certificates(path)?);
    }
    Ok(roots)
}

/// Believes any certificate, as `insecure_skip_verify` asks; signatures are still checked.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
