//! Endpoints: the older form of endpoint slices, one object per service, at most 1,000 addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::Object;
use serde_json::{Value, json};

use crate::endpoint_pods::{self as pods, HEADLESS, Port, Service, TRIGGER_TIME};
use crate::kinds::{ENDPOINTS, PODS, SERVICES};
use crate::plan::Op;
use crate::views::{Any, Map};
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "endpoint-controller",
    of: &SERVICES,
    owns: &[],
    watches: &[Watch { kind: &PODS, wakes: pods::services_of }, Watch { kind: &ENDPOINTS, wakes: same_key }],
    reads: &[],
    workers: 5,
    reconcile,
    gone,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Ready or not, and the address, by IP and the pod's uid.
type Addresses = BTreeMap<(String, String), (bool, Value)>;
/// Addresses in one object.
const CAPACITY: usize = 1000;

fn same_key(change: &client::Change, _: &World) -> Vec<String> {
    vec![change.object().head.key()]
}

fn gone(key: &str, world: &World) -> Plan {
    let mut plan = Plan::none();
    // Only what this controller made: endpoints without a service are otherwise somebody's own (leader election).
    if let Some(left) = world.get(&ENDPOINTS, key).filter(|e| e.head.labels.contains_key(MANAGED_BY)) {
        plan.push(Op::delete(&ENDPOINTS, &left));
    }
    plan
}

fn reconcile(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let Some(service) = Service::of(object) else { return plan };
    let selected = service.pods(world);
    let (subsets, over) = subsets(&service, &selected, world);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    match service.is_headless() {
        true => drop(labels.insert(HEADLESS.into(), String::new())),
        false => drop(labels.remove(HEADLESS)),
    }
    let mut annotations = Map::new();
    annotations.extend(pods::trigger_time(&service, &selected, world).map(|time| (TRIGGER_TIME.to_owned(), time)));
    annotations.extend(over.then(|| (OVER_CAPACITY.to_owned(), "truncated".to_owned())));
    let Some(current) = world.get(&ENDPOINTS, &object.head.key()) else {
        let metadata = json!({"name": object.head.name, "namespace": object.head.namespace, "labels": labels,
            "annotations": annotations});
        let body = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
        plan.push(Op::create(&ENDPOINTS, &object.head.namespace, body));
        return plan;
    };
    let before = current.view::<Any>().unwrap_or_default().metadata.annotations.unwrap_or_default();
    let old = current.value().unwrap_or_default();
    let old_subsets = old["subsets"].as_array().cloned().unwrap_or_default();
    if old_subsets == subsets && current.head.labels == labels && before.contains_key(OVER_CAPACITY) == over {
        return plan;
    }
    let mut labels = json!(labels);
    for key in
        current.head.labels.keys().filter(|key| labels.get(*key).is_none()).map(str::to_owned).collect::<Vec<_>>()
    {
        labels[key] = Value::Null;
    }
    let mut annotations = json!(annotations);
    for key in [TRIGGER_TIME, OVER_CAPACITY] {
        if before.contains_key(key) && annotations.get(key).is_none() {
            annotations[key] = Value::Null;
        }
    }
    let change = json!({"metadata": {"labels": labels, "annotations": annotations}, "subsets": subsets});
    plan.push(Op::update(&ENDPOINTS, &current, change));
    plan
}

/// Addresses by the ports that they have: first per port, then ports with the same addresses together (upstream's
/// `RepackSubsets`). True when some had to be left out.
fn subsets(service: &Service, selected: &[Arc<Object>], world: &World) -> (Vec<Value>, bool) {
    let families = service.families();
    let family = families.first().copied().unwrap_or("IPv4");
    let mut by_port: BTreeMap<Option<Port>, Addresses> = BTreeMap::new();
    let mut count = 0;
    let mut over = false;
    for object in selected {
        let pod = world.pod(object);
        if !pods::belongs(&pod, service.spec.publish_not_ready_addresses) {
            continue;
        }
        let Some(ip) = pods::address(&pod, family) else { continue };
        if count == CAPACITY {
            over = true;
            break;
        }
        count += 1;
        let mut address = json!({"ip": ip, "targetRef": pods::target(object)});
        if !pod.spec.node_name.is_empty() {
            address["nodeName"] = json!(pod.spec.node_name);
        }
        if let Some(hostname) = service.hostname(&pod) {
            address["hostname"] = json!(hostname);
        }
        let ready = service.spec.publish_not_ready_addresses || pod.is_ready();
        let mut ports: Vec<Option<Port>> = service.ports_on(&pod).into_iter().map(Some).collect();
        if service.spec.ports.as_ref().is_none_or(Vec::is_empty) && service.spec.cluster_ip == "None" {
            ports.push(None);
        }
        for port in ports {
            let key = (ip.to_owned(), object.head.uid.clone());
            by_port.entry(port).or_default().insert(key, (ready, address.clone()));
        }
    }
    (pack(by_port), over)
}

