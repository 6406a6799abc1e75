//! Which nodes a daemon set means, and how its pods get there.

use object::Object;
use object::selector::{Operator, Requirement};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::views::{Taint, Toleration};
use crate::world::World;

/// Whether a node gets a pod, and whether one that is there may stay.
pub(super) struct Fit {
    pub should_run: bool,
    pub may_continue: bool,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(default)]
struct Node {
    spec: NodeSpec,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(default)]
struct NodeSpec {
    taints: Option<Vec<Taint>>,
    unschedulable: bool,
}

/// Taints that every daemon pod tolerates: key, effect, host network only.
const TOLERATED: [(&str, &str, bool); 7] = [
    ("node.kubernetes.io/not-ready", "NoExecute", false),
    ("node.kubernetes.io/unreachable", "NoExecute", false),
    ("node.kubernetes.io/disk-pressure", "NoSchedule", false),
    ("node.kubernetes.io/memory-pressure", "NoSchedule", false),
    ("node.kubernetes.io/pid-pressure", "NoSchedule", false),
    ("node.kubernetes.io/unschedulable", "NoSchedule", false),
    ("node.kubernetes.io/network-unavailable", "NoSchedule", true),
];

/// True when nothing changed that decides.
pub(super) fn same(old: &Object, new: &Object) -> bool {
    old.head.labels == new.head.labels
        && old.view::<Node>().unwrap_or_default() == new.view::<Node>().unwrap_or_default()
}

fn tolerated(spec: &Value) -> impl Iterator<Item = Value> {
    let host_network = spec["hostNetwork"] == true;
    TOLERATED
        .iter()
        .filter(move |(_, _, only_host)| host_network || !only_host)
        .map(|(key, effect, _)| json!({"key": key, "operator": "Exists", "effect": effect}))
}

/// How a template fits a node.
pub(super) fn fit(template: &Value, node: &Object) -> Fit {
    let spec = &template["spec"];
    let named = spec["nodeName"].as_str().unwrap_or_default();
    if !(named.is_empty() || named == node.head.name) || !selects(spec, node) {
        return Fit { should_run: false, may_continue: false };
    }
    let given = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let tolerations: Vec<Toleration> =
        given.into_iter().chain(tolerated(spec)).filter_map(|t| serde_json::from_value(t).ok()).collect();
    let taints = node.view::<Node>().unwrap_or_default().spec.taints.unwrap_or_default();
    let intolerable = |effect: &str| {
        let mut of_effect = taints.iter().filter(|taint| taint.effect == effect);
        of_effect.any(|taint| !tolerations.iter().any(|t| t.tolerates(taint)))
    };
    let evicts = intolerable("NoExecute");
    Fit { should_run: !evicts && !intolerable("NoSchedule"), may_continue: !evicts }
}

/// `nodeSelector` and the required node affinity.
fn selects(spec: &Value, node: &Object) -> bool {
    let labels = &node.head.labels;
    let pairs = spec["nodeSelector"].as_object();
    if !pairs.into_iter().flatten().all(|(k, v)| labels.get(k) == v.as_str()) {
        return false;
    }
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    if required.is_null() {
        return true;
    }
    let terms = required["nodeSelectorTerms"].as_array().cloned().unwrap_or_default();
    terms.iter().any(|term| {
        let list = |field: &str| term[field].as_array().cloned().unwrap_or_default();
        let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
        let name: object::Texts = [("metadata.name", &node.head.name)].into_iter().collect();
        !(expressions.is_empty() && fields.is_empty())
            && expressions.iter().all(|e| requirement(e).is_some_and(|r| r.matches(labels)))
            && fields.iter().all(|e| requirement(e).is_some_and(|r| r.matches(&name)))
    })
}

fn requirement(expression: &Value) -> Option<Requirement> {
    let operator = match expression["operator"].as_str()? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => return None,
    };
    let values = expression["values"].as_array().into_iter().flatten();
    let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Requirement { key: expression["key"].as_str()?.to_owned(), operator, values })
}

/// Makes a pod one for this node: an affinity for it, and what daemon pods tolerate.
pub(super) fn bind(pod: &mut Value, node: &str) {
    let spec = &mut pod["spec"];
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for toleration in tolerated(spec) {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec["tolerations"] = json!(tolerations);
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    // The terms of the template were judged here: the name says it all.
    *required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
}

/// The node that a pod is on or for.
pub(super) fn target(pod: &Object, world: &World) -> String {
    let node = world.pod(pod).spec.node_name.clone();
    if !node.is_empty() {
        return node;
    }
    let value = pod.value().unwrap_or_default();
    let path = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}
