//! EndpointSlice: the pods of a service, at most 100 in a slice, one set of slices per address family and set of ports.
//!
//! Slices are changed as little as possible: what is still right stays where it is, a change stays in its slice, new
//! endpoints fill the slices that are written anyway, then the fullest with room, then new ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use client::Change;
use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::endpoint_pods::{self as pods, HEADLESS, Port, Service, TRIGGER_TIME};
use crate::kinds::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use crate::owner::key_of;
use crate::plan::Op;
use crate::views::Map;
use crate::world::World;
use crate::{Controller, Event, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    of: &SERVICES,
    owns: &[],
    watches: &[
        Watch { kind: &PODS, wakes: pods::services_of },
        Watch { kind: &ENDPOINT_SLICES, wakes: service_of_slice },
    ],
    reads: &[&NODES],
    workers: 5,
    reconcile,
    gone: crate::controller::nothing,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in a slice.
const CAPACITY: usize = 100;

/// `endpoints[]` of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    target_ref: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: bool,
    serving: bool,
    terminating: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SliceView {
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

/// A slice as it is and shall be.
struct Slice {
    object: Option<Arc<Object>>,
    endpoints: Vec<Endpoint>,
    /// Endpoints changed; a slice with other labels alone is written too.
    changed: bool,
}

/// What slices have in common: address family and ports.
type Group = (String, Vec<Port>);

fn service_of_slice(change: &Change, _: &World) -> Vec<String> {
    let head = &change.object().head;
    let ours = head.labels.get(MANAGED_BY).is_some_and(|by| by == US);
    let service = head.labels.get(SERVICE_NAME).filter(|_| ours);
    service.map(|name| key_of(&head.namespace, name)).into_iter().collect()
}

fn reconcile(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    // Slices of a service that goes are the garbage collector's.
    let Some(service) = Service::of(object).filter(|_| !object.head.is_terminating()) else { return plan };
    let selected = service.pods(world);
    let mut wanted = wanted(&service, &selected, world);
    let mut existing: BTreeMap<Group, Vec<Slice>> = BTreeMap::new();
    for slice in slices_of(object, world) {
        let view: SliceView = slice.view().unwrap_or_default();
        let mut ports = view.ports.unwrap_or_default();
        ports.sort();
        let found = Slice { object: Some(slice), endpoints: view.endpoints.unwrap_or_default(), changed: false };
        existing.entry((view.address_type, ports)).or_default().push(found);
    }
    // A service without endpoints keeps an empty slice per family.
    for family in service.families() {
        if !wanted.keys().any(|(of, _)| of == family) {
            wanted.insert((family.to_owned(), Vec::new()), Vec::new());
        }
    }
    let slices = Writer { service: &service, object, trigger: pods::trigger_time(&service, &selected, world) };
    let mut spare: Vec<(String, Slice)> = Vec::new();
    let mut writes: Vec<(Group, Vec<Slice>)> = Vec::new();
    for (group, slices) in existing {
        match wanted.remove(&group) {
            Some(endpoints) => writes.push((group, fit(slices, endpoints))),
            None => spare.extend(slices.into_iter().map(|slice| (group.0.clone(), slice))),
        }
    }
    for (group, endpoints) in wanted {
        writes.push((group, fit(Vec::new(), endpoints)));
    }
    // What is to be made takes the place of what is to go.
    for (group, slices) in &mut writes {
        for slice in slices.iter_mut().filter(|slice| slice.object.is_none()) {
            let Some(at) = spare.iter().position(|(family, _)| *family == group.0) else { break };
            slice.object = spare.remove(at).1.object;
        }
    }
    let mut deletes: Vec<Slice> = spare.into_iter().map(|(_, slice)| slice).collect();
    let mut ops = Vec::new();
    for (group, slices_of_group) in writes {
        let keep_one = slices_of_group.iter().all(|slice| slice.endpoints.is_empty());
        for (at, slice) in slices_of_group.into_iter().enumerate() {
            match slice.endpoints.is_empty() && !(keep_one && at == 0 && group.1.is_empty()) {
                true => deletes.push(slice),
                false => ops.extend(slices.write(&group, &slice)),
            }
        }
    }
    ops.extend(deletes.iter().filter_map(|slice| slice.object.as_ref()).map(|o| Op::delete(&ENDPOINT_SLICES, o)));
    plan.step(ops);
    plan
}

/// The slices that this controller keeps for the service.
fn slices_of(service: &Object, world: &World) -> Vec<Arc<Object>> {
    let mut slices = world.list(&ENDPOINT_SLICES, Some(&service.head.namespace));
    slices.retain(|slice| {
        let label = |key: &str| slice.head.labels.get(key);
        label(SERVICE_NAME) == Some(&service.head.name) && label(MANAGED_BY) == Some(US) && !slice.head.is_terminating()
    });
    slices
}

/// The endpoints by family and ports.
fn wanted(service: &Service, selected: &[Arc<Object>], world: &World) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for object in selected {
        let pod = world.pod(object);
        if !pods::belongs(&pod, true) {
            continue;
        }
        let ports = service.ports_on(&pod);
        if ports.is_empty() && service.spec.ports.as_ref().is_some_and(|all| !all.is_empty()) {
            continue;
        }
        let (serving, terminating) = (pod.is_ready(), pod.metadata.deletion_timestamp.is_some());
        let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
        let node = Some(pod.spec.node_name.clone()).filter(|node| !node.is_empty());
        let zone = node.as_ref().and_then(|node| world.get(&NODES, node)?.head.labels.get(ZONE).map(str::to_owned));
        for family in service.families() {
            let Some(ip) = pods::address(&pod, family) else { continue };
            let endpoint = Endpoint {
                addresses: vec![ip.into()],
                conditions: Conditions { ready, serving, terminating },
                hostname: service.hostname(&pod).map(Into::into),
                node_name: node.clone(),
                target_ref: pods::target(object),
                zone: zone.clone(),
            };
            wanted.entry((family.to_owned(), ports.clone())).or_default().push(endpoint);
        }
    }
    wanted
}

/// Distributes the wanted endpoints over the slices.
fn fit(mut slices: Vec<Slice>, wanted: Vec<Endpoint>) -> Vec<Slice> {
    let mut left: HashMap<String, Endpoint> = HashMap::new();
    let mut order = Vec::new();
    for endpoint in wanted {
        let key = endpoint.identity();
        order.push(key.clone());
        left.insert(key, endpoint);
    }
    for slice in &mut slices {
        let before = std::mem::take(&mut slice.endpoints);
        for old in before {
            match left.remove(&old.identity()) {
                Some(new) => {
                    slice.changed |= new != old;
                    slice.endpoints.push(new);
                }
                None => slice.changed = true,
            }
        }
    }
    let mut rest: Vec<Endpoint> = order.iter().filter_map(|key| left.remove(key)).collect();
    // Slices that are written anyway, the fullest first; then one that takes all the rest.
    slices.sort_by_key(|slice| std::cmp::Reverse((slice.changed, slice.endpoints.len())));
    for slice in slices.iter_mut().filter(|slice| slice.changed) {
        let room = CAPACITY.saturating_sub(slice.endpoints.len()).min(rest.len());
        slice.endpoints.extend(rest.drain(..room));
    }
    let takes_all = slices.iter_mut().find(|s| !s.changed && s.endpoints.len() + rest.len() <= CAPACITY);
    if let Some(slice) = takes_all.filter(|_| !rest.is_empty()) {
        slice.changed = true;
        slice.endpoints.append(&mut rest);
    }
    while !rest.is_empty() {
        let endpoints = rest.drain(..rest.len().min(CAPACITY)).collect();
        slices.push(Slice { object: None, endpoints, changed: true });
    }
    if slices.is_empty() {
        slices.push(Slice { object: None, endpoints: Vec::new(), changed: true });
    }
    slices
}

impl Endpoint {
    fn identity(&self) -> String {
        let uid = self.target_ref["uid"].as_str().unwrap_or_default();
        format!("{uid} {}", self.addresses.join(","))
    }
}

struct Writer<'a> {
    service: &'a Service,
    object: &'a Arc<Object>,
    trigger: Option<String>,
}

