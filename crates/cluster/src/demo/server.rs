//! What the demo's pods run: a web page that says which pod answered.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Where it listens.
pub const PORT: u16 = 8080;
/// The header with the name of the pod.
pub const POD_HEADER: &str = "x-pod";

struct Demo {
    pod: String,
    node: String,
    answered: AtomicU64,
}

/// Serves until it is told to end.
pub async fn run() -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let demo = Arc::new(Demo { pod: variable("POD_NAME"), node: variable("NODE_NAME"), answered: AtomicU64::new(0) });
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let demo = demo.clone();
                let answer = service_fn(move |request| {
                    let demo = demo.clone();
                    async move { Ok::<_, Infallible>(demo.answer(&request)) }
                });
                let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                // A client that goes away is no concern of the others.
                connections.spawn(async move { drop(serving.await) });
            }
        }
    }
}

impl Demo {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let accepts = request.headers().get(ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
        let (status, kind, text) = match request.uri().path() {
            "/readyz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/" if accepts.contains("text/html") => (StatusCode::OK, "text/html; charset=utf-8", self.page()),
            "/" => (StatusCode::OK, "text/plain; charset=utf-8", self.words()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        if let Ok(value) = kind.parse() {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        if let Ok(value) = self.pod.parse() {
            response.headers_mut().insert(POD_HEADER, value);
        }
        response
    }

    fn words(&self) -> String {
        let number = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        format!("Hello from pod {} on node {}. It has answered {number} requests.\n", self.pod, self.node)
    }

    fn page(&self) -> String {
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Navarch</title>\
             <meta name=viewport content=\"width=device-width\"><style>body{{font:1.2rem/1.5 system-ui;max-width:40rem;\
             margin:20vh auto;padding:0 1rem}}@media(prefers-color-scheme:dark){{body{{background:#111;color:#eee}}}}</style>\
             <h1>Your cluster works</h1><p>{}<p>Reload: another pod may answer. <code>kubectl scale deployment demo \
             --replicas=5</code> gives it more.",
            self.words()
        )
    }
}
