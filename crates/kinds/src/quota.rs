//! What objects cost under a ResourceQuota (upstream's evaluators), for its admission and its controller.
//!
//! Every object counts as `count/<resource>.<group>`; some of the core group by their plain names too; pods, services and claims have
//! what they ask for on top.

mod scopes;

use std::collections::{BTreeMap, BTreeSet};

use object::Quantity;
use serde_json::Value;

use crate::kind::Kind;
use crate::tree::{entries, list, text};
pub use scopes::{matches, matches_scope, scopes};

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
            pod(object, &mut usage);
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
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // As upstream: the time of deletion has the grace in it, and it is added once more.
    let over = deleted.zip(grace).is_some_and(|(at, grace)| now > at.as_second().saturating_add(grace));
    over || matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

/// What a pod `requests` or `limits`: the larger of all containers with sidecars, and of each init container with the sidecars before it;
/// with what its runtime takes on top, if that is wanted.
pub fn amounts(spec: &Value, which: &str, overhead: bool) -> Usage {
    total(spec, which, overhead, |container| parsed(&container["resources"][which]))
}

fn parsed(amounts: &Value) -> Usage {
    entries(amounts).filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(text(amount))?))).collect()
}

/// The same of a pod that may be resized just now: of each container the larger of what it is to have, has, and was promised.
fn charged(pod: &Value, which: &str) -> Usage {
    let conditions = list(&pod["status"]["conditions"]);
    let infeasible = conditions.iter().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible");
    let statuses = || {
        let lists = ["containerStatuses", "initContainerStatuses"].into_iter();
        lists.flat_map(|of| list(&pod["status"][of]))
    };
    total(&pod["spec"], which, true, |container| {
        let status = statuses().find(|s| s["name"] == container["name"] && s["resources"].is_object());
        let Some(status) = status else { return parsed(&container["resources"][which]) };
        let mut most = if infeasible { Usage::new() } else { parsed(&container["resources"][which]) };
        raise(&mut most, &parsed(&status["resources"][which]));
        if which == "requests" {
            raise(&mut most, &parsed(&status["allocatedResources"]));
        }
        most
    })
}

fn raise(total: &mut Usage, other: &Usage) {
    for (name, amount) in other {
        let mine = total.entry(name.clone()).or_default();
        *mine = (*mine).max(*amount);
    }
}

fn total(spec: &Value, which: &str, overhead: bool, of: impl Fn(&Value) -> Usage) -> Usage {
    let sum =
        |total: &mut Usage, more: &Usage| more.iter().for_each(|(name, amount)| add(total, name.as_str(), *amount));
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
    total.extend(parsed(&spec["resources"][which]));
    let on_top = entries(&spec["overhead"]).filter(|_| overhead);
    for (name, amount) in on_top.filter_map(|(n, a)| Some((n, Quantity::parse(text(a))?))) {
        // A limit that there is not is not made.
        if which == "requests" || total.contains_key(name) {
            add(&mut total, name.as_str(), amount);
        }
    }
    total
}

