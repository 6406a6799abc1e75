//! The client's side of TLS, with the certificate of a kubeconfig.

use std::sync::Arc;

use anyhow::Context;
use client::Credential;
use client::kubeconfig::Resolved;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// For connections that speak `protocol` (ALPN).
pub(super) fn config(resolved: &Resolved, protocol: &str) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = resolved.server.ca_pem.as_deref().context("the kubeconfig names no certificate authority")?;
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.context("the certificate authority is no PEM")?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &resolved.credential {
        Credential::Certificate { cert_pem, key_pem } => {
            let chain = CertificateDer::pem_slice_iter(cert_pem).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key_pem)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}