fn pack(by_port: BTreeMap<Option<Port>, Addresses>) -> Vec<Value> {
    let mut packed: Vec<(Vec<Port>, Addresses)> = Vec::new();
    for (port, addresses) in by_port {
        match packed.iter_mut().find(|(_, known)| *known == addresses) {
            Some((ports, _)) => ports.extend(port),
            None => packed.push((port.into_iter().collect(), addresses)),
        }
    }
    packed
        .into_iter()
        .map(|(ports, addresses)| {
            let list = |wanted: bool| -> Vec<Value> {
                addresses.values().filter(|(ready, _)| *ready == wanted).map(|(_, a)| a.clone()).collect()
            };
            let mut subset = json!({});
            for (field, list) in [("addresses", list(true)), ("notReadyAddresses", list(false))] {
                if !list.is_empty() {
                    subset[field] = json!(list);
                }
            }
            if !ports.is_empty() {
                subset["ports"] = ports.iter().map(printed).collect();
            }
            subset
        })
        .collect()
}

/// The empty name of a sole port is left out here, unlike in slices.
fn printed(port: &Port) -> Value {
    let mut value = json!(port);
    if port.name.is_empty()
        && let Some(map) = value.as_object_mut()
    {
        map.remove("name");
    }
    value
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::Scene;

    fn service(change: impl FnOnce(&mut Value)) -> Value {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "ns", "labels": {"l": "1"}},
            "spec": {"clusterIP": "10.43.0.9", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}]}});
        change(&mut service);
        service
    }

    fn pod(name: &str, ip: &str, ready: bool) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
                {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-31T00:00:00Z"}]}})
    }

    fn check(objects: Vec<Value>, wanted: Expect) {
        let plan = Scene::new(objects).plan(&CONTROLLER, "ns/s");
        let bodies: Vec<String> = plan
            .ops()
            .map(|op| match &op.verb {
                crate::Verb::Create(body) => serde_json::to_string_pretty(&body["subsets"]).unwrap(),
                _ => op.to_string(),
            })
            .collect();
        wanted.assert_eq(&bodies.join("\n"));
    }

    #[test]
    fn ready_and_unready_addresses_with_named_ports() {
        check(
            vec![service(|_| {}), pod("a", "10.42.0.1", true), pod("b", "10.42.0.2", false)],
            expect![[r#"
                [
                  {
                    "addresses": [
                      {
                        "ip": "10.42.0.1",
                        "nodeName": "n1",
                        "targetRef": {
                          "kind": "Pod",
                          "name": "a",
                          "namespace": "ns",
                          "uid": "uid-a"
                        }
                      }
                    ],
                    "notReadyAddresses": [
                      {
                        "ip": "10.42.0.2",
                        "nodeName": "n1",
                        "targetRef": {
                          "kind": "Pod",
                          "name": "b",
                          "namespace": "ns",
                          "uid": "uid-b"
                        }
                      }
                    ],
                    "ports": [
                      {
                        "port": 8080,
                        "protocol": "TCP"
                      }
                    ]
                  }
                ]"#]],
        );
    }

    #[test]
    fn no_pods_no_subsets_and_no_selector_no_endpoints() {
        check(vec![service(|_| {})], expect!["[]"]);
        check(vec![service(|s| drop(s["spec"].as_object_mut().unwrap().remove("selector")))], expect![""]);
        check(vec![service(|s| s["spec"]["type"] = json!("ExternalName"))], expect![""]);
    }

    #[test]
    fn what_is_as_wanted_is_left_alone_and_what_is_left_over_goes() {
        let current = |subsets: Value| {
            json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s", "namespace": "ns",
                "labels": {"l": "1", MANAGED_BY: "endpoint-controller"}}, "subsets": subsets})
        };
        check(vec![service(|_| {}), current(json!([]))], expect![""]);
        check(vec![current(json!([]))], expect!["delete endpoints ns/s"]);
    }
}
