//! What the kubelet of a pod's node does: logs, exec, attach, port-forward.

use client::Resource;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use object::{Gvr, Reason, Status};
use serde_json::Value;

use super::proxy::{self, Place, Unanswered};
use super::reply::{self, Body};
use super::route::{self, Query};
use super::upgrade::is_upgrade;
use super::{Handled, Service};
use crate::inprocess::attributes;
use crate::user::User;

/// True for subresources that a kubelet serves.
pub(super) fn is_streamed(at: &Resource) -> bool {
    at.gvr.group.is_empty()
        && at.gvr.resource == "pods"
        && matches!(at.subresource.as_deref(), Some("exec" | "attach" | "portforward" | "log"))
}

impl Service {
    /// Hands a request on to the kubelet of the pod's node.
    pub(super) async fn to_node(&self, user: &User, at: &Resource, query: &Query, request: Request<Body>) -> Handled {
        let sub = at.subresource.as_deref().unwrap_or("");
        if sub != "log" && request.method() == Method::GET {
            // Reading from a container's terminal is doing: a GET needs what a POST needs.
            self.api.authorize(user, &attributes("create", at)).await?;
        }
        let pod = self.api.get(&Resource { subresource: None, ..at.clone() })?;
        let value = pod.value().map_err(Status::internal)?;
        let (namespace, name) = (&pod.head.namespace, &pod.head.name);
        let path = match sub {
            "portforward" => format!("/portForward/{namespace}/{name}"),
            _ => {
                let container = choose_container(&value, query.get("container"))?;
                let first = if sub == "log" { "containerLogs" } else { sub };
                format!("/{first}/{namespace}/{name}/{container}")
            }
        };
        let node = match value["spec"]["nodeName"].as_str() {
            None | Some("") if sub == "log" => return Ok(reply::text(204, String::new())),
            None | Some("") => return Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
            Some(node) => node.to_owned(),
        };
        if sub != "log" && !is_upgrade(request.headers()) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let query = request.uri().query().map(route::kubelet_query).filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path: PathAndQuery = format!("{path}{query}").parse().map_err(|e| Status::bad_request(format!("{e}")))?;
        let spare = spare(&request, sub);
        let response = match (self.ask_node(&node, path.clone(), request).await, spare) {
            (Err(Unanswered::Unreached { at, why }), Some(spare)) => {
                let url = format!("https://{at}{}", as_go_asks(&path));
                let why = format!("error sending request: Post {url:?}: {why}");
                return Ok(self.sockets.refuse(spare, options(&path), why));
            }
            (response, _) => response.map_err(|unanswered| silent(unanswered, sub, &path))?,
        };
        // The client's credentials are not for whom a node names.
        if response.status().is_redirection() {
            return Err(Status { reason: None, ..Status::internal("redirects forbidden") });
        }
        Ok(response)
    }

    /// Sends a request to a node's kubelet, under another path: within the process, or to the address that the node has.
    pub(super) async fn ask_node(
        &self,
        node: &str,
        path: PathAndQuery,
        request: Request<Body>,
    ) -> Result<Response<Body>, Unanswered> {
        if let Some(local) = self.nodes.as_ref().filter(|local| local.is(node)) {
            let (mut parts, body) = request.into_parts();
            parts.uri = path.into();
            return Ok(local.send(Request::from_parts(parts, body)).await);
        }
        let at = Resource::object(&Gvr::new("", "v1", "nodes"), None, node);
        let place = kubelet(&self.api.get(&at)?.value().map_err(Status::internal)?)?;
        proxy::send(&self.api.egress, &place, &self.kubelet_tls, path, request).await
    }
}

/// The newest protocol for sessions over WebSocket. As upstream, who speaks it is told over it that there is no kubelet.
const NEWEST: &str = "v5.channel.k8s.io";

/// What is needed to answer a request that was handed on in vain, where the answer goes over a WebSocket.
fn spare(request: &Request<Body>, sub: &str) -> Option<Request<Body>> {
    let has = |name: HeaderName, word: &str| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    let wanted = matches!(sub, "exec" | "attach")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_PROTOCOL, NEWEST);
    wanted.then(|| {
        let mut spare = Request::new(reply::full(bytes::Bytes::new()));
        *spare.headers_mut() = request.headers().clone();
        *spare.extensions_mut() = request.extensions().clone();
        spare
    })
}

/// The path and query as upstream's server would have asked the kubelet: in order, and only for what is wanted.
fn as_go_asks(path: &PathAndQuery) -> String {
    let Some(query) = path.query() else { return path.path().to_owned() };
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.ends_with("=0")).collect();
    pairs.sort_by_key(|pair| pair.split('=').next());
    let mark = if pairs.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", path.path(), pairs.join("&"))
}

