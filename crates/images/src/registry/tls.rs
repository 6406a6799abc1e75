//! TLS towards registries: rustls on ring; the machine's authorities or configured ones.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::RegistryError;
use crate::registries::Tls;

/// The configuration for one way of trusting.
pub(crate) fn config(tls: &Tls) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::TlsFile { path: "default protocol versions".into(), why: e.to_string() })?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(pki::credulous(provider))
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
    if let Some(pem) = pki::machine_authorities() {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    }
    Ok(roots)
}
