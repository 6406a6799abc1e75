//! EndpointSlices for Endpoints that somebody wrote by hand: those of a service without a selector.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::controller::nothing;
use crate::kinds::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use crate::owner::key_of;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Event, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "endpointslicemirroring-controller",
    of: &ENDPOINTS,
    owns: &[],
    watches: &[Watch { kind: &SERVICES, wakes: same_key }, Watch { kind: &ENDPOINT_SLICES, wakes: endpoints_of }],
    reads: &[],
    workers: 5,
    reconcile,
    // Slices of Endpoints that are gone are the garbage collector's.
    gone: nothing,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Addresses that are mirrored of one subset.
const CAPACITY: usize = 1000;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    metadata: crate::views::Meta,
    subsets: Option<Vec<Subset>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Subset {
    addresses: Option<Vec<Address>>,
    not_ready_addresses: Option<Vec<Address>>,
    ports: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Address {
    ip: String,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<Value>,
}

fn same_key(change: &client::Change, _: &World) -> Vec<String> {
    vec![change.object().head.key()]
}

fn endpoints_of(change: &client::Change, _: &World) -> Vec<String> {
    let head = &change.object().head;
    let ours = head.labels.get(MANAGED_BY).is_some_and(|by| by == US);
    let name = head.labels.get(SERVICE_NAME).filter(|_| ours);
    name.map(|name| key_of(&head.namespace, name)).into_iter().collect()
}

/// True for Endpoints that nobody else makes slices of.
fn is_mirrored(endpoints: &Object, view: &View, world: &World) -> bool {
    let annotations = view.metadata.annotations.as_ref();
    if endpoints.head.labels.get(SKIP).is_some_and(|skip| skip == "true")
        || annotations.is_some_and(|a| a.contains_key(LEADER))
    {
        return false;
    }
    let service = world.get(&SERVICES, &endpoints.head.key()).and_then(|service| service.value().ok());
    service.is_some_and(|s| s["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty))
}

fn reconcile(endpoints: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    if endpoints.head.is_terminating() {
        return plan;
    }
    let view: View = endpoints.view().unwrap_or_default();
    let mut existing = world.list(&ENDPOINT_SLICES, Some(&endpoints.head.namespace));
    existing.retain(|slice| {
        let label = |key: &str| slice.head.labels.get(key);
        label(SERVICE_NAME) == Some(&endpoints.head.name)
            && label(MANAGED_BY) == Some(US)
            && !slice.head.is_terminating()
    });
    let wanted = if is_mirrored(endpoints, &view, world) { wanted(&view) } else { BTreeMap::new() };
    let mut ops = Vec::new();
    for ((family, ports), entries) in wanted {
        let ports: Value = serde_json::from_str(&ports).unwrap_or_default();
        let same = |slice: &Arc<Object>| {
            slice.value().is_ok_and(|s| s["addressType"] == family.as_str() && same_ports(&s["ports"], &ports))
        };
        let found = existing.iter().position(same).map(|at| existing.swap_remove(at));
        ops.extend(write(endpoints, &view, &family, ports, entries, found.as_ref()));
    }
    ops.extend(existing.iter().map(|slice| Op::delete(&ENDPOINT_SLICES, slice)));
    plan.step(ops);
    plan
}

/// The same ports, whatever the server has defaulted in them.
fn same_ports(stored: &Value, ports: &Value) -> bool {
    let of = |list: &Value| -> Vec<(String, String, Value)> {
        let one = |p: &Value| {
            let text = |key: &str, default: &str| p[key].as_str().unwrap_or(default).to_owned();
            (text("name", ""), text("protocol", "TCP"), p["port"].clone())
        };
        list.as_array().into_iter().flatten().map(one).collect()
    };
    of(stored) == of(ports)
}

/// `endpoints[]` by address family and ports (as JSON).
fn wanted(view: &View) -> BTreeMap<(String, String), Vec<Value>> {
    let mut wanted: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for subset in view.subsets.iter().flatten() {
        let ports = json!(subset.ports.clone().unwrap_or_default()).to_string();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let all = ready.chain(subset.not_ready_addresses.iter().flatten().map(|a| (a, false)));
        for (address, ready) in all.take(CAPACITY) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let mut entry = json!({"addresses": [address.ip], "conditions": {"ready": ready}});
            let more = [
                ("hostname", address.hostname.clone().map(Value::from)),
                ("nodeName", address.node_name.clone().map(Value::from)),
                ("targetRef", address.target_ref.clone()),
            ];
            for (key, value) in more {
                if let Some(value) = value {
                    entry[key] = value;
                }
            }
            wanted.entry((family.into(), ports.clone())).or_default().push(entry);
        }
    }
    wanted
}

fn write(
    endpoints: &Arc<Object>,
    view: &View,
    family: &str,
    ports: Value,
    entries: Vec<Value>,
    current: Option<&Arc<Object>>,
) -> Option<Op> {
    let name = &endpoints.head.name;
    let mut labels = endpoints.head.labels.to_map();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), US.into());
    let mut annotations = view.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.remove(TRIGGER_TIME);
    let Some(current) = current else {
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "generateName": format!("{name}-"), "namespace": endpoints.head.namespace,
                "labels": labels, "annotations": annotations,
                "ownerReferences": [ENDPOINTS.controller_reference(endpoints)],
            },
            "addressType": family, "endpoints": entries, "ports": ports,
        });
        let failed =
            format!("Failed to create EndpointSlice for Endpoints {}/{name}: {{error}}", endpoints.head.namespace);
        let op = Op::create(&ENDPOINT_SLICES, &endpoints.head.namespace, body);
        return Some(op.on_failure(Event::warning(endpoints, "FailedToCreateEndpointSlice", failed)));
    };
    let stored = current.value().unwrap_or_default();
    if stored["endpoints"] == json!(entries) && current.head.labels == labels {
        return None;
    }
    let mut labels = json!(labels);
    for key in current.head.labels.keys() {
        if labels.get(key).is_none() {
            labels[key] = Value::Null;
        }
    }
    let change = json!({"metadata": {"labels": labels}, "endpoints": entries, "ports": ports});
    Some(Op::update(&ENDPOINT_SLICES, current, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_become_groups() {
        let view: View = serde_json::from_value(json!({"metadata": {}, "subsets": [
            {"addresses": [{"ip": "10.1.2.3", "nodeName": "n"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
             "ports": [{"port": 80}]},
            {"addresses": [{"ip": "no address"}]}]}))
        .unwrap();
        let found: Vec<(String, usize)> = wanted(&view).into_iter().map(|((f, _), e)| (f, e.len())).collect();
        assert_eq!(found, [("IPv4".into(), 2), ("IPv6".into(), 1)]);
        let first = &wanted(&view)[&("IPv4".to_owned(), r#"[{"port":80}]"#.to_owned())];
        assert_eq!(first[0], json!({"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "nodeName": "n"}));
        assert_eq!(first[1]["conditions"]["ready"], false);
        assert!(same_ports(&json!([{"name": "", "port": 80, "protocol": "TCP"}]), &json!([{"port": 80}])));
    }
}