/// What a kubelet is asked to stream.
fn options(path: &PathAndQuery) -> streaming::Options {
    let wants = |name: &str| path.query().is_some_and(|query| query.split('&').any(|pair| pair == name));
    let tty = wants("tty=1");
    streaming::Options { stdin: wants("input=1"), stdout: wants("output=1"), stderr: wants("error=1") && !tty, tty }
}

/// The refusal of a request that a pod's kubelet does not answer.
fn silent(unanswered: Unanswered, sub: &str, path: &PathAndQuery) -> Status {
    let Unanswered::Unreached { at, why } = unanswered else { return unanswered.into() };
    let message = match sub {
        "log" => format!("Get \"https://{at}{path}\": {why}"),
        _ => format!("error dialing backend: {why}"),
    };
    Status { reason: None, ..Status::new(Reason::InternalError, message) }
}

/// Where a node's kubelet listens, by what the node says of itself.
fn kubelet(node: &Value) -> Result<Place, Status> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().filter(|port| *port != 0);
    let port = port.and_then(|port| port.try_into().ok()).unwrap_or(proxy::KUBELET_PORT);
    proxy::node(node, "https", port).and_then(Place::checked)
}

/// The container that a request means: the one it names, or the only one.
fn choose_container(pod: &Value, given: Option<String>) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).map(Into::into).collect()
    };
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let mut containers = names("containers");
    let all = [names("initContainers"), containers.clone(), names("ephemeralContainers")].concat();
    match given.filter(|g| !g.is_empty()) {
        Some(given) if all.contains(&given) => Ok(given),
        Some(given) => Err(Status::bad_request(format!("container {given} is not valid for pod {name}"))),
        None if containers.len() == 1 => Ok(containers.remove(0)),
        None => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kubelets_are_where_their_nodes_say() {
        let of = |address: &str, port: u16| {
            let addresses = json!([{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": address}]);
            let endpoints = json!({"kubeletEndpoint": {"Port": port}});
            kubelet(&json!({"status": {"addresses": addresses, "daemonEndpoints": endpoints}}))
        };
        let at = |ip: &str, port| {
            proxy::node(&json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}]}}), "https", port)
        };
        assert_eq!(of("192.0.2.1", 10260), at("192.0.2.1", 10260));
        assert_eq!(of("192.0.2.1", 0), at("192.0.2.1", 10250));
        assert_eq!(of("127.0.0.1", 10250).unwrap_err().message, "address not allowed");
        assert_eq!(of("169.254.0.1", 10250).unwrap_err().code, 400);
        assert_eq!(kubelet(&json!({})).unwrap_err().code, 503);
    }

    #[test]
    fn a_kubelet_that_does_not_answer_is_told_of() {
        let why = "dial tcp 192.0.2.1:10250: connect: connection refused";
        let said = |sub| {
            let unanswered = Unanswered::Unreached { at: "192.0.2.1:10250".parse().unwrap(), why: why.into() };
            let status = silent(unanswered, sub, &"/containerLogs/ns/p/c?follow=true".parse().unwrap());
            assert_eq!((status.code, status.reason), (500, None));
            status.message
        };
        assert_eq!(said("log"), format!("Get \"https://192.0.2.1:10250/containerLogs/ns/p/c?follow=true\": {why}"));
        assert_eq!(said("exec"), format!("error dialing backend: {why}"));
    }

    #[test]
    fn kubelets_are_asked_as_upstream_asks_them() {
        let path: PathAndQuery = "/exec/ns/p/c?output=1&command=b&input=0&command=a&error=1".parse().unwrap();
        assert_eq!(as_go_asks(&path), "/exec/ns/p/c?command=b&command=a&error=1&output=1");
        assert_eq!(as_go_asks(&"/attach/ns/p/c?output=0".parse().unwrap()), "/attach/ns/p/c");
        let wanted = streaming::Options { stdout: true, stderr: true, ..Default::default() };
        assert_eq!(options(&path), wanted);
    }

    #[test]
    fn containers_are_chosen() {
        let check = |pod: &Value, given: Option<&str>, wanted: Result<&str, &str>| {
            let chosen = choose_container(pod, given.map(Into::into));
            assert_eq!(chosen.as_deref().map_err(|s| s.message.as_str()), wanted);
        };
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        check(&one, None, Ok("a"));
        check(&one, Some(""), Ok("a"));
        check(&one, Some("i"), Ok("i"));
        check(&one, Some("x"), Err("container x is not valid for pod p"));
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        check(&two, None, Err("a container name must be specified for pod p, choose one of: [i a b]"));
    }
}
