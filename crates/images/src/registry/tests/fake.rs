//! A registry that serves the images of a store and misbehaves on demand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::{Digest, Store};

/// How it misbehaves.
#[derive(Default)]
pub(super) struct Faults {
    /// A blob's connection breaks after so many bytes, that many times.
    pub(super) cut: HashMap<Digest, (u64, usize)>,
    /// Ranges are ignored: the whole blob comes.
    pub(super) ignores_ranges: bool,
    /// Another content for a blob.
    pub(super) content: HashMap<Digest, Vec<u8>>,
    /// `503` so many times.
    pub(super) busy: usize,
    /// Blobs are at this authority.
    pub(super) redirect: Option<String>,
    /// `Authorization` that all must show, and what its token service gives to `user:password`.
    pub(super) token: Option<&'static str>,
    /// Blobs wait for this gate.
    pub(super) gate: Option<Arc<tokio::sync::Semaphore>>,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

struct Inner {
    store: Store,
    address: SocketAddr,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Fake {
    pub(super) async fn start(store: &Store, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Inner { store: store.clone(), address, faults: Mutex::new(faults), seen: Mutex::default() };
        let inner = Arc::new(inner);
        let mut tasks = JoinSet::new();
        let serving = inner.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let inner = serving.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let inner = inner.clone();
                        async move { Ok::<_, Infallible>(inner.serve(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, inner, _tasks: tasks }
    }

    pub(super) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inner.faults.lock());
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().clone()
    }

    /// GETs of this blob.
    pub(super) fn fetches(&self, digest: &Digest) -> Vec<Seen> {
        let is_it = |s: &Seen| s.method == Method::GET && s.path.ends_with(&format!("/blobs/{digest}"));
        self.seen().into_iter().filter(is_it).collect()
    }
}

impl Inner {
    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let text =
            |headers: &HeaderMap, name| headers.get(name).map(|v: &http::HeaderValue| v.to_str().unwrap().to_owned());
        let seen = Seen {
            method: request.method().clone(),
            path: request.uri().path_and_query().unwrap().as_str().to_owned(),
            range: text(request.headers(), header::RANGE),
            authorization: text(request.headers(), header::AUTHORIZATION),
        };
        self.seen.lock().push(seen.clone());
        let path = request.uri().path().to_owned();
        if path == "/token" {
            return self.token(&seen);
        }
        if let Some(refused) = self.refuse(&seen) {
            return refused;
        }
        let (kind, selector) = match path.split('/').collect::<Vec<_>>().as_slice() {
            [.., kind, selector] => ((*kind).to_owned(), (*selector).to_owned()),
            _ => return status(StatusCode::NOT_FOUND),
        };
        if kind == "manifests" { self.manifest(&seen, &selector) } else { self.blob(&seen, &selector).await }
    }

    fn refuse(&self, seen: &Seen) -> Option<Response<Body>> {
        let mut faults = self.faults.lock();
        if faults.busy > 0 && seen.method == Method::GET {
            faults.busy -= 1;
            return Some(status(StatusCode::SERVICE_UNAVAILABLE));
        }
        let wanted = faults.token.map(|token| format!("Bearer {token}"));
        if wanted.is_none() || seen.authorization == wanted {
            return None;
        }
        let challenge =
            format!("Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"repository:a:pull\"", self.address);
        let refused = Response::builder().status(StatusCode::UNAUTHORIZED).header(header::WWW_AUTHENTICATE, challenge);
        Some(refused.body(full(Vec::new())).unwrap())
    }

    fn token(&self, seen: &Seen) -> Response<Body> {
        // user:password
        if seen.authorization.as_deref() != Some("Basic dXNlcjpwYXNzd29yZA==") {
            return status(StatusCode::UNAUTHORIZED);
        }
        let token = self.faults.lock().token.unwrap_or_default();
        Response::new(full(serde_json::json!({"access_token": token}).to_string().into_bytes()))
    }

    fn manifest(&self, seen: &Seen, selector: &str) -> Response<Body> {
        let name = if selector.starts_with("sha256:") { None } else { Some(format!("a:{selector}")) };
        let found = name.map(|n| target_of(&self.store, &n));
        let digest = found.unwrap_or_else(|| Digest::parse(selector).ok());
        let Some(bytes) = digest.and_then(|d| self.store.read_blob(&d).ok()) else {
            return status(StatusCode::NOT_FOUND);
        };
        let reply = Response::builder()
            .header(header::CONTENT_TYPE, crate::store::sniff(&bytes))
            .header("docker-content-digest", Digest::of(&bytes).as_str())
            .header(header::CONTENT_LENGTH, bytes.len());
        reply.body(full(if seen.method == Method::HEAD { Vec::new() } else { bytes })).unwrap()
    }

    async fn blob(&self, seen: &Seen, selector: &str) -> Response<Body> {
        let gate = self.faults.lock().gate.clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let digest = Digest::parse(selector).unwrap();
        let mut faults = self.faults.lock();
        if let Some(to) = &faults.redirect {
            let location = format!("http://{to}{}", seen.path);
            return Response::builder().status(307).header(header::LOCATION, location).body(full(Vec::new())).unwrap();
        }
        let bytes = faults.content.get(&digest).cloned().unwrap_or_else(|| self.store.read_blob(&digest).unwrap());
        let start: u64 = match &seen.range {
            Some(range) if !faults.ignores_ranges => range["bytes=".len()..range.len() - 1].parse().unwrap(),
            _ => 0,
        };
        let rest = bytes[usize::try_from(start).unwrap()..].to_vec();
        let mut reply = Response::builder().header(header::CONTENT_LENGTH, rest.len());
        if start > 0 {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            reply = reply.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
        }
        let cut = faults.cut.get_mut(&digest).filter(|(_, times)| *times > 0).map(|(after, times)| {
            *times -= 1;
            *after
        });
        reply.body(cut.map_or_else(|| full(rest.clone()), |after| broken(&rest, after))).unwrap()
    }
}

fn target_of(store: &Store, name: &str) -> Option<Digest> {
    let full = crate::Reference::parse(name).unwrap().to_string();
    store.names().unwrap().into_iter().find(|(known, _)| *known == full).map(|(_, record)| record.target.digest)
}

fn status(code: StatusCode) -> Response<Body> {
    Response::builder().status(code).body(full(Vec::new())).unwrap()
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// Some bytes, flushed, and then the connection breaks.
fn broken(bytes: &[u8], after: u64) -> Body {
    let some = Bytes::copy_from_slice(&bytes[..usize::try_from(after).unwrap().min(bytes.len())]);
    let first = futures::stream::iter([Ok(Frame::data(some))]);
    let end = futures::stream::once(async {
        // The server writes out what it has before it asks for more.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    });
    StreamBody::new(first.chain(end)).boxed_unsync()
}
