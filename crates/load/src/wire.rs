//! The wire: connections that send prepared requests and count replies.

mod http1;
mod http2;
mod tls;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use http1::Http1;
pub(crate) use http2::{Http2, Stream};

/// A request, ready to go.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), content_type: "", accept: "application/json", body: Bytes::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    pub(crate) fn body(self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { content_type, body: body.into(), ..self }
    }
}

/// What came back. The body is there only when it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) length: usize,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// An error when the server refused.
    pub(crate) fn ok(self) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        bail!("{}: {}", self.status, String::from_utf8_lossy(&self.body[..self.body.len().min(300)]))
    }
}

/// Where the server is, and as whom we go there.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    name: ServerName<'static>,
    authority: String,
    token: Option<String>,
    plain: TlsConnector,
    multiplexed: TlsConnector,
}

impl Endpoint {
    /// The server of a kubeconfig's current context.
    pub(crate) fn of(kubeconfig: &std::path::Path) -> anyhow::Result<Self> {
        let resolved = client::Kubeconfig::load(kubeconfig)?.resolve(None)?;
        let authority = resolved.server.url.strip_prefix("https://").context("the server does not speak HTTPS")?;
        let authority = authority.split('/').next().unwrap_or_default().to_owned();
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority.as_str(), "443"));
        let address = SocketAddr::new(host.parse().context("the server's address is a name")?, port.parse()?);
        let name = resolved.server.tls_server_name.clone().unwrap_or_else(|| host.to_owned());
        let token = match &resolved.credential {
            client::Credential::Token(token) => Some(token.clone()),
            _ => None,
        };
        let config = |protocol| tls::config(&resolved, protocol).map(|c| TlsConnector::from(std::sync::Arc::new(c)));
        Ok(Self {
            address,
            name: ServerName::try_from(name)?,
            authority,
            token,
            plain: config("http/1.1")?,
            multiplexed: config("h2")?,
        })
    }

    async fn connect(&self, tls: &TlsConnector) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        tls.connect(self.name.clone(), stream).await.context("cannot agree on TLS")
    }

    /// A new HTTP/1.1 connection.
    pub(crate) async fn http1(&self) -> anyhow::Result<Http1> {
        Ok(Http1::new(self.connect(&self.plain).await?, &self.authority, self.token.as_deref()))
    }

    /// A new HTTP/2 connection.
    pub(crate) async fn http2(&self) -> anyhow::Result<Http2> {
        Http2::new(self.connect(&self.multiplexed).await?, &self.authority, self.token.as_deref()).await
    }
}
