//! A connection: TLS, HTTP/1.1 or HTTP/2, its requests, its end. Clients that dribble, say nothing or do not read are let go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use object::Status;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{Body, Extent, Peer, Service, failure, incoming};
use crate::metrics;
use crate::owed::{Owed, Owing, Sent, Streams};
use crate::turns::InTurns;

/// How long a client may take to say hello, and to answer a ping.
const PATIENCE: Duration = Duration::from_secs(10);
/// Heads are not larger than this.
const MOST_HEADER_BYTES: u32 = 256 << 10;
/// What is kept of a reply for a client that has no room for it.
const MOST_UNSENT_BYTES: usize = 128 << 10;
/// Replies that are not longer are sent as one piece: there is nothing to wait for.
const SHORT: u64 = 64 << 10;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--request-timeout`: how long a request may take, and a client to take any of its reply.
    pub request: Duration,
    /// `--min-request-timeout`: how long a watch lasts, at least; twice as long at most.
    pub watch: Duration,
    /// How long a connection may be without a whole request head.
    pub idle: Duration,
    /// `--http2-max-streams-per-connection`: requests at a time on one connection.
    pub streams: u32,
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together, which priority and fairness hands out.
    pub in_flight: usize,
}

impl Default for Limits {
    /// Upstream's.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            watch: Duration::from_secs(1800),
            idle: Duration::from_secs(90),
            streams: 1000,
            in_flight: 400 + 200,
        }
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    service: Arc<Service>,
    requests: TaskTracker,
    token: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (limits, owed) = (service.api.limits, Arc::new(Owed::default()));
    let stream = Owing::new(stream, owed.clone());
    let shaken = tokio::time::timeout(PATIENCE, tls.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut.into());
    let stream = shaken.flatten().inspect_err(|_| metrics::HANDSHAKE_ERRORS.inc())?;
    let (_, session) = stream.get_ref();
    let identity = session.peer_certificates().and_then(|c| c.first()).and_then(pki::identity);
    let begun = Arc::new(AtomicBool::new(false));
    let (is_begun, sent) = (begun.clone(), owed.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer));
        let (service, requests, identity, sent) = (service.clone(), requests.clone(), identity.clone(), sent.clone());
        // In a place of its own, which is given back when the reply begins: a watch is then its body alone.
        let answering = async move {
            let response = answer(service, &requests, identity, request).await;
            Ok::<_, std::convert::Infallible>(watched_over(response, &sent))
        };
        answering.boxed()
    });
    let mut builder = Builder::new(Streams);
    // Who dribbles, or says nothing, is let go.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(limits.idle).keep_alive_timeout(PATIENCE);
    builder.http2().max_header_list_size(MOST_HEADER_BYTES).max_concurrent_streams(limits.streams);
    builder.http2().max_send_buf_size(MOST_UNSENT_BYTES);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    let graceful = GracefulShutdown::new();
    let mut watched = InTurns::new(graceful.watch(connection), owed.clone());
    tokio::select! {
        ended = &mut watched => ended.map_err(io::Error::other),
        () = silence(&is_begun, limits.idle) => Err(io::ErrorKind::TimedOut.into()),
        () = owed.overdue(limits.request) => Err(io::ErrorKind::TimedOut.into()),
        () = token.cancelled() => {
            // Watches never end by themselves; the token of the server ends them with the connection.
            let _ = tokio::time::timeout(Duration::from_millis(200), watched).await;
            Ok(())
        }
    }
}

/// The reply, with an eye on whether the client takes it.
fn watched_over(response: Response<Body>, owed: &Arc<Owed>) -> Response<Body> {
    let length = response.body().size_hint().exact();
    if response.body().is_end_stream() || length.is_some_and(|length| length <= SHORT) {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            owed.forgive();
        }
        return response;
    }
    let extent = response.extensions().get::<Extent>().copied();
    match extent.or(length.map(|_| Extent::Finite)) {
        Some(extent) => response.map(|body| Body::new(Sent::new(body, owed.clone(), extent))),
        // Logs, and what comes from elsewhere: whoever reads them may stop for a while.
        None => {
            owed.forgive();
            response
        }
    }
}

/// Ends when a connection has not had a whole request head for too long; never once it had one.
async fn silence(is_begun: &AtomicBool, idle: Duration) {
    tokio::time::sleep(idle).await;
    if is_begun.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Runs a request. A write runs in a task of `requests`, not of its connection: a client that goes away does not cut it in half. A
/// read has nothing to cut. A panic is a 500.
async fn answer(
    service: Arc<Service>,
    requests: &TaskTracker,
    identity: Option<pki::Identity>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // What becomes another protocol is as good as a write.
    let reads = matches!(method, Method::GET | Method::HEAD) && !request.headers().contains_key(header::UPGRADE);
    let request = request.map(incoming);
    // It is made where it runs: in two places it would take room in both.
    let work = || {
        let work = async move { service.handle(identity, request).await };
        std::panic::AssertUnwindSafe(work).catch_unwind()
    };
    let answered =
        if reads { work().boxed().await.ok() } else { requests.spawn(work()).await.ok().and_then(Result::ok) };
    let response = answered.unwrap_or_else(|| {
        tracing::error!(%method, path = uri.path(), "a request handler panicked");
        failure(&Status::internal("the request could not be handled"), false)
    });
    if method == Method::HEAD { without_body(response) } else { response }
}

/// The answer to HEAD: HTTP/2 does not take the body away by itself.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(parts, crate::http::empty())
}
