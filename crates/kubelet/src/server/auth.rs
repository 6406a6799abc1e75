//! Who asks, and what they may.

use http::Method;

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The user; empty for nobody.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl Peer {
    /// Someone who showed no certificate.
    pub fn anonymous() -> Self {
        Self::default()
    }
    /// The API server in the same process.
    pub fn trusted() -> Self {
        Self { user: "system:apiserver".into(), groups: vec!["system:masters".into()] }
    }
    /// True for nobody.
    pub fn is_anonymous(&self) -> bool {
        self.user.is_empty()
    }
}

/// Decides who may use the kubelet's API.
pub trait Authorizer: Send + Sync {
    /// `verb` on `nodes/<subresource>` (`log`, `proxy`, `stats`, `metrics`, `pods`, `configz`).
    fn allows(&self, peer: &Peer, verb: &str, subresource: &str) -> bool;
}

/// Only the API server's kubelet client and `system:masters`.
#[derive(Clone, Debug)]
pub struct ApiServerOnly {
    /// CN of the API server's kubelet client certificate.
    pub user: String,
}

impl Default for ApiServerOnly {
    fn default() -> Self {
        Self { user: "kube-apiserver-kubelet-client".into() }
    }
}

impl Authorizer for ApiServerOnly {
    fn allows(&self, peer: &Peer, _: &str, _: &str) -> bool {
        peer.user == self.user || peer.groups.iter().any(|g| g == "system:masters")
    }
}

/// The subresource of `nodes` that a path belongs to.
pub(crate) fn subresource(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "pods" | "runningpods" => "pods",
        "healthz" => "healthz",
        "configz" => "configz",
        _ => "proxy",
    }
}

pub(crate) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}
