//! The way to a node's agent: logs, exec, attach, port-forward.

use async_trait::async_trait;
use hyper::{Request, Response};

use crate::http::Body;

/// Carries a request to a node's kubelet. The path is the kubelet's (`/exec/<namespace>/<pod>/<container>?...`); a request to
/// upgrade carries its `OnUpgrade`, so whoever answers 101 also gets the connection.
#[async_trait]
pub trait NodeProxy: Send + Sync {
    /// The kubelet's reply.
    async fn send(&self, node: &str, request: Request<Body>) -> Response<Body>;
}
