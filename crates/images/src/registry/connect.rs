//! Connections to registries: from where this process is, or from wherever [`Dial`] makes them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections somewhere else than in this process's network.
pub trait Dial: Send + Sync {
    /// Looks the host up and connects; no address may take longer than `limit`. Blocks.
    fn dial(&self, host: &str, port: u16, limit: Duration) -> io::Result<std::net::TcpStream>;
}

/// What the HTTP client connects by.
#[derive(Clone)]
pub(super) enum Connector {
    Here(HttpConnector),
    By(Arc<dyn Dial>),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connected = TokioIo<TcpStream>;

impl Connector {
    pub(super) fn new(dial: Option<Arc<dyn Dial>>) -> Self {
        if let Some(dial) = dial {
            return Self::By(dial);
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self::Here(http)
    }
}

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Here(http) => http.poll_ready(context).map_err(Into::into),
            Self::By(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Here(http) => {
                let connecting = http.call(uri);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Self::By(dial) => {
                let dial = dial.clone();
                Box::pin(async move {
                    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
                    let dialing = tokio::task::spawn_blocking(move || dial.dial(&host, port, CONNECT_TIMEOUT));
                    let stream = dialing.await??;
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    Ok(TokioIo::new(TcpStream::from_std(stream)?))
                })
            }
        }
    }
}
