//! TLS below the transport: rustls with ring; authorities, client certificates, names.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tower_service::Service;

use super::Server;
use crate::Lenient;
use crate::credential::Credential;

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority, the client certificate or its key is not PEM.
    #[error("the {what} is not valid PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// How it fails.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// No certificate authority is given and the machine has none.
    #[error("no certificate authority is given and this machine has none")]
    NoAuthority,
    /// An authority, certificate or key that TLS refuses.
    #[error("TLS refuses the {what}")]
    Refused {
        /// Which one.
        what: &'static str,
        /// How it fails.
        #[source]
        source: rustls::Error,
    },
    /// `tls-server-name` is no name.
    #[error("{name:?} is no server name")]
    Name {
        /// The name.
        name: String,
    },
}

/// A connector that checks the server and shows who we are.
pub(super) fn connector(server: &Server, credential: &Credential) -> Result<Connector, TlsError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(std::time::Duration::from_secs(10)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(config(server, credential)?).https_or_http();
    Ok(Connector(match &server.tls_server_name {
        None => builder.enable_all_versions().wrap_connector(http),
        Some(name) => {
            let parsed = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name { name: name.clone() })?;
            let resolver = FixedServerNameResolver::new(parsed);
            builder.with_server_name_resolver(resolver).enable_all_versions().wrap_connector(http)
        }
    }))
}

/// Opens connections, whose unannounced ends are ends ([`Lenient`]).
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector>);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Lenient<TokioIo<Stream>>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dial = self.0.call(to);
        Box::pin(async move { Ok(TokioIo::new(Lenient(TokioIo::new(dial.await?)))) })
    }
}

fn config(server: &Server, credential: &Credential) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Refused { what: "protocol versions", source })?;
    let builder = if server.insecure {
        builder.dangerous().with_custom_certificate_verifier(pki::credulous(provider))
    } else {
        builder.with_root_certificates(roots(server)?)
    };
    let Credential::Certificate { cert_pem, key_pem } = credential else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert_pem, "client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| TlsError::Pem { what: "client key", source })?;
    builder.with_client_auth_cert(chain, key).map_err(|source| TlsError::Refused { what: "client certificate", source })
}

fn roots(server: &Server) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &server.ca_pem {
        Some(pem) => {
            for authority in certificates(pem, "certificate authority")? {
                let refused = |source| TlsError::Refused { what: "certificate authority", source };
                roots.add(authority).map_err(refused)?;
            }
        }
        None if server.url.starts_with("http://") => {}
        None => {
            let pem = pki::machine_authorities().ok_or(TlsError::NoAuthority)?;
            // A machine's bundle may hold certificates that rustls does not take: the others count.
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem { what, source })?;
    match found.is_empty() {
        true => Err(TlsError::Pem { what, source: rustls_pki_types::pem::Error::NoItemsFound }),
        false => Ok(found),
    }
}
