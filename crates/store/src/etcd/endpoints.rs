//! Where etcd is, and calls that go to whichever member answers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::grpc::{CallError, Channel, UNAVAILABLE};
use crate::backend::StoreError;

/// Where Debian, Fedora and Alpine keep the machine's authorities.
const MACHINE_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Where an etcd cluster is, and how to speak to it.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `https://10.0.0.1:2379`, one per member.
    pub endpoints: Vec<String>,
    /// The authority that signed the members' certificates; the machine's own when not given.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show them.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// A member's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = || StoreError::Configuration(format!("not an address of etcd: {text:?} (https://10.0.0.1:2379)"));
        let uri: http::Uri = text.trim().parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        Ok(Self { secure, host, port: uri.port_u16().unwrap_or(2379) })
    }

    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// How a call may be repeated when its outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Any time: it changes nothing, or nothing more the second time.
    Always,
    /// Only when it cannot have taken effect.
    IfNotDone,
}

/// The members, one of them in use.
pub(super) struct Members {
    endpoints: Vec<Endpoint>,
    tls: Option<TlsConnector>,
    current: tokio::sync::Mutex<Current>,
}

#[derive(Default)]
struct Current {
    channel: Option<Arc<Channel>>,
    next: usize,
}

fn unreadable(path: &Path, why: impl fmt::Display) -> StoreError {
    StoreError::Configuration(format!("cannot read {}: {why}", path.display()))
}

fn tls(options: &EtcdOptions) -> Result<TlsConnector, StoreError> {
    let mut roots = RootCertStore::empty();
    let machine = || MACHINE_AUTHORITIES.iter().map(PathBuf::from).find(|p| p.exists());
    let ca = options.ca_file.clone().or_else(machine);
    let ca = ca.ok_or_else(|| StoreError::Configuration("no certificate authority for etcd is given".into()))?;
    for certificate in CertificateDer::pem_file_iter(&ca).map_err(|e| unreadable(&ca, e))? {
        let certificate = certificate.map_err(|e| unreadable(&ca, e))?;
        // Among the machine's authorities some may be of a form that rustls does not take.
        let added = roots.add(certificate);
        if options.ca_file.is_some() {
            added.map_err(|e| unreadable(&ca, e))?;
        }
    }
    let refused = |e: rustls::Error| StoreError::Configuration(format!("TLS to etcd: {e}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots);
    let mut config = match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(cert).map_err(|e| unreadable(cert, e))?.collect();
            let chain = chain.map_err(|e| unreadable(cert, e))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            let text = "a certificate for etcd needs its key, and the key its certificate";
            return Err(StoreError::Configuration(text.into()));
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Members {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let given = options.endpoints.iter().map(|e| e.as_str()).filter(|e| !e.trim().is_empty());
        let endpoints: Vec<Endpoint> = given.map(Endpoint::parse).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(StoreError::Configuration("no address of etcd is given".into()));
        }
        let tls = if endpoints.iter().any(|e| e.secure) { Some(tls(options)?) } else { None };
        Ok(Self { endpoints, tls, current: Default::default() })
    }

    /// A connection of the caller's own, to the next member that can be reached.
    pub(super) async fn connect(&self) -> Result<Channel, CallError> {
        let mut last = None;
        for _ in 0..self.endpoints.len() {
            let at = {
                let mut current = self.current.lock().await;
                current.next = (current.next + 1) % self.endpoints.len();
                current.next
            };
            match Channel::connect(&self.endpoints[at], self.tls.as_ref()).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| CallError::Unreachable { endpoint: String::new(), why: "no members".into() }))
    }

    /// The connection that calls share, made anew when it is closed.
    async fn shared(&self) -> Result<Arc<Channel>, CallError> {
        let mut current = self.current.lock().await;
        if let Some(channel) = current.channel.as_ref().filter(|c| !c.is_closed()) {
            return Ok(channel.clone());
        }
        let at = current.next % self.endpoints.len();
        match Channel::connect(&self.endpoints[at], self.tls.as_ref()).await {
            Ok(channel) => {
                let channel = Arc::new(channel);
                current.channel = Some(channel.clone());
                Ok(channel)
            }
            Err(error) => {
                current.next = at + 1;
                Err(error)
            }
        }
    }

    /// The next call goes elsewhere.
    async fn leave(&self, failed: &Arc<Channel>) {
        let mut current = self.current.lock().await;
        if current.channel.as_ref().is_some_and(|c| Arc::ptr_eq(c, failed)) {
            current.channel = None;
            current.next = (current.next + 1) % self.endpoints.len();
        }
    }

    /// Calls until a member answers or `deadline` is over; a member gets `patience` each time.
    pub(super) async fn call<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        repeat: Repeat,
        patience: Duration,
        deadline: Instant,
    ) -> Result<A, StoreError> {
        let mut backoff = base::Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let error = match self.shared().await {
                Err(error) => error,
                Ok(channel) => match channel.unary(path, request, patience).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        if is_transient(&error) {
                            self.leave(&channel).await;
                        }
                        error
                    }
                },
            };
            tracing::debug!(%error, path, "a call of etcd failed");
            let again = is_transient(&error) && (repeat == Repeat::Always || !may_be_done(&error));
            let wait = backoff.next_wait();
            if !again || Instant::now() + wait >= deadline {
                return Err(store_error(&error));
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// True when another attempt or another member may do better.
fn is_transient(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } | CallError::Broken { .. } => true,
        // cancelled, deadline exceeded, too many requests, unavailable
        CallError::Status { code, message } => {
            matches!(*code, 1 | 4 | UNAVAILABLE) || (*code == 8 && message.contains("too many requests"))
        }
    }
}

/// False when the request certainly took no effect.
fn may_be_done(error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } => false,
        CallError::Broken { .. } => true,
        CallError::Status { message, .. } => !message.contains("no leader") && !message.contains("too many requests"),
    }
}

fn store_error(error: &CallError) -> StoreError {
    match error {
        CallError::Unreachable { .. } => StoreError::Unavailable(error.to_string()),
        CallError::Broken { .. } => StoreError::TimedOut(error.to_string()),
        CallError::Status { code: 4, message } => StoreError::TimedOut(message.clone()),
        CallError::Status { message, .. } if message.contains("timed out") => StoreError::TimedOut(message.clone()),
        CallError::Status { code: 1 | UNAVAILABLE, message } => StoreError::Unavailable(message.clone()),
        CallError::Status { code, message } => StoreError::Io {
            operation: "ask etcd".into(),
            source: std::io::Error::other(format!("{message} (gRPC code {code})")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls() {
        let check = |text: &str, wanted: Option<&str>| {
            assert_eq!(Endpoint::parse(text).ok().map(|e| e.to_string()).as_deref(), wanted, "{text}");
        };
        check("https://etcd-1.example:2379", Some("https://etcd-1.example:2379"));
        check("http://127.0.0.1", Some("http://127.0.0.1:2379"));
        check(" http://[::1]:23790/", Some("http://[::1]:23790"));
        for bad in ["", "127.0.0.1:2379", "ftp://x", "https://", "https://x/registry", "mysql://u:p@tcp(x)/y"] {
            check(bad, None);
        }
    }
}