fn pod(pod: &Value, usage: &mut Usage) {
    for (name, amount) in charged(pod, "requests") {
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
    for (name, amount) in charged(pod, "limits") {
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

/// Names of the pods' amounts that quotas may limit, besides huge pages and what others than Kubernetes call `requests.<domain>/<name>`.
const OF_PODS: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];

/// True when objects of the kind may cost what a quota calls `name`.
pub fn concerns(kind: &Kind, name: &str) -> bool {
    let counted = object::names::group_resource(&kind.group, &kind.plural);
    if name.strip_prefix("count/") == Some(counted.as_str()) {
        return true;
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => {
            let asked = name.strip_prefix("requests.");
            OF_PODS.contains(&name)
                || asked.unwrap_or(name).starts_with("hugepages-")
                || asked.is_some_and(|asked| asked.contains('/') && !asked.contains("kubernetes.io/"))
        }
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            let of_class = name.split_once(".storageclass.storage.k8s.io/").map(|(_, name)| name);
            OF_CLAIMS.contains(&of_class.unwrap_or(name))
        }
        ("", plural) => name == plural && COUNTED.contains(&plural),
        _ => false,
    }
}

/// Containers that leave open what is limited: `limits.cpu for: a,b; memory for: a`. Empty when there are none, or the pod asks as a whole.
pub fn unspecified<'a>(limited: impl IntoIterator<Item = &'a str>, pod: &Value) -> String {
    let spec = &pod["spec"];
    if ["requests", "limits"].iter().any(|which| entries(&spec["resources"][*which]).next().is_some()) {
        return String::new();
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in limited {
        let (which, resource) = match name {
            "cpu" | "memory" => ("requests", name),
            "requests.cpu" | "requests.memory" => ("requests", &name["requests.".len()..]),
            "limits.cpu" | "limits.memory" => ("limits", &name["limits.".len()..]),
            _ => continue,
        };
        for container in list(&spec["containers"]).iter().chain(list(&spec["initContainers"])) {
            if container["resources"][which].get(resource).is_none() {
                missing.entry(name).or_default().insert(text(&container["name"]));
            }
        }
    }
    let names = |of: &BTreeSet<&str>| of.iter().copied().collect::<Vec<_>>().join(",");
    let words: Vec<String> = missing.iter().map(|(name, of)| format!("{name} for: {}", names(of))).collect();
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
        assert_eq!(unspecified(["pods", "limits.memory", "cpu"], &busy), "cpu for: c; limits.memory for: c");
    }

    #[test]
    fn claims_have_the_scope_of_their_attributes() {
        let claims = crate::table().by_gvr(&object::Gvr::new("", "v1", "persistentvolumeclaims")).unwrap();
        let with = |operator: &str, values: &[&str]| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}]}}})
        };
        let gold = json!({"spec": {"volumeAttributesClassName": "gold"}, "status": {"currentVolumeAttributesClassName": "silver"}});
        let plain = json!({"spec": {}});
        for (quota, of_gold, of_plain) in [
            (with("Exists", &[]), true, false),
            (with("DoesNotExist", &[]), false, true),
            (with("In", &["silver"]), true, false),
            (with("NotIn", &["gold"]), true, true),
        ] {
            assert_eq!(matches(&quota, claims, &gold), of_gold, "{quota}");
            assert_eq!(matches(&quota, claims, &plain), of_plain, "{quota}");
        }
        assert!(!matches(&json!({"spec": {"scopes": ["BestEffort"]}}), claims, &plain));
    }

    #[test]
    fn what_concerns_a_kind() {
        let kind = |resource: &str| crate::table().by_gvr(&object::Gvr::new("", "v1", resource)).unwrap();
        let check = |resource: &str, names: &[&str], wanted: bool| {
            names.iter().for_each(|name| assert_eq!(concerns(kind(resource), name), wanted, "{resource} {name}"));
        };
        check(
            "pods",
            &["pods", "count/pods", "hugepages-2Mi", "requests.hugepages-2Mi", "requests.example.com/gpu"],
            true,
        );
        check("pods", &["requests.storage", "example.com/gpu", "services", "requests.kubernetes.io/x"], false);
        check(
            "persistentvolumeclaims",
            &["requests.storage", "gold.storageclass.storage.k8s.io/requests.storage"],
            true,
        );
        check("services", &["services.nodeports"], true);
        check("configmaps", &["configmaps", "count/configmaps"], true);
        check("configmaps", &["count/secrets", "endpoints"], false);
        check("endpoints", &["endpoints"], false);
    }

    #[test]
    fn a_resize_counts_the_larger() {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}}]},
            "status": {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}, "allocatedResources": {"cpu": "3"}}]}});
        let found = usage(crate::table().by_gvr(&object::Gvr::new("", "v1", "pods")).unwrap(), &pod, 0);
        assert_eq!((found["cpu"], found["limits.cpu"]), (Quantity::from_units(3), Quantity::from_units(4)));
    }
}
