//! Service networks (KEP-1880): each is ready once it has its finalizer, and stays while it is the only one that holds an
//! address of a service.

use std::net::IpAddr;
use std::sync::Arc;

use client::Change;
use object::Object;
use serde::Deserialize;
use serde_json::json;

use crate::kinds::{IP_ADDRESSES, SERVICE_CIDRS};
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "service-cidrs-controller",
    of: &SERVICE_CIDRS,
    owns: &[],
    watches: &[Watch { kind: &IP_ADDRESSES, wakes: terminating }, Watch { kind: &SERVICE_CIDRS, wakes: terminating }],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// Seconds from the deletion until the finalizer goes: servers may still give addresses before they know.
const GRACE: i64 = 10;

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

/// A network: its address as a number, the bits that count, and how many an address has.
#[derive(Clone, Copy)]
struct Network(u128, u32, u32);

impl Network {
    fn parse(cidr: &str) -> Option<Self> {
        let (address, bits) = cidr.split_once('/')?;
        let Self(address, _, width) = Self::host(address)?;
        Some(Self(address, bits.parse().ok().filter(|bits| *bits <= width)?, width))
    }

    fn host(address: &str) -> Option<Self> {
        match address.parse().ok()? {
            IpAddr::V4(ip) => Some(Self(u32::from(ip).into(), 32, 32)),
            IpAddr::V6(ip) => Some(Self(ip.into(), 128, 128)),
        }
    }

    fn holds(self, other: Self) -> bool {
        let Self(base, bits, width) = self;
        let shift = width - bits;
        let same = |other: u128| base.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0);
        width == other.2 && bits <= other.1 && same(other.0)
    }
}

fn terminating(_: &Change, world: &World) -> Vec<String> {
    let networks = world.list(&SERVICE_CIDRS, None);
    networks.iter().filter(|network| network.head.is_terminating()).map(|network| network.head.key()).collect()
}

/// True when an address would be in no network any more.
fn is_needed(network: &Object, spec: &Spec, world: &World) -> bool {
    let parse = |spec: &Spec| -> Vec<Network> { spec.cidrs.iter().filter_map(|cidr| Network::parse(cidr)).collect() };
    let own = parse(spec);
    let all = world.list(&SERVICE_CIDRS, None);
    let others: Vec<Network> = all
        .iter()
        .filter(|other| other.head.uid != network.head.uid)
        .flat_map(|other| parse(&other.view::<View>().unwrap_or_default().spec))
        .collect();
    let held = |what: Network| others.iter().any(|other| other.holds(what));
    if own.iter().all(|own| held(*own)) {
        return false;
    }
    let addresses = world.list(&IP_ADDRESSES, None);
    addresses
        .iter()
        .filter(|address| address.head.labels.get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR))
        .filter_map(|address| Network::host(&address.head.name))
        .any(|address| own.iter().any(|own| own.holds(address)) && !held(address))
}

fn reconcile(network: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = network.view().unwrap_or_default();
    let mut finalizers = view.metadata.finalizers;
    let guarded = finalizers.iter().any(|f| f == FINALIZER);
    if let Some(deleted) = &view.metadata.deletion_timestamp {
        if !guarded {
        } else if is_needed(network, &view.spec, world) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            plan.push_some(condition(network, &view.status, ["False", "Terminating", message], world));
        } else {
            let left = base::time::parse_seconds(deleted).map_or(0, |deleted| deleted + GRACE - world.now());
            if left > 0 {
                plan.requeue_after(left);
            } else {
                finalizers.retain(|f| f != FINALIZER);
                plan.push(Op::update(&SERVICE_CIDRS, network, json!({"metadata": {"finalizers": finalizers}})));
            }
        }
        return plan;
    }
    if guarded {
        let ready = ["True", "", "Kubernetes Service CIDR is ready"];
        plan.push_some(condition(network, &view.status, ready, world));
    } else {
        finalizers.push(FINALIZER.into());
        plan.push(Op::update(&SERVICE_CIDRS, network, json!({"metadata": {"finalizers": finalizers}})));
    }
    plan
}

/// Sets the condition `Ready`, if it is another.
fn condition(
    network: &Arc<Object>,
    status: &Status,
    [wanted, reason, message]: [&str; 3],
    world: &World,
) -> Option<Op> {
    let present = status.conditions.iter().find(|condition| condition.r#type == "Ready");
    if present.is_some_and(|c| c.status == wanted && c.reason == reason && c.message == message) {
        return None;
    }
    let mut conditions = network.value().ok()?["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "Ready");
    conditions.push(json!({"type": "Ready", "status": wanted, "reason": reason, "message": message,
        "lastTransitionTime": world.stamp()}));
    Some(Op::status(&SERVICE_CIDRS, network, json!({"status": {"conditions": conditions}})))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::Scene;

    fn network(name: &str, cidr: &str, deleted: Option<&str>) -> Value {
        let mut network = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name, "uid": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr]}});
        if let Some(deleted) = deleted {
            network["metadata"]["deletionTimestamp"] = deleted.into();
        }
        network
    }

    fn address(name: &str) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": name, "labels": {MANAGED_BY: ALLOCATOR}}})
    }

    #[test]
    fn a_network_stays_while_it_alone_holds_an_address() {
        let deleted = Some("2026-01-31T23:58:00Z");
        let check = |objects: Vec<Value>, wanted: &str| {
            let plan = Scene::new(objects).plan(&CONTROLLER, "n").to_string();
            assert!(plan.contains(wanted) && plan.is_empty() == wanted.is_empty(), "{plan} for {wanted}");
        };
        let freed = "update servicecidrs n {\"metadata\":{\"finalizers\":[]}}";
        let held = "\"Terminating\"";
        check(vec![network("n", "10.9.0.0/24", deleted)], freed);
        check(vec![network("n", "10.9.0.0/24", deleted), address("10.9.0.7")], held);
        check(vec![network("n", "10.9.0.0/24", deleted), address("10.9.1.7")], freed);
        check(
            vec![network("n", "10.9.0.0/24", deleted), address("10.9.0.7"), network("m", "10.9.0.0/16", None)],
            freed,
        );
        check(
            vec![network("n", "10.9.0.0/24", deleted), address("10.9.0.7"), network("m", "10.9.0.0/29", None)],
            freed,
        );
        check(vec![network("n", "10.9.0.0/24", deleted), address("10.9.0.9"), network("m", "10.9.0.0/29", None)], held);
        check(vec![network("n", "fd00::/64", deleted), address("fd00::5")], held);
        check(vec![network("n", "fd00::/64", None)], "\"Ready\"");
    }
}
