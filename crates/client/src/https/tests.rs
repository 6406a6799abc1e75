//! Against a small HTTP server on loopback that speaks the API's replies.

use std::convert::Infallible;

use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::WatchEvent;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn text(code: u16, body: &str) -> Response<Body> {
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_owned())).boxed()).unwrap()
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Body>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path_and_query().unwrap().to_string();
    let header = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let (kind, authorization) = (header("content-type"), header("authorization"));
    if authorization != "Bearer secret" {
        return Ok(text(
            401,
            r#"{"kind":"Status","status":"Failure","code":401,"reason":"Unauthorized","message":"Unauthorized"}"#,
        ));
    }
    if path.contains("watch=true") {
        assert!(path.contains("allowWatchBookmarks=true") && path.contains("resourceVersion=5"), "{path}");
        let chunks = [
            "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",",
            "\"resourceVersion\":\"6\"}}}\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
        ];
        let frames = chunks.map(|c| Ok::<_, Infallible>(Frame::data(Bytes::from_static(c.as_bytes()))));
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body);
    Ok(match (method.as_str(), path.as_str()) {
        ("GET", "/api/v1/namespaces/ns/pods/a") => {
            text(200, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#)
        }
        ("PATCH", "/api/v1/namespaces/ns/pods/a?fieldManager=me") => {
            assert_eq!(kind, "application/merge-patch+json");
            assert_eq!(body, r#"{"x":1}"#);
            text(200, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"patched"}}"#)
        }
        ("DELETE", "/api/v1/namespaces/ns/pods/a") => {
            assert!(body.contains(r#""uid":"u""#), "{body}");
            text(200, r#"{"kind":"Status","status":"Success"}"#)
        }
        ("GET", "/version") => text(200, "{}"),
        _ => text(404, "nothing here"),
    })
}

struct Served {
    transport: Https,
    tasks: base::Tasks,
}

async fn serve(token: &str) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = base::Tasks::new(&CancellationToken::new());
    let stop = tasks.token().clone();
    tasks.spawn("server", async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => {
                    let io = TokioIo::new(accepted.unwrap().0);
                    connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)));
                }
            }
        }
    });
    let server = Server { url, ..Server::default() };
    let transport = Https::open(&server, Credential::Token(token.into()), "test").unwrap();
    Served { transport, tasks }
}

fn pod() -> Resource {
    Resource::object(&object::Gvr::new("", "v1", "pods"), Some("ns"), "a")
}

