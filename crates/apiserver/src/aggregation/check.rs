//! Whether a remote API can be used: upstream's checks, reasons and words.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::IndexedRandom;
use serde_json::Value;

use super::{Remote, Service, discovery, merged, proxy};
use crate::api::Api;
use crate::egress::{EgressError, Target, undialed, unvouched};

/// How long a server may take to answer the check.
const PATIENCE: Duration = Duration::from_secs(5);
/// Discovery and OpenAPI indexes are not larger than this.
const MOST_BYTES: usize = 16 << 20;

/// `Available` of an APIService.
pub(super) struct Condition {
    pub(super) is_true: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Condition {
    pub(super) fn local() -> Self {
        let message = "Local APIServices are always available".into();
        Self { is_true: true, reason: "Local", message }
    }

    fn not(reason: &'static str, message: String) -> Self {
        Self { is_true: false, reason, message }
    }
}

impl Api {
    /// A ready endpoint of the service, as `address:port`; why there is none.
    pub(super) fn endpoint(&self, service: &Service) -> Result<String, Condition> {
        let Service { namespace, name, port } = service;
        let found = self.stored_value(&format!("/registry/services/specs/{namespace}/{name}"));
        let Some(object) = found else {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Err(Condition::not("ServiceNotFound", message));
        };
        if object["spec"]["type"] == "ExternalName" {
            let message = format!(
                "service/{name} in {namespace:?} cannot be checked due to: it is of type ExternalName, which names no endpoints of the cluster"
            );
            return Err(Condition::not("ServiceAccessError", message));
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let Some(entry) = list(&object["spec"]["ports"]).into_iter().find(|p| p["port"] == *port) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Err(Condition::not("ServicePortError", message));
        };
        let port_name = entry["name"].as_str().unwrap_or("");
        let page = self.store.range(&format!("/registry/endpointslices/{namespace}/"), None, 0, 0);
        let slices = page.map(|page| page.items).unwrap_or_default().into_iter().map(|v| v.object);
        let slices: Vec<Value> = slices
            .filter(|s| s.head.labels.get("kubernetes.io/service-name") == Some(name.as_str()))
            .filter_map(|s| s.value().ok())
            .collect();
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return Err(Condition::not("EndpointsNotFound", message));
        }
        let mut addresses = Vec::new();
        for slice in &slices {
            let named = list(&slice["ports"]).into_iter().find(|p| p["name"].as_str().unwrap_or("") == port_name);
            let Some(number) = named.and_then(|p| p["port"].as_i64()) else { continue };
            for endpoint in list(&slice["endpoints"]).iter().filter(|e| e["conditions"]["ready"] != false) {
                let first = endpoint["addresses"][0].as_str().and_then(|a| a.parse::<std::net::IpAddr>().ok());
                addresses.extend(first.map(|ip| match ip {
                    std::net::IpAddr::V4(ip) => format!("{ip}:{number}"),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]:{number}"),
                }));
            }
        }
        addresses.choose(&mut rand::rng()).cloned().ok_or_else(|| {
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            Condition::not("MissingEndpoints", message)
        })
    }

    /// Where a remote API is reached now.
    pub(super) fn target(&self, remote: &Remote) -> Result<Target, Condition> {
        let address = self.endpoint(&remote.service)?;
        let tls = remote.tls.clone().map_err(|why| Condition::not("FailedDiscoveryCheck", why))?;
        Ok(Target { address, name: remote.service.host(), tls })
    }

    /// Asks a remote API for its resources.
    pub(super) async fn check_remote(&self, remote: &mut Remote) -> Condition {
        let target = match self.target(remote) {
            Ok(target) => target,
            Err(condition) => return condition,
        };
        let path = format!("/apis/{}/{}", remote.group, remote.version);
        let url = format!("https://{}{path}", target.address);
        let headers = proxy::own_headers();
        let asked = tokio::time::timeout(PATIENCE, self.egress.get(&target, &path, &headers, MOST_BYTES)).await;
        let list: Value = match asked {
            Ok(Ok(body)) => serde_json::from_slice(&body).unwrap_or_default(),
            Ok(Err(error)) => {
                let message = match &error {
                    EgressError::Code(_, code) => {
                        format!("failing or missing response from {url}: bad status from {url}: {}", code.as_u16())
                    }
                    error => format!("failing or missing response from {url}: Get \"{url}\": {}", words(error)),
                };
                return Condition::not("FailedDiscoveryCheck", message);
            }
            Err(_) => return Condition::not("FailedDiscoveryCheck", format!("timed out waiting for {url}")),
        };
        // An answer that is no list leaves what was known, as something old.
        remote.is_current = list["resources"].is_array();
        if remote.is_current {
            remote.resources = Some(discovery::resources(&remote.group, &remote.version, &list));
        }
        let known = remote.openapi.clone();
        if let Ok(Ok(index)) =
            tokio::time::timeout(PATIENCE, self.egress.get(&target, "/openapi/v3", &headers, MOST_BYTES)).await
        {
            let index: Value = serde_json::from_slice(&index).unwrap_or_default();
            let url = index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str().unwrap_or("");
            remote.openapi = url.split_once("hash=").map(|(_, hash)| hash.split('&').next().unwrap_or("").to_owned());
        }
        // As long as the newer document is the same, so is the older one.
        if remote.v2.is_none() || remote.openapi.is_none() || remote.openapi != known {
            let asked = self.egress.get(&target, "/openapi/v2", &headers, MOST_BYTES);
            if let Ok(Ok(document)) = tokio::time::timeout(PATIENCE, asked).await {
                let document: Value = serde_json::from_slice(&document).unwrap_or_default();
                remote.v2 = Some(Arc::new(merged::part_v2(document, &remote.group, &remote.version)));
            }
        }
        Condition { is_true: true, reason: "Passed", message: "all checks passed".into() }
    }
}

/// What went wrong, in the words of Go's client where those are known.
fn words(error: &EgressError) -> String {
    let known = match error {
        EgressError::Handshake(_, why) => unvouched(why).map(Into::into),
        EgressError::Connect(address, why) => Some(undialed(address, why)),
        _ => None,
    };
    known.unwrap_or_else(|| base::Chain(error).to_string())
}

impl Service {
    /// The name that its certificate must have.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}
