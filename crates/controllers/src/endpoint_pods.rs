//! What endpoints and endpoint slices have in common: services, their pods, ports, addresses.

use std::net::IpAddr;
use std::sync::Arc;

use client::Change;
use object::{LabelSelector, Object};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::{PODS, SERVICES};
use crate::views::{Map, Meta, Pod};
use crate::world::World;

/// When a change became known whose effect an object shows.
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Marks what belongs to a service without a cluster address.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What is read of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub metadata: Meta,
    pub spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    pub r#type: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub selector: Option<Map>,
    pub ports: Option<Vec<ServicePort>>,
    pub ip_families: Option<Vec<String>>,
    pub publish_not_ready_addresses: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub name: String,
    pub port: i64,
    pub protocol: Option<String>,
    pub app_protocol: Option<String>,
    pub target_port: Value,
}

/// A port of endpoints, as both kinds of object write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub name: String,
    pub port: i64,
    pub protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl Service {
    /// The service, if its endpoints are ours to find: it has a selector and is no ExternalName.
    pub fn of(object: &Object) -> Option<Self> {
        let service: Self = object.view().ok()?;
        (service.spec.r#type != "ExternalName" && service.spec.selector.is_some()).then_some(service)
    }
    /// True when it has no address of its own.
    pub fn is_headless(&self) -> bool {
        matches!(self.spec.cluster_ip.as_str(), "None" | "")
    }
    /// `IPv4` and `IPv6`, in its order.
    pub fn families(&self) -> Vec<&str> {
        match self.spec.ip_families.as_deref().unwrap_or_default() {
            [] if self.spec.cluster_ip.contains(':') => vec!["IPv6"],
            [] => vec!["IPv4"],
            families => families.iter().map(String::as_str).collect(),
        }
    }
    /// The pods that it selects, in name order.
    pub fn pods(&self, world: &World) -> Vec<Arc<Object>> {
        let selector = LabelSelector::from_map(self.spec.selector.as_ref().unwrap_or(&Map::new()));
        world.select(&PODS, &self.metadata.namespace, &selector)
    }
    /// Its ports on a pod; a port whose name the pod does not have is left out.
    pub fn ports_on(&self, pod: &Pod) -> Vec<Port> {
        let ports = self.spec.ports.iter().flatten();
        let mut ports: Vec<Port> = ports.filter_map(|port| port.on(pod)).collect();
        ports.sort();
        ports
    }
    /// The name that DNS gives a pod of it.
    pub fn hostname<'p>(&self, pod: &'p Pod) -> Option<&'p str> {
        let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == self.metadata.name;
        named.then_some(pod.spec.hostname.as_str())
    }
}

impl ServicePort {
    fn on(&self, pod: &Pod) -> Option<Port> {
        let protocol = self.protocol.as_deref().unwrap_or("TCP");
        let number = match &self.target_port {
            Value::Number(number) if number.as_i64() != Some(0) => number.as_i64()?,
            Value::String(name) if !name.is_empty() => {
                let same = |p: &&crate::views::ContainerPort| {
                    p.name == *name && p.protocol.as_deref().unwrap_or("TCP") == protocol
                };
                pod.all_ports().find(same)?.container_port
            }
            _ => self.port,
        };
        Some(Port {
            name: self.name.clone(),
            port: number,
            protocol: protocol.into(),
            app_protocol: self.app_protocol.clone(),
        })
    }
}

/// True when a pod can be an endpoint: it has an address and has not ended; a terminating one if that is asked for.
pub(crate) fn belongs(pod: &Pod, terminating: bool) -> bool {
    !pod.is_finished() && !pod.status.pod_ip.is_empty() && (terminating || pod.metadata.deletion_timestamp.is_none())
}

/// A pod's address of a family.
pub(crate) fn address<'p>(pod: &'p Pod, family: &str) -> Option<&'p str> {
    let of_family = |text: &&str| match text.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == (family == "IPv6"),
        Err(_) => false,
    };
    let ips = pod.status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    ips.chain([pod.status.pod_ip.as_str()]).find(of_family)
}

/// The reference to a pod.
pub(crate) fn target(pod: &Object) -> Value {
    json!({"kind": "Pod", "namespace": pod.head.namespace, "name": pod.head.name, "uid": pod.head.uid})
}

/// The newest change of a pod's readiness or of the service, for [`TRIGGER_TIME`].
pub(crate) fn trigger_time(service: &Service, pods: &[Arc<Object>], world: &World) -> Option<String> {
    let changed = |pod: &Arc<Object>| {
        let pod = world.pod(pod);
        pod.condition("Ready").and_then(|ready| ready.last_transition_time.clone())
    };
    pods.iter().filter_map(changed).chain(service.metadata.creation_timestamp.clone()).max()
}

/// The services that a change of a pod concerns: those that select it now or selected it before.
pub(crate) fn services_of(change: &Change, world: &World) -> Vec<String> {
    let selects = |service: &Arc<Object>| {
        let Some(selector) = Service::of(service).and_then(|service| service.spec.selector) else { return false };
        let selector = LabelSelector::from_map(&selector);
        change.old().into_iter().chain([change.object()]).any(|pod| selector.matches(&pod.head.labels))
    };
    let services = world.list(&SERVICES, Some(&change.object().head.namespace));
    let keys: Vec<String> = services.into_iter().filter(selects).map(|service| service.head.key()).collect();
    // Pods are read only where somebody selects them.
    match change {
        Change::Applied { old: Some(old), new }
            if !keys.is_empty()
                && old.head.labels == new.head.labels
                && old.head.deletion_timestamp == new.head.deletion_timestamp
                && same_endpoint(&world.pod(old), &world.pod(new)) =>
        {
            Vec::new()
        }
        _ => keys,
    }
}

/// True when nothing changed that endpoints show.
fn same_endpoint(a: &Pod, b: &Pod) -> bool {
    let ips = |pod: &Pod| pod.status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect::<Vec<_>>();
    a.is_ready() == b.is_ready()
        && a.is_finished() == b.is_finished()
        && a.spec.node_name == b.spec.node_name
        && (a.spec.hostname == b.spec.hostname && a.spec.subdomain == b.spec.subdomain)
        && (a.status.pod_ip == b.status.pod_ip && ips(a) == ips(b))
}
