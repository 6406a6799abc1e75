//! The HTTPS listener.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Body, KubeletServer, Peer};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepts until cancelled.
pub(crate) async fn listen(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    server: KubeletServer,
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(acceptor.clone(), stream, server.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, say: give the others time to end.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, server: KubeletServer) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake timed out"),
    };
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(|chain| pki::identity(chain.first()?));
    let peer = shown.map_or_else(Peer::anonymous, |i| Peer { user: i.user, groups: i.groups });
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move {
            let request = request.map(into_body);
            let is_head = request.method() == http::Method::HEAD;
            let response = server.handle(&peer, request).await;
            // HTTP/2 does not take the body away by itself.
            let response = if is_head { response.map(|_| no_body()) } else { response };
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let served =
        auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(error, "a connection ended");
    }
}

fn no_body() -> Body {
    http_body_util::Empty::new().boxed_unsync()
}

/// A broken request body ends like a short one: no handler reads more of it than it needs.
fn into_body(incoming: Incoming) -> Body {
    use futures::StreamExt;
    let frames = http_body_util::BodyStream::new(incoming);
    let good = frames.take_while(|frame| std::future::ready(frame.is_ok())).filter_map(|f| std::future::ready(f.ok()));
    http_body_util::StreamBody::new(good.map(Ok)).boxed_unsync()
}
