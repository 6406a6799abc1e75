//! The HTTP client of probes and hooks: one GET, no verification of certificates, no redirects to other hosts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use super::net;
use crate::api::{Container, HttpGet};

/// Most of a body that is read.
const MOST_BODY: usize = 10 * 1024;
/// Redirects that are followed on the same host.
const MOST_REDIRECTS: usize = 10;

/// Where a GET goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The `Host` header when the pod asks for one.
    virtual_host: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    location: Option<String>,
}

impl Target {
    /// The target of an `httpGet` action.
    pub(crate) fn new(action: &HttpGet, container: &Container, pod_ip: &str, agent: &str) -> Result<Self, String> {
        let mut headers = Vec::new();
        let mut virtual_host = None;
        for wanted in &action.http_headers {
            if wanted.name.eq_ignore_ascii_case("host") {
                virtual_host = Some(wanted.value.clone());
                continue;
            }
            let name = HeaderName::try_from(wanted.name.as_str());
            let value = HeaderValue::try_from(wanted.value.as_str());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.push((name, value));
            }
        }
        if !headers.iter().any(|(name, _)| name == header::USER_AGENT) {
            let agent = format!("{agent}/{}.{}", crate::MAJOR, crate::MINOR);
            headers.extend(HeaderValue::try_from(agent).map(|value| (header::USER_AGENT, value)));
        }
        if !headers.iter().any(|(name, _)| name == header::ACCEPT) {
            headers.push((header::ACCEPT, HeaderValue::from_static("*/*")));
        }
        let path = match action.path.as_str() {
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        Ok(Self {
            is_tls: action.scheme.eq_ignore_ascii_case("https"),
            host: if action.host.is_empty() { pod_ip.to_owned() } else { action.host.clone() },
            port: container.port_number(&action.port)?,
            path,
            headers,
            virtual_host,
        })
    }

    /// `http://10.42.0.5:8080/healthz`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", net::address(&self.host, self.port), self.path)
    }
}

/// Sends the request within `timeout`.
pub(crate) async fn get(target: &Target, timeout: Duration) -> Result<Reply, String> {
    let exchange = async {
        let mut target = target.clone();
        let mut reply = get_once(&target, timeout).await?;
        for _ in 0..MOST_REDIRECTS {
            let Some(path) = reply.location.as_deref().and_then(|to| local_path(to, &target)) else { break };
            target.path = path;
            reply = get_once(&target, timeout).await?;
        }
        Ok(reply)
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(reply) => reply,
        Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()),
    }
}

/// The path of a redirect that stays on the host.
fn local_path(location: &str, target: &Target) -> Option<String> {
    let uri: http::Uri = location.parse().ok()?;
    let same = uri.host().is_none_or(|host| host == target.host);
    let same = same && uri.port_u16().is_none_or(|port| port == target.port);
    same.then(|| uri.path_and_query().map(|p| p.as_str().to_owned())).flatten()
}

async fn get_once(target: &Target, timeout: Duration) -> Result<Reply, String> {
    let stream = net::connect(&target.host, target.port, timeout).await?;
    if !target.is_tls {
        return exchange(target, stream).await;
    }
    let connector = tokio_rustls::TlsConnector::from(unverified());
    let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
    let stream = connector.connect(name, stream).await.map_err(|e| format!("remote error: tls: {e}"))?;
    exchange(target, stream).await
}

async fn exchange<S>(target: &Target, stream: S) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let authority = target.virtual_host.clone().unwrap_or_else(|| net::address(&target.host, target.port));
    let mut request = Request::builder().method(Method::GET).uri(target.path.as_str()).header(header::HOST, authority);
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.header(header::CONNECTION, "close").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let talk = async {
        let reply = sender.send_request(request).await.map_err(|e| hyper_words(&e))?;
        let status = reply.status().as_u16();
        let location = reply.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let location = location.filter(|_| (300..400).contains(&status));
        // A body that is too long is cut, not an error.
        let body = Limited::new(reply.into_body(), MOST_BODY).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned(), location })
    };
    tokio::pin!(talk);
    tokio::pin!(connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            reply = &mut talk => return reply,
            // The reply may still be read after the connection is done.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

fn hyper_words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".into() } else { base::Chain(error).to_string() }
}

/// Probes speak TLS to pods whose certificates nobody has told the node about.
fn unverified() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let make = || pki::credulous_client_config(None).map(Arc::new).expect("ring serves the default TLS versions");
    CONFIG.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IntOrString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that answers `/ok`, `/away` (to `/ok`), `/off` (to another host) and refuses the rest.
    async fn server(tasks: &mut tokio::task::JoinSet<()>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let reply = match text.split(' ').nth(1).unwrap_or_default() {
                    "/ok" if text.contains("user-agent: kube-probe/1.36") => "200 OK\r\ncontent-length: 2\r\n\r\nhi",
                    "/away" => "302 Found\r\nlocation: /ok\r\ncontent-length: 0\r\n\r\n",
                    "/off" => "302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
                    _ => "503 Sorry\r\ncontent-length: 0\r\n\r\n",
                };
                stream.write_all(format!("HTTP/1.1 {reply}").as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn replies_and_faults() {
        let mut tasks = tokio::task::JoinSet::new();
        let port = server(&mut tasks).await;
        let ask = async |path: &str, port: u16| {
            let action = HttpGet {
                path: path.into(),
                port: IntOrString::Int(i64::from(port)),
                host: String::new(),
                scheme: "HTTP".into(),
                http_headers: Vec::new(),
            };
            let target = Target::new(&action, &Container::default(), "127.0.0.1", "kube-probe").unwrap();
            get(&target, Duration::from_secs(20)).await.map(|reply| reply.status)
        };
        assert_eq!(ask("ok", port).await, Ok(200));
        assert_eq!(ask("/away", port).await, Ok(200));
        assert_eq!(ask("/off", port).await, Ok(302));
        assert_eq!(ask("/broken", port).await, Ok(503));
        tasks.shutdown().await;
        let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(ask("/ok", port).await, Err(refused));
    }
}