#[tokio::test]
async fn objects_errors_and_watches_come_through() {
    let Served { transport, tasks } = serve("secret").await;
    assert_eq!(transport.get(&pod()).await.unwrap().head.name, "a");
    let options = WriteOptions { field_manager: Some("me".into()), dry_run: false };
    let patched = transport.patch(&pod(), &Patch::Merge(serde_json::json!({"x": 1})), &options).await.unwrap();
    assert_eq!(patched.head.name, "patched");
    let gone = transport.delete(&pod(), &DeleteOptions { uid: Some("u".into()), ..Default::default() }).await.unwrap();
    assert!(gone.is_none());
    assert_eq!(transport.raw_get("/version").await.unwrap(), "{}");
    let missing = transport.raw_get("/other").await.unwrap_err();
    assert_eq!((missing.code, missing.message.as_str()), (404, "the server answered 404: nothing here"));
    let pods = Resource::collection(&object::Gvr::new("", "v1", "pods"), None);
    let from = ListOptions { resource_version: Some(5), ..ListOptions::default() };
    let events: Vec<_> = transport.watch(&pods, &from).await.unwrap().collect().await;
    assert!(matches!(events[0].as_ref().unwrap(), WatchEvent::Added(o) if o.head.resource_version == 6));
    assert!(matches!(events[1].as_ref().unwrap(), WatchEvent::Bookmark(9)));
    assert_eq!(events.len(), 2);
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_refused_identity_and_a_refused_connection_are_statuses() {
    let Served { transport, tasks } = serve("wrong").await;
    let refused = transport.get(&pod()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (401, Some(Reason::Unauthorized)));
    tasks.shutdown().await;
    let unreachable = transport.get(&pod()).await.unwrap_err();
    assert_eq!(unreachable.code, 503);
    assert!(unreachable.message.contains("refused"), "{unreachable}");
    assert!(unreachable.is_transient());
}

#[test]
fn bad_material_is_refused_with_its_name() {
    let open = |server: &Server, credential| Https::open(server, credential, "test").map(drop).unwrap_err().to_string();
    let broken = Server { url: "https://h".into(), ca_pem: Some(b"no".to_vec()), ..Server::default() };
    assert_eq!(open(&broken, Credential::None), "the certificate authority is not valid PEM");
    let plain = Server { url: "http://h".into(), ..Server::default() };
    let credential = Credential::Certificate { cert_pem: b"no".to_vec(), key_pem: b"no".to_vec() };
    assert_eq!(open(&plain, credential), "the client certificate is not valid PEM");
}

/// A certificate authority, and a certificate of it for a name.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Certificate and key in PEM.
    fn certify(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// How a server is `name`, to all or to whom `clients` certifies.
fn tls(name: &str, authority: &Authority, clients: Option<&Authority>) -> rustls::ServerConfig {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (cert, key) = authority.certify(name);
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
}

/// Serves `{}` over TLS as `name` to whom `clients` certifies.
async fn serve_tls(name: &str, authority: &Authority, clients: &Authority) -> (String, base::Tasks) {
    let mut config = tls(name, authority, Some(clients));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = base::Tasks::new(&CancellationToken::new());
    let stop = tasks.token().clone();
    tasks.spawn("server", async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => {
                    let (acceptor, stream) = (acceptor.clone(), accepted.unwrap().0);
                    connections.spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let service = service_fn(|_| async { Ok::<_, Infallible>(text(200, "{}")) });
                        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    });
                }
            }
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (url, tasks) = serve_tls("kubernetes", &authority, &clients).await;
    let certificate = |from: &Authority| {
        let (cert, key) = from.certify("user");
        Credential::Certificate { cert_pem: cert.into(), key_pem: key.into() }
    };
    let server = |ca: Option<&Authority>, name: &str| Server {
        url: url.clone(),
        ca_pem: ca.map(|ca| ca.pem.clone().into()),
        tls_server_name: Some(name.into()),
        insecure: ca.is_none(),
    };
    let ask = async |server: Server, credential: Credential| {
        Https::open(&server, credential, "test").unwrap().raw_get("/version").await
    };
    assert_eq!(ask(server(Some(&authority), "kubernetes"), certificate(&clients)).await.unwrap(), "{}");
    assert_eq!(ask(server(None, "whatever"), certificate(&clients)).await.unwrap(), "{}");
    for (server, credential, why) in [
        (server(Some(&clients), "kubernetes"), certificate(&clients), "invalid peer certificate"),
        (server(Some(&authority), "other"), certificate(&clients), "not valid for name"),
    ] {
        let status = ask(server, credential).await.unwrap_err();
        assert!(status.code == 503 && status.message.contains(why), "{status}");
    }
    for credential in [certificate(&authority), Credential::None] {
        let status = ask(server(Some(&authority), "kubernetes"), credential).await.unwrap_err();
        assert_eq!(status.code, 503, "{status}");
    }
    tasks.shutdown().await;
}

/// What a server sends that then closes its connection without saying so in TLS.
async fn sent_and_cut(reply: &'static str) -> Result<Bytes> {
    let authority = Authority::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls("kubernetes", &authority, None)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        url: format!("https://{}", listener.local_addr().unwrap()),
        ca_pem: Some(authority.pem.clone().into()),
        tls_server_name: Some("kubernetes".into()),
        insecure: false,
    };
    let serve = async {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        heard(&mut stream).await;
        stream.write_all(reply.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    };
    let transport = Https::open(&server, Credential::None, "test").unwrap();
    let (answer, ()) = tokio::join!(transport.post("{}".into()), serve);
    answer
}

/// Reads a request's head.
async fn heard(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn replies_end_where_they_say_or_with_the_connection() {
    for whole in [
        "HTTP/1.0 200 OK\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n",
    ] {
        assert_eq!(sent_and_cut(whole).await.unwrap(), "{\"a\":1}", "{whole}");
    }
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        assert_eq!(sent_and_cut(cut).await.unwrap_err().code, 503, "{cut}");
    }
}

#[tokio::test]
async fn what_reads_is_asked_again_when_a_kept_connection_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { url: format!("http://{}", listener.local_addr().unwrap()), ..Server::default() };
    let transport = Https::open(&server, Credential::None, "test").unwrap();
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    // Each connection answers one request, and ends when it hears the next.
    let serve = async {
        for _ in 0..3 {
            let mut stream = listener.accept().await.unwrap().0;
            heard(&mut stream).await;
            stream.write_all(reply).await.unwrap();
            stream.read_u8().await.unwrap();
        }
    };
    let ask = async {
        assert_eq!(transport.raw_get("/a").await.unwrap(), "{}");
        assert_eq!(transport.raw_get("/b").await.unwrap(), "{}");
        assert_eq!(transport.post("{}".into()).await.unwrap_err().code, 503);
        assert_eq!(transport.post("{}".into()).await.unwrap(), "{}");
    };
    tokio::select! {
        () = ask => {}
        () = async { serve.await; std::future::pending().await } => {}
    }
}
