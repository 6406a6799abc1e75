//! What a service's virtual addresses lead to: pure, from the Service and its EndpointSlices.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use object::Object;
use serde::Deserialize;

/// Transport protocol, by its IP number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Front {
    /// A virtual address: cluster IP, external IP, load balancer IP.
    Address(Ipv4Addr, Protocol, u16),
    /// A port on every address of the node.
    NodePort(Protocol, u16),
}

/// A pod's address and port.
pub type Backend = (Ipv4Addr, u16);

/// What a front leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Never empty, sorted.
    pub backends: Vec<Backend>,
    /// `sessionAffinity: ClientIP`: a client's address decides the backend.
    pub by_client: bool,
    /// The backend sees the node's address instead of the client's, so that its answer passes through here.
    pub masquerade: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceView {
    spec: SpecView,
    status: StatusView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    ports: Vec<PortView>,
    session_affinity: String,
    external_traffic_policy: String,
    internal_traffic_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PortView {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
    node_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StatusView {
    load_balancer: LoadBalancerView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancerView {
    ingress: Vec<IngressView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IngressView {
    ip: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceView {
    address_type: String,
    ports: Option<Vec<SlicePortView>>,
    endpoints: Option<Vec<EndpointView>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SlicePortView {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndpointView {
    addresses: Vec<String>,
    conditions: ConditionsView,
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConditionsView {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// One usable address of a service port.
struct Endpoint {
    backend: Backend,
    local: bool,
    ready: bool,
}

/// The endpoints of one service port: those that are ready, and those that still serve while they terminate.
fn endpoints(slices: &[SliceView], port: &PortView, node: &str) -> Vec<Endpoint> {
    let wanted = (port.name.as_deref().unwrap_or(""), protocol(port.protocol.as_deref()));
    let mut found = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type.is_empty() || s.address_type == "IPv4") {
        let ports = slice.ports.iter().flatten();
        for number in ports
            .filter(|p| (p.name.as_deref().unwrap_or(""), protocol(p.protocol.as_deref())) == wanted)
            .filter_map(|p| p.port)
        {
            for endpoint in slice.endpoints.iter().flatten() {
                let ready = endpoint.conditions.ready.unwrap_or(true);
                let fading =
                    endpoint.conditions.serving.unwrap_or(ready) && endpoint.conditions.terminating == Some(true);
                let Some(address) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { continue };
                if ready || fading {
                    let local = endpoint.node_name.as_deref() == Some(node);
                    found.push(Endpoint { backend: (address, number), local, ready });
                }
            }
        }
    }
    found
}

/// Backends for traffic of this policy: ready ones, else (KEP-1669) those that terminate but serve.
fn backends(endpoints: &[Endpoint], local_only: bool) -> Vec<Backend> {
    let eligible = |ready: bool| -> Vec<Backend> {
        endpoints.iter().filter(|e| e.ready == ready && (e.local || !local_only)).map(|e| e.backend).collect()
    };
    let mut chosen = eligible(true);
    if chosen.is_empty() {
        chosen = eligible(false);
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// The fronts of a service and their targets; fronts without a backend are left out. `node` is this node's name.
pub fn of(service: &Object, slices: &[std::sync::Arc<Object>], node: &str) -> BTreeMap<Front, Target> {
    let mut fronts = BTreeMap::new();
    let Ok(view) = service.view::<ServiceView>() else { return fronts };
    let slices: Vec<SliceView> = slices.iter().filter_map(|s| s.view().ok()).collect();
    let spec = &view.spec;
    if spec.kind == "ExternalName" {
        return fronts;
    }
    let address = |text: &String| text.parse::<Ipv4Addr>().ok();
    let mut internal: Vec<Ipv4Addr> = spec.cluster_ips.iter().filter_map(address).collect();
    internal.extend(address(&spec.cluster_ip).filter(|ip| !internal.contains(ip)));
    let balanced = view.status.load_balancer.ingress.iter().map(|i| &i.ip);
    let external: Vec<Ipv4Addr> = spec.external_ips.iter().chain(balanced).filter_map(address).collect();
    let by_client = spec.session_affinity == "ClientIP";
    let external_local = spec.external_traffic_policy == "Local";
    for port in &spec.ports {
        let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
        let all = endpoints(&slices, port, node);
        let mut add = |front, local_only, masquerade| {
            let backends = backends(&all, local_only);
            if !backends.is_empty() {
                fronts.insert(front, Target { backends, by_client, masquerade });
            }
        };
        for ip in &internal {
            add(Front::Address(*ip, protocol, port.port), spec.internal_traffic_policy == "Local", false);
        }
        for ip in &external {
            add(Front::Address(*ip, protocol, port.port), external_local, !external_local);
        }
        if port.node_port != 0 {
            add(Front::NodePort(protocol, port.node_port), external_local, !external_local);
        }
    }
    fronts
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodView {
    spec: PodSpecView,
    status: PodStatusView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpecView {
    host_network: bool,
    containers: Vec<ContainerView>,
    init_containers: Vec<ContainerView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerView {
    ports: Vec<HostPortView>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HostPortView {
    container_port: u16,
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodStatusView {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
}

/// The node's ports that lead to a pod (`hostPort`), from when it has an address until it has ended.
pub fn of_pod(pod: &Object) -> BTreeMap<Front, Target> {
    let mut fronts = BTreeMap::new();
    let Ok(PodView { spec, status }) = pod.view::<PodView>() else { return fronts };
    let Ok(ip) = status.pod_ip.parse::<Ipv4Addr>() else { return fronts };
    if spec.host_network || matches!(status.phase.as_str(), "Succeeded" | "Failed") {
        return fronts;
    }
    for port in spec.containers.iter().chain(&spec.init_containers).flat_map(|c| &c.ports) {
        let Some(protocol) = protocol(port.protocol.as_deref()).filter(|_| port.host_port != 0) else { continue };
        let mut add = |front, masquerade| {
            let backends = vec![(ip, port.container_port)];
            fronts.insert(front, Target { backends, by_client: false, masquerade });
        };
        match port.host_ip.parse::<Ipv4Addr>() {
            // What comes from the loopback address must get another, or the pod could not answer it.
            Ok(host) if !host.is_unspecified() => {
                add(Front::Address(host, protocol, port.host_port), host.is_loopback());
            }
            _ => {
                add(Front::NodePort(protocol, port.host_port), false);
                add(Front::Address(Ipv4Addr::LOCALHOST, protocol, port.host_port), true);
            }
        }
    }
    fronts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn object(value: Value) -> Arc<Object> {
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn service(spec: Value) -> Arc<Object> {
        object(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"}, "spec": spec}),
        )
    }

    fn slice(endpoints: Value) -> Vec<Arc<Object>> {
        vec![object(json!({"addressType": "IPv4", "metadata": {"name": "s-1"},
            "ports": [{"name": "", "protocol": "TCP", "port": 8080}], "endpoints": endpoints}))]
    }

    fn check(spec: Value, endpoints: Value, wanted: &[(Front, &[&str], bool)]) {
        let found: Vec<(Front, Vec<String>, bool)> = of(&service(spec), &slice(endpoints), "n1")
            .into_iter()
            .map(|(f, t)| (f, t.backends.iter().map(|(ip, port)| format!("{ip}:{port}")).collect(), t.masquerade))
            .collect();
        let wanted: Vec<(Front, Vec<String>, bool)> =
            wanted.iter().map(|(f, b, m)| (*f, b.iter().map(|s| s.to_string()).collect(), *m)).collect();
        assert_eq!(found, wanted);
    }

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 9);

    #[test]
    fn ready_endpoints_only_and_terminating_ones_when_there_are_no_others() {
        let spec = json!({"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": [{"port": 80, "protocol": "TCP"}]});
        let ready = json!({"addresses": ["10.42.0.2"], "conditions": {"ready": true}});
        let unready = json!({"addresses": ["10.42.0.3"], "conditions": {"ready": false}});
        let fading =
            json!({"addresses": ["10.42.0.4"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let front = Front::Address(VIP, Protocol::Tcp, 80);
        check(spec.clone(), json!([ready, unready, fading]), &[(front, &["10.42.0.2:8080"], false)]);
        check(spec.clone(), json!([unready, fading]), &[(front, &["10.42.0.4:8080"], false)]);
        check(spec, json!([unready]), &[]);
    }

    #[test]
    fn node_ports_masquerade_unless_the_policy_is_local() {
        let spec = |policy: &str| {
            json!({"type": "NodePort", "clusterIP": "10.43.0.9", "externalTrafficPolicy": policy,
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30008}]})
        };
        let both =
            json!([{"addresses": ["10.42.0.2"], "nodeName": "n1"}, {"addresses": ["10.42.1.2"], "nodeName": "n2"}]);
        let vip = (Front::Address(VIP, Protocol::Tcp, 80), &["10.42.0.2:8080", "10.42.1.2:8080"][..], false);
        let port = Front::NodePort(Protocol::Tcp, 30008);
        check(spec("Cluster"), both.clone(), &[vip, (port, &["10.42.0.2:8080", "10.42.1.2:8080"], true)]);
        check(spec("Local"), both, &[vip, (port, &["10.42.0.2:8080"], false)]);
    }

    #[test]
    fn host_ports_lead_to_pods_that_have_an_address() {
        let pod = |ports: Value, status: Value| {
            let tree = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
                "spec": {"containers": [{"name": "c", "ports": ports}]}, "status": status});
            let found = of_pod(&object(tree)).into_iter().map(|(front, target)| (front, target.masquerade));
            found.collect::<Vec<_>>()
        };
        let up = json!({"phase": "Running", "podIP": "10.42.0.2"});
        let any = json!([{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}, {"containerPort": 90}]);
        let everywhere = Front::NodePort(Protocol::Tcp, 8080);
        let local = Front::Address(Ipv4Addr::LOCALHOST, Protocol::Tcp, 8080);
        assert_eq!(pod(any.clone(), up.clone()), [(local, true), (everywhere, false)]);
        assert_eq!(pod(any.clone(), json!({"phase": "Pending"})), []);
        assert_eq!(pod(any, json!({"phase": "Succeeded", "podIP": "10.42.0.2"})), []);
        let one = json!([{"containerPort": 80, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"}]);
        assert_eq!(pod(one, up), [(Front::Address(Ipv4Addr::new(192, 0, 2, 1), Protocol::Udp, 53), false)]);
    }

    #[test]
    fn headless_and_external_names_have_no_fronts() {
        check(json!({"clusterIP": "None", "ports": [{"port": 80}]}), json!([{"addresses": ["10.42.0.2"]}]), &[]);
        check(json!({"type": "ExternalName", "externalName": "x.y"}), json!([]), &[]);
    }
}
