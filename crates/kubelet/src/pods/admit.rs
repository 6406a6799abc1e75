//! Whether a pod that was bound to this node fits: the scheduler saw to it, unless somebody bound the pod past it. Pure.

use std::collections::BTreeSet;

use object::Quantity;

use super::status::Blocked;
use crate::api::{Container, Pod, amount};
use crate::config::NodeFacts;

const PORTS: &str = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// Why the pod cannot run beside the others; `others` are those that run here and are not on their way out.
pub(crate) fn refusal<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: &NodeFacts,
) -> Option<Blocked> {
    let refused = |reason: &str, why: String| {
        Some(Blocked { reason: reason.into(), message: format!("Pod was rejected: {why}") })
    };
    let wanted = ports(pod);
    let is_taken = |other: &Pod| ports(other).iter().any(|theirs| wanted.iter().any(|ours| clash(ours, theirs)));
    if !wanted.is_empty() && others.clone().any(is_taken) {
        return refused("NodePorts", PORTS.into());
    }
    for (name, reason, capacity) in
        [("cpu", "OutOfcpu", node.cpus * 1000), ("memory", "OutOfmemory", node.memory_bytes)]
    {
        let of = |pod: &Pod| {
            let total = request(pod, name);
            if name == "cpu" { total.millis() } else { total.units() }
        };
        let (asked, used) = (of(pod), others.clone().map(of).sum::<i64>());
        if asked > 0 && capacity > 0 && asked + used > capacity {
            let why = format!(
                "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
            );
            return refused(reason, why);
        }
    }
    None
}

type HostPort<'a> = (&'a str, &'a str, i64);

/// Address, protocol, number of each port of the node that the pod takes.
fn ports(pod: &Pod) -> BTreeSet<HostPort<'_>> {
    let containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(|c| c.is_sidecar()));
    let all = containers.flat_map(|c| &c.ports).filter(|p| p.host_port > 0);
    all.map(|p| {
        let protocol = if p.protocol.is_empty() { "TCP" } else { p.protocol.as_str() };
        let ip = if p.host_ip.is_empty() { "0.0.0.0" } else { p.host_ip.as_str() };
        (ip, protocol, p.host_port)
    })
    .collect()
}

fn clash(ours: &HostPort<'_>, theirs: &HostPort<'_>) -> bool {
    let any = |ip: &str| ip == "0.0.0.0";
    (ours.1, ours.2) == (theirs.1, theirs.2) && (ours.0 == theirs.0 || any(ours.0) || any(theirs.0))
}

/// What a pod requests: its containers with its sidecars, or the hungriest step of its initialization, and its overhead.
fn request(pod: &Pod, name: &str) -> Quantity {
    let of = |c: &Container| amount(&c.resources.requests, name);
    let larger = |a: Quantity, b: Quantity| if a.minus(b).is_negative() { b } else { a };
    let mut sidecars = Quantity::default();
    let mut most = Quantity::default();
    for container in &pod.spec.init_containers {
        if container.is_sidecar() {
            sidecars = sidecars.plus(of(container));
            most = larger(most, sidecars);
        } else {
            most = larger(most, sidecars.plus(of(container)));
        }
    }
    let main = pod.spec.containers.iter().fold(sidecars, |sum, c| sum.plus(of(c)));
    let own = pod.spec.resources.as_ref().map(|r| amount(&r.requests, name)).filter(|q| !q.is_zero());
    own.unwrap_or_else(|| larger(most, main)).plus(amount(&pod.spec.overhead, name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn fits_or_not() {
        let pod = |spec: Value| -> Pod { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
        let port =
            |port: i64, ip: &str| json!({"containers": [{"name": "c", "ports": [{"hostPort": port, "hostIP": ip}]}]});
        let cpu = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        let node = NodeFacts { cpus: 2, memory_bytes: 1 << 30, ..NodeFacts::default() };
        let check = |new: Value, other: Value| {
            let other = pod(other);
            refusal(&pod(new), [&other].into_iter(), &node).map(|b| b.reason).unwrap_or_default()
        };
        assert_eq!(check(port(80, ""), port(80, "192.0.2.1")), "NodePorts");
        assert_eq!(check(port(80, "192.0.2.2"), port(80, "192.0.2.1")), "");
        assert_eq!(check(port(81, ""), port(80, "")), "");
        assert_eq!(check(cpu("1500m"), cpu("500m")), "");
        assert_eq!(check(cpu("1500m"), cpu("501m")), "OutOfcpu");
        assert_eq!(check(json!({}), cpu("5")), "", "what asks for nothing always fits");
        let init = json!({"initContainers": [{"name": "i", "resources": {"requests": {"memory": "2Gi"}}}]});
        assert_eq!(check(init, json!({})), "OutOfmemory");
    }
}
