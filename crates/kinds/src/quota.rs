//! What objects cost under a ResourceQuota (upstream's evaluators), for its admission and its controller.
//!
//! Every object counts as `count/<resource>.<group>`; some of the core group by their plain names too; pods, services and claims have
//! what they ask for on top.

use std::collections::BTreeMap;

use object::Quantity;
use serde_json::Value;

use crate::kind::Kind;
use crate::tree::{entries, list, text};

/// Amounts by the names that quotas have for them.
pub type Usage = BTreeMap<String, Quantity>;

/// Resources that are counted by their plain names.
const COUNTED: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];

fn add(usage: &mut Usage, name: impl Into<String>, amount: Quantity) {
    let entry = usage.entry(name.into()).or_default();
    *entry = entry.plus(amount);
}

/// What the object costs. `now` is seconds since the epoch: a pod whose time is up costs nothing.
pub fn usage(kind: &Kind, object: &Value, now: i64) -> Usage {
    let mut usage = Usage::new();
    let one = Quantity::from_units(1);
    let counted = object::names::group_resource(&kind.group, &kind.plural);
    add(&mut usage, format!("count/{counted}"), one);
    if kind.group.is_empty() && kind.plural == "pods" {
        if !is_over(object, now) {
            add(&mut usage, "pods", one);
            pod(&object["spec"], &mut usage);
        }
        return usage;
    }
    if kind.group.is_empty() && COUNTED.contains(&kind.plural.as_str()) {
        add(&mut usage, kind.plural.as_str(), one);
        match kind.plural.as_str() {
            "services" => service(&object["spec"], &mut usage),
            "persistentvolumeclaims" => claim(object, &mut usage),
            _ => {}
        }
    }
    usage
}

fn is_over(pod: &Value, now: i64) -> bool {
    let deleted = pod["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
        || (deleted.is_some_and(|at| at.as_second() < now) && pod["metadata"]["deletionGracePeriodSeconds"].is_i64())
}

/// What a pod `requests` or `limits`: the larger of all containers with sidecars, and of each init container with the sidecars before it;
/// with what its runtime takes on top, if that is wanted.
pub fn amounts(spec: &Value, which: &str, overhead: bool) -> Usage {
    let of = |holder: &Value| -> Usage {
        let all = entries(&holder["resources"][which]);
        all.filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(text(amount))?))).collect()
    };
    let sum =
        |total: &mut Usage, more: &Usage| more.iter().for_each(|(name, amount)| add(total, name.as_str(), *amount));
    let raise = |total: &mut Usage, other: &Usage| {
        for (name, amount) in other {
            let mine = total.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    };
    let (mut total, mut sidecars, mut peak) = (Usage::new(), Usage::new(), Usage::new());
    list(&spec["containers"]).iter().for_each(|c| sum(&mut total, &of(c)));
    for init in list(&spec["initContainers"]) {
        let mut asked = of(init);
        if init["restartPolicy"] == "Always" {
            sum(&mut sidecars, &asked);
            raise(&mut peak, &sidecars);
        } else {
            sum(&mut asked, &sidecars);
            raise(&mut peak, &asked);
        }
    }
    sum(&mut total, &sidecars);
    raise(&mut total, &peak);
    // What the pod asks for as a whole stands for its containers.
    total.extend(of(spec));
    let on_top = entries(&spec["overhead"]).filter(|_| overhead);
    for (name, amount) in on_top.filter_map(|(n, a)| Some((n, Quantity::parse(text(a))?))) {
        // A limit that there is not is not made.
        if which == "requests" || total.contains_key(name) {
            add(&mut total, name.as_str(), amount);
        }
    }
    total
}

fn pod(spec: &Value, usage: &mut Usage) {
    for (name, amount) in amounts(spec, "requests", true) {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                add(usage, name.as_str(), amount);
                add(usage, format!("requests.{name}"), amount);
            }
            name => {
                if name.starts_with("hugepages-") {
                    add(usage, name, amount);
                }
                add(usage, format!("requests.{name}"), amount);
            }
        }
    }
    for (name, amount) in amounts(spec, "limits", true) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(usage, format!("limits.{name}"), amount);
        }
    }
}

