//! Calls of webhooks: admission and conversion. The only requests that the API server makes, and only to where its administrators say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use store::Backend;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest reply that is read.
const MOST_REPLY_BYTES: usize = 10 * 1024 * 1024;

/// Where a webhook is: `clientConfig` of its configuration.
pub(crate) struct Webhook {
    /// `https://service.namespace.svc:443/path`, as messages show it.
    pub(crate) url: String,
    host: String,
    port: u16,
    path: String,
    /// A service of the cluster, by namespace and name.
    service: Option<(String, String)>,
    ca: String,
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
            return Ok(Self { url, host, port, path, service: Some((namespace, name)), ca });
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
        Ok(Self { host, port, path, service: None, ca, url })
    }

    /// Posts a review and returns the answer; what fails is said in a form like Go's.
    pub(crate) async fn call(
        &self,
        store: &Arc<dyn Backend>,
        review: &Value,
        timeout: Duration,
    ) -> Result<Value, String> {
        let seconds = timeout.as_secs();
        let failed = |why: String| format!("failed to call webhook: Post \"{}?timeout={seconds}s\": {why}", self.url);
        match tokio::time::timeout(timeout, self.exchange(store, review, seconds)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed("context deadline exceeded".into())),
        }
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

    async fn exchange(&self, store: &Arc<dyn Backend>, review: &Value, seconds: u64) -> Result<Value, String> {
        let address = self.address(store).await?;
        let mut config = pki::client_config(&self.ca, None).map_err(|e| base::Chain(&e).to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.map_err(|e| format!("dial tcp {address}: connect: {e}"))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| format!("tls: {e}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let path = if self.path.contains('?') { &self.path } else { &format!("{}?timeout={seconds}s", self.path) };
        let request = Request::post(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(|e| e.to_string())?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let code = response.status();
            let body = Limited::new(response.into_body(), MOST_REPLY_BYTES)
                .collect()
                .await
                .map_err(|e| e.to_string())?
                .to_bytes();
            if !code.is_success() {
                let shown = String::from_utf8_lossy(&body[..body.len().min(512)]).trim().to_owned();
                return Err(format!(
                    "an error on the server ({shown:?}) has prevented the request from succeeding ({code})"
                ));
            }
            serde_json::from_slice::<Value>(&body).map_err(|e| e.to_string())
        };
        // The connection is driven by whoever waits for the answer, and ends with it.
        tokio::pin!(answered);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answered => answer,
            ended = &mut connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// A ready endpoint of a service's port; its cluster address when it has no slices of endpoints.
fn endpoint(store: &Arc<dyn Backend>, namespace: &str, name: &str, port: u16) -> Result<SocketAddr, String> {
    let missing = || format!("service {name:?} not found");
    let service = store.get(&format!("/registry/services/specs/{namespace}/{name}")).ok_or_else(missing)?;
    let service = service.object.value().map_err(|e| e.to_string())?;
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
