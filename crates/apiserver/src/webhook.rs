//! Calls of webhooks: admission and conversion. Only to where its administrators say (ARCHITECTURE.md has all that this server calls).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::Value;
use store::Backend;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::egress::{undialed, unvouched};

/// The largest reply that is read.
const MOST_REPLY_BYTES: usize = 10 * 1024 * 1024;

/// What Go's client says of a reply that is shorter than it said.
const BROKEN_OFF: &str = "unexpected error when reading response body. Please retry. Original error: unexpected EOF";

/// Connections that are kept for the next calls of a webhook.
const MOST_IDLE: usize = 25;

/// So often a server may say that it wants to be asked later, as upstream's client has it.
const MOST_RETRIES: usize = 10;

/// Where a webhook is: `clientConfig` of its configuration.
#[derive(Default)]
pub(crate) struct Webhook {
    /// `https://service.namespace.svc:443/path`, as messages show it.
    pub(crate) url: String,
    host: String,
    port: u16,
    path: String,
    /// A service of the cluster, by namespace and name.
    service: Option<(String, String)>,
    ca: String,
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
    connections: Connections,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

impl Webhook {
    /// Reads a `clientConfig`.
    pub(crate) fn parse(config: &Value) -> Result<Self, String> {
        let ca = STANDARD.decode(text(&config["caBundle"])).map_err(|e| format!("caBundle: {e}"))?;
        let ca = String::from_utf8(ca).map_err(|e| format!("caBundle: {e}"))?;
        let service = &config["service"];
        if service.is_object() {
            let (namespace, name) = (text(&service["namespace"]).to_owned(), text(&service["name"]).to_owned());
            let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
            let path = format!("/{}", text(&service["path"]).trim_start_matches('/'));
            let host = format!("{name}.{namespace}.svc");
            let shown = if path == "/" { "" } else { &path };
            let url = format!("https://{host}:{port}{shown}");
            return Ok(Self { url, host, port, path, service: Some((namespace, name)), ca, ..Self::default() });
        }
        let url = text(&config["url"]).to_owned();
        let rest = url.strip_prefix("https://").ok_or_else(|| format!("no https URL: {url:?}"))?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("no port: {port:?}"))?),
            None => (authority, 443),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = path.to_owned();
        Ok(Self { host, port, path, service: None, ca, url, ..Self::default() })
    }

    /// Posts a review and returns the answer; what fails is said in a form like Go's.
    pub(crate) async fn call(
        &self,
        store: &Arc<dyn Backend>,
        review: &Value,
        timeout: Duration,
    ) -> Result<Value, Unanswered> {
        let seconds = timeout.as_secs();
        let failed = |why: String| format!("Post \"{}?timeout={seconds}s\": {why}", self.url);
        let began = Instant::now();
        match tokio::time::timeout(timeout, self.patiently(store, review, seconds)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Post(why))) => Err(Unanswered { why: failed(why), code: None }),
            Ok(Err(Failure::Answer(why))) => Err(Unanswered { why, code: None }),
            Ok(Err(Failure::Refused(code, why) | Failure::Later(_, code, why))) => {
                Err(Unanswered { why, code: Some(code) })
            }
            Err(_) => {
                self.counted(None, began);
                Err(Unanswered { why: failed("context deadline exceeded".into()), code: None })
            }
        }
    }

    /// Asks again when the server says when to come back.
    async fn patiently(&self, store: &Arc<dyn Backend>, review: &Value, seconds: u64) -> Result<Value, Failure> {
        for _ in 0..MOST_RETRIES {
            match self.exchange(store, review, seconds).await {
                Err(Failure::Later(pause, ..)) => tokio::time::sleep(pause).await,
                done => return done,
            }
        }
        self.exchange(store, review, seconds).await
    }

    async fn address(&self, store: &Arc<dyn Backend>) -> Result<SocketAddr, String> {
        if let Some((namespace, name)) = &self.service {
            return endpoint(store, namespace, name, self.port);
        }
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok((address, self.port).into());
        }
        let mut found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|e| e.to_string())?;
        found.next().ok_or_else(|| format!("lookup {}: no such host", self.host))
    }

    /// Counts a request to it, as those of clients are.
    fn counted(&self, code: Option<StatusCode>, began: Instant) {
        let host = format!("{}:{}", self.host, self.port);
        client::https::counted(&host, &Method::POST, code.map(|code| code.as_u16()), began);
    }

    async fn exchange(&self, store: &Arc<dyn Backend>, review: &Value, seconds: u64) -> Result<Value, Failure> {
        let began = Instant::now();
        self.attempt(store, review, seconds).await.inspect_err(|failure| {
            if let Failure::Post(_) = failure {
                self.counted(None, began);
            }
        })
    }

    async fn attempt(&self, store: &Arc<dyn Backend>, review: &Value, seconds: u64) -> Result<Value, Failure> {
        let address = self.address(store).await.map_err(Failure::Post)?;
        let body = Bytes::from(review.to_string());
        // A connection that is kept may have ended meanwhile: then the request goes over a new one.
        let kept = self.connections.kept(address);
        if let Some(sender) = kept
            && let Ok(answer) = self.over(sender, address, body.clone(), seconds).await
        {
            return answer;
        }
        let sender = self.connect(address).await.map_err(Failure::Post)?;
        self.over(sender, address, body, seconds).await.map_err(|e| Failure::Post(e.to_string()))?
    }

    async fn connect(&self, address: SocketAddr) -> Result<Sender, String> {
        let tls = self.tls.get_or_init(|| {
            let ca = if self.ca.is_empty() { pki::machine_authorities().unwrap_or_default() } else { self.ca.clone() };
            let mut config = pki::client_config(&ca, None).map_err(|e| base::Chain(&e).to_string())?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        });
        let tls = TlsConnector::from(tls.clone()?);
        let stream = TcpStream::connect(address).await.map_err(|e| undialed(address, &e))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let stream = tls.connect(name, stream).await;
        let stream = stream.map_err(|e| unvouched(&e).map_or_else(|| format!("tls: {e}"), Into::into))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(client::Lenient(stream))).await.map_err(|e| e.to_string())?;
        self.connections.run(connection);
        Ok(sender)
    }

    /// Asks over a connection, and keeps it. The outer error: it has ended before there was an answer.
    async fn over(
        &self,
        mut sender: Sender,
        address: SocketAddr,
        body: Bytes,
        seconds: u64,
    ) -> Result<Result<Value, Failure>, hyper::Error> {
        sender.ready().await?;
        let path = if self.path.contains('?') { &self.path } else { &format!("{}?timeout={seconds}s", self.path) };
        let request = Request::post(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Ok(Err(Failure::Post(error.to_string()))),
        };
        let began = Instant::now();
        let response = sender.send_request(request).await?;
        let code = response.status();
        self.counted(Some(code), began);
        let is_text = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|media| media.to_str().ok())
            .is_some_and(|media| media.starts_with("text/"));
        let later = retry_after(code, response.headers());
        let body = match Limited::new(response.into_body(), MOST_REPLY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Ok(Err(Failure::Post(error.to_string()))),
            Err(_) => return Ok(Err(Failure::Answer(BROKEN_OFF.into()))),
        };
        self.connections.keep(address, sender);
        if !code.is_success() {
            let shown = if is_text { String::from_utf8_lossy(&body[..body.len().min(2048)]) } else { "unknown".into() };
            let words = refusal(code.as_u16(), shown.trim());
            return Ok(Err(match later {
                Some(pause) => Failure::Later(pause, code.as_u16(), words),
                None => Failure::Refused(code.as_u16(), words),
            }));
        }
        if let Err(why) = crate::decode::is_object(&body, code.as_u16()) {
            return Ok(Err(Failure::Answer(why)));
        }
        Ok(serde_json::from_slice::<Value>(&body).map_err(|e| Failure::Answer(e.to_string())))
    }
}

