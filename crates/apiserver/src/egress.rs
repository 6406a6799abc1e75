//! Connections that this server opens: to extension API servers and to OpenID providers. TLS always, the peer's name is always
//! checked, redirects are never followed, and where to is never taken from a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::http::Body;

/// How long connecting and shaking hands may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("dial tcp {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("{0:?} is no server name")]
    Name(String),
    #[error("tls handshake with {0}")]
    Handshake(String, #[source] std::io::Error),
    #[error("{0} took too long")]
    Slow(String),
    #[error("request to {0}")]
    Request(String, #[source] hyper::Error),
    #[error("{0} answered {1}")]
    Code(String, StatusCode),
    #[error("{0} answered what is not wanted")]
    Body(String, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// That nothing answers at an address, as Go's client says it.
pub(crate) fn undialed(address: impl std::fmt::Display, error: &std::io::Error) -> String {
    let why = error.to_string();
    let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
    format!("dial tcp {address}: connect: {why}")
}

/// The words of Go's client for a certificate that nobody vouches for; `None` for other failures of a handshake.
pub(crate) fn unvouched(error: &std::io::Error) -> Option<&'static str> {
    let words = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    error.to_string().contains("UnknownIssuer").then_some(words)
}

/// Addresses that nobody but this server reaches there: its own, and those of its link. They are refused wherever an address comes from
/// objects, whoever wrote these: what listens there may believe whoever gets through to it.
pub(crate) fn is_own(ip: IpAddr) -> bool {
    // `::ffff:127.0.0.1` is 127.0.0.1.
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified(),
    }
}

/// Where to, and whom to expect there.
#[derive(Clone)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) address: String,
    /// The name that the certificate must have.
    pub(crate) name: String,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// Owner of the connections' tasks.
#[derive(Default)]
pub(crate) struct Egress {
    connections: TaskTracker,
}

impl Egress {
    /// Sends a request over a connection of its own. An upgrade of the response takes the connection.
    pub(crate) async fn send<B>(&self, to: &Target, request: Request<B>) -> Result<Response<Incoming>, EgressError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let address = &to.address;
        let name = ServerName::try_from(to.name.clone()).map_err(|_| EgressError::Name(to.name.clone()))?;
        let dial = async {
            let connected = TcpStream::connect(address).await;
            let stream = connected.map_err(|e| EgressError::Connect(address.clone(), e))?;
            let _ = stream.set_nodelay(true);
            let shaken = TlsConnector::from(to.tls.clone()).connect(name, stream).await;
            shaken.map_err(|e| EgressError::Handshake(address.clone(), e))
        };
        let dialled = tokio::time::timeout(PATIENCE, dial).await;
        let stream = dialled.map_err(|_| EgressError::Slow(address.clone()))??;
        let failed = |error| EgressError::Request(address.clone(), error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(client::Lenient(stream))).await.map_err(failed)?;
        let peer = address.clone();
        self.connections.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(peer, %error, "an outgoing connection ended");
            }
        });
        sender.send_request(request).await.map_err(failed)
    }

    /// Runs what carries a connection on after it was upgraded.
    pub(crate) fn carry(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(work);
    }

    /// GETs a small document.
    pub(crate) async fn get(
        &self,
        to: &Target,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        most_bytes: usize,
    ) -> Result<Bytes, EgressError> {
        let address = &to.address;
        let bad = |error: Box<dyn std::error::Error + Send + Sync>| EgressError::Body(address.clone(), error);
        let mut request = Request::get(path).header(header::HOST, &to.name).header(header::ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| bad(e.into()))?;
        let exchange = async {
            let response = self.send(to, request).await?;
            if response.status() != StatusCode::OK {
                return Err(EgressError::Code(address.clone(), response.status()));
            }
            let body = Limited::new(response.into_body(), most_bytes).collect().await.map_err(bad)?;
            Ok(body.to_bytes())
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| EgressError::Slow(address.clone()))?
    }
}

/// A body that came over an outgoing connection, in our type. One that breaks off ends early; lengths tell the client.
pub(crate) fn outgoing(body: Incoming) -> Body {
    crate::http::incoming(body)
}