fn service(spec: &Value, usage: &mut Usage) {
    let ports = i64::try_from(list(&spec["ports"]).len()).unwrap_or(i64::MAX);
    let own = list(&spec["ports"]).iter().filter(|p| p["nodePort"].as_u64().unwrap_or(0) != 0).count();
    let zero = Quantity::default();
    let (mut node_ports, mut balancers) = (zero, zero);
    match text(&spec["type"]) {
        "NodePort" => node_ports = Quantity::from_units(ports),
        "LoadBalancer" => {
            balancers = Quantity::from_units(1);
            // Without ports of the nodes only those that were asked for by number.
            node_ports = if spec["allocateLoadBalancerNodePorts"] == false {
                Quantity::from_units(i64::try_from(own).unwrap_or(i64::MAX))
            } else {
                Quantity::from_units(ports)
            };
        }
        _ => {}
    }
    add(usage, "services.nodeports", node_ports);
    add(usage, "services.loadbalancers", balancers);
}

fn claim(object: &Value, usage: &mut Usage) {
    let spec = &object["spec"];
    let class = object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = class.or(spec["storageClassName"].as_str()).filter(|c| !c.is_empty());
    if let Some(class) = class {
        add(usage, format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), Quantity::from_units(1));
    }
    let asked = Quantity::parse(text(&spec["resources"]["requests"]["storage"]));
    let given = Quantity::parse(text(&object["status"]["allocatedResources"]["storage"]));
    if let Some(size) = asked.max(given) {
        add(usage, "requests.storage", size);
        if let Some(class) = class {
            add(usage, format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
        }
    }
}

/// True when the quota is about the object: all its scopes hold. Only pods have scopes (and claims, whose one is not kept here).
pub fn matches(quota: &Value, kind: &Kind, object: &Value) -> bool {
    let spec = &quota["spec"];
    let is_pod = kind.group.is_empty() && kind.plural == "pods";
    let scopes = list(&spec["scopes"]).iter().all(|s| is_pod && in_scope(object, text(s), "Exists", &[]));
    scopes
        && list(&spec["scopeSelector"]["matchExpressions"])
            .iter()
            .all(|e| is_pod && in_scope(object, text(&e["scopeName"]), text(&e["operator"]), list(&e["values"])))
}