/// Why there is no answer to use.
enum Failure {
    /// The request could not be made.
    Post(String),
    /// What came back is no answer.
    Answer(String),
    /// The server refused with this code.
    Refused(u16, String),
    /// It did, and says when to ask again.
    Later(Duration, u16, String),
}

/// Why a webhook has not answered, in words like Go's.
pub(crate) struct Unanswered {
    pub(crate) why: String,
    /// What its server said, if it did.
    pub(crate) code: Option<u16>,
}

/// When a server wants to be asked again; only one that is overwhelmed or broken is believed.
fn retry_after(code: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if code != StatusCode::TOO_MANY_REQUESTS && !code.is_server_error() {
        return None;
    }
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How Go's client words a server's refusal.
fn refusal(code: u16, shown: &str) -> String {
    match code {
        401 => "the server has asked for the client to provide credentials".into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        500.. => format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// Connections of a webhook; they end with it.
#[derive(Default)]
struct Connections(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    idle: Vec<(SocketAddr, Sender)>,
    tasks: JoinSet<()>,
}

impl Connections {
    fn kept(&self, address: SocketAddr) -> Option<Sender> {
        let mut kept = self.0.lock();
        kept.idle.retain(|(_, sender)| !sender.is_closed());
        let at = kept.idle.iter().position(|(to, _)| *to == address)?;
        Some(kept.idle.swap_remove(at).1)
    }

    fn keep(&self, address: SocketAddr, sender: Sender) {
        let mut kept = self.0.lock();
        if kept.idle.len() < MOST_IDLE && !sender.is_closed() {
            kept.idle.push((address, sender));
        }
    }

    fn run(&self, connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) {
        let mut kept = self.0.lock();
        while kept.tasks.try_join_next().is_some() {}
        kept.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
    }
}

/// A ready endpoint of a service's port; its cluster address when it has no slices of endpoints.
fn endpoint(store: &Arc<dyn Backend>, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, String> {
    let missing = || format!("service {name:?} not found");
    let service = store.get(&format!("/registry/services/specs/{namespace}/{name}")).ok_or_else(missing)?;
    let service = service.object.value().map_err(|e| e.to_string())?;
    if service["spec"]["type"] == "ExternalName" {
        return Err("unsupported service type \"ExternalName\"".into());
    }
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let wanted = ports.iter().find(|p| p["port"].as_u64() == Some(port.into()));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let slices = store.range(&format!("/registry/endpointslices/{namespace}/"), None, 0, 0);
    let mut all: Vec<SocketAddr> = Vec::new();
    let mut sliced = false;
    for slice in slices.into_iter().flat_map(|page| page.items) {
        if slice.object.head.labels.get("kubernetes.io/service-name").is_none_or(|n| n != name) {
            continue;
        }
        sliced = true;
        let Ok(value) = slice.object.value() else { continue };
        let named = |p: &&Value| text(&p["name"]) == text(&wanted["name"]);
        let target = value["ports"].as_array().into_iter().flatten().find(named).and_then(|p| p["port"].as_u64());
        let Some(target) = target.and_then(|p| u16::try_from(p).ok()) else { continue };
        let ready = value["endpoints"].as_array().into_iter().flatten().filter(|e| e["conditions"]["ready"] != false);
        let addresses = ready.flat_map(|e| e["addresses"].as_array().into_iter().flatten());
        all.extend(addresses.filter_map(|a| text(a).parse::<IpAddr>().ok()).map(|ip| SocketAddr::from((ip, target))));
    }
    if !all.is_empty() {
        return Ok(all[rand::random_range(0..all.len())]);
    }
    match text(&service["spec"]["clusterIP"]).parse::<IpAddr>() {
        Ok(ip) if !sliced => Ok((ip, port).into()),
        _ => Err(format!("no endpoints available for service {name:?}")),
    }
}
