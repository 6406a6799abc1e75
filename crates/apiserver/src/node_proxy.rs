//! The way to the agent of a node in this process: logs, exec, attach, port-forward. Other nodes' agents are reached by HTTPS.

use async_trait::async_trait;
use hyper::{Request, Response};

use crate::http::Body;

/// Carries a request to a node's kubelet. The path is the kubelet's (`/exec/<namespace>/<pod>/<container>?...`); a request to
/// upgrade carries its `OnUpgrade`, so whoever answers 101 also gets the connection.
#[async_trait]
pub trait NodeProxy: Send + Sync {
    /// Whether the node is this one.
    fn is(&self, node: &str) -> bool;

    /// The kubelet's reply.
    async fn send(&self, request: Request<Body>) -> Response<Body>;
}