impl Writer<'_> {
    fn labels(&self) -> Map {
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.remove(HEADLESS);
        if self.service.is_headless() {
            labels.insert(HEADLESS.into(), String::new());
        }
        labels.insert(SERVICE_NAME.into(), self.service.metadata.name.clone());
        labels.insert(MANAGED_BY.into(), US.into());
        labels
    }

    fn write(&self, group: &Group, slice: &Slice) -> Option<Op> {
        let labels = self.labels();
        let name = &self.service.metadata.name;
        let annotations: Map = self.trigger.iter().map(|time| (TRIGGER_TIME.to_owned(), time.clone())).collect();
        let Some(current) = &slice.object else {
            let body = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{name}-"),
                    "namespace": self.object.head.namespace,
                    "labels": labels,
                    "annotations": annotations,
                    "ownerReferences": [SERVICES.controller_reference(self.object)],
                },
                "addressType": group.0, "endpoints": slice.endpoints, "ports": group.1,
            });
            let failed =
                format!("Error updating Endpoint Slices for Service {}/{name}: {{error}}", self.object.head.namespace);
            let op = Op::create(&ENDPOINT_SLICES, &self.object.head.namespace, body);
            return Some(op.on_failure(Event::warning(self.object, "FailedToUpdateEndpointSlices", failed)));
        };
        if !slice.changed && current.head.labels == labels {
            return None;
        }
        let mut labels = json!(labels);
        for key in current.head.labels.keys() {
            if labels.get(key).is_none() {
                labels[key] = Value::Null;
            }
        }
        let change = json!({"metadata": {"labels": labels, "annotations": annotations}, "endpoints": slice.endpoints,
            "ports": group.1});
        Some(Op::update(&ENDPOINT_SLICES, current, change))
    }
}

#[cfg(test)]
mod tests;