fn in_scope(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let spec = &pod["spec"];
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => {
            let class = text(&spec["priorityClassName"]);
            match operator {
                "In" => values.iter().any(|v| v == class),
                "NotIn" => !values.iter().any(|v| v == class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses(&spec["affinity"]),
        _ => false,
    }
}

/// No container asks for cpu or memory, nor does the pod.
fn is_best_effort(spec: &Value) -> bool {
    let holders = list(&spec["containers"]).iter().chain(list(&spec["initContainers"])).chain([spec]);
    let mut asked = holders.flat_map(|h| ["requests", "limits"].map(|w| &h["resources"][w]));
    !asked.any(|amounts| {
        entries(amounts).any(|(name, amount)| {
            matches!(name.as_str(), "cpu" | "memory") && Quantity::parse(text(amount)).is_some_and(|q| !q.is_zero())
        })
    })
}

fn crosses(affinity: &Value) -> bool {
    let terms = ["podAffinity", "podAntiAffinity"].into_iter().flat_map(|which| {
        let required = list(&affinity[which]["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
        let preferred = list(&affinity[which]["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
        required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"]))
    });
    terms.into_iter().any(|term| !list(&term["namespaces"]).is_empty() || term["namespaceSelector"].is_object())
}

/// Containers that leave open what the quota limits: `limits.cpu for: a,b; memory for: a`. Empty when there are none.
pub fn unspecified(hard: &Value, pod: &Value) -> String {
    let spec = &pod["spec"];
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, _) in entries(hard) {
        let (which, resource) = match name.as_str() {
            "cpu" | "memory" => ("requests", name.as_str()),
            "requests.cpu" | "requests.memory" => ("requests", &name["requests.".len()..]),
            "limits.cpu" | "limits.memory" => ("limits", &name["limits.".len()..]),
            _ => continue,
        };
        if spec["resources"][which].get(resource).is_some() {
            continue;
        }
        for container in list(&spec["containers"]).iter().chain(list(&spec["initContainers"])) {
            if container["resources"][which].get(resource).is_none() {
                missing.entry(name).or_default().push(text(&container["name"]));
            }
        }
    }
    let words: Vec<String> = missing.iter().map(|(name, of)| format!("{name} for: {}", of.join(","))).collect();
    words.join("; ")
}

/// An amount as a quota's status has it: memory and storage in binary units, the rest in decimal ones.
pub fn shown(name: &str, amount: Quantity) -> String {
    let binary =
        ["memory", "storage", "hugepages-"].iter().any(|part| name.contains(part)) && !name.starts_with("count/");
    if binary { amount.to_binary_string() } else { amount.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(resource: &str, object: Value, wanted: &[(&str, &str)]) {
        let kind = crate::table().by_gvr(&object::Gvr::new("", "v1", resource)).unwrap();
        let found = usage(kind, &object, 0);
        let found: Vec<(String, String)> = found.iter().map(|(n, q)| (n.clone(), shown(n, *q))).collect();
        let wanted: Vec<(String, String)> = wanted.iter().map(|(n, q)| ((*n).into(), (*q).into())).collect();
        assert_eq!(found, wanted, "{object}");
    }

    #[test]
    fn costs() {
        check("configmaps", json!({}), &[("configmaps", "1"), ("count/configmaps", "1")]);
        let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"cpu": "1"}}});
        let pod = json!({"spec": {"containers": [container("100m"), container("200m")], "initContainers": [container("500m")]}});
        check(
            "pods",
            pod,
            &[
                ("count/pods", "1"),
                ("cpu", "500m"),
                ("limits.cpu", "2"),
                ("memory", "2Gi"),
                ("pods", "1"),
                ("requests.cpu", "500m"),
                ("requests.memory", "2Gi"),
            ],
        );
        check("pods", json!({"status": {"phase": "Failed"}}), &[("count/pods", "1")]);
        check(
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
            &[("count/services", "1"), ("services", "1"), ("services.loadbalancers", "1"), ("services.nodeports", "2")],
        );
        check(
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "3Gi"}}}}),
            &[
                ("count/persistentvolumeclaims", "1"),
                ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
                ("gold.storageclass.storage.k8s.io/requests.storage", "3Gi"),
                ("persistentvolumeclaims", "1"),
                ("requests.storage", "3Gi"),
            ],
        );
    }

    #[test]
    fn scopes() {
        let pods = crate::table().by_gvr(&object::Gvr::new("", "v1", "pods")).unwrap();
        let maps = crate::table().by_gvr(&object::Gvr::new("", "v1", "configmaps")).unwrap();
        let scoped = |scope: &str| json!({"spec": {"scopes": [scope]}});
        let idle = json!({"spec": {"containers": [{"name": "c"}]}});
        let busy = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
        for (scope, of_idle, of_busy) in [
            ("Terminating", false, true),
            ("NotTerminating", true, false),
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("PriorityClass", false, true),
        ] {
            assert_eq!(matches(&scoped(scope), pods, &idle), of_idle, "{scope}");
            assert_eq!(matches(&scoped(scope), pods, &busy), of_busy, "{scope}");
            assert!(!matches(&scoped(scope), maps, &json!({})), "{scope}");
        }
        let low = json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}}});
        assert!(!matches(&low, pods, &busy) && matches(&json!({}), maps, &json!({})));
        assert_eq!(
            unspecified(&json!({"cpu": "1", "limits.memory": "1", "pods": "1"}), &busy),
            "cpu for: c; limits.memory for: c"
        );
    }
}
