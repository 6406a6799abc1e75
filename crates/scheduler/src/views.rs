//! What the scheduler reads of pods and nodes.

use std::collections::BTreeMap;

use object::Quantity;
use serde::Deserialize;
use serde_json::Value;

/// A pod.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct PodView {
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) scheduler_name: String,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Affinity,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) overhead: BTreeMap<String, String>,
    pub(crate) topology_spread_constraints: Vec<SpreadConstraint>,
    pub(crate) scheduling_gates: Vec<Value>,
    pub(crate) priority: i32,
    pub(crate) preemption_policy: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) start_time: Option<String>,
    pub(crate) nominated_node_name: String,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) resources: Resources,
    pub(crate) ports: Vec<Port>,
    pub(crate) restart_policy: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) requests: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Port {
    #[serde(rename = "hostPort")]
    pub(crate) host_port: u16,
    pub(crate) protocol: String,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Toleration {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    pub(crate) node_affinity: NodeAffinity,
    pub(crate) pod_affinity: PodAffinity,
    pub(crate) pod_anti_affinity: PodAffinity,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) required: Option<NodeSelector>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) preferred: Vec<PreferredTerm>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSelector {
    pub(crate) node_selector_terms: Vec<NodeTerm>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct PreferredTerm {
    pub(crate) weight: i64,
    pub(crate) preference: NodeTerm,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeTerm {
    pub(crate) match_expressions: Vec<NodeExpression>,
    pub(crate) match_fields: Vec<NodeExpression>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct NodeExpression {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct PodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) required: Vec<PodTerm>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) preferred: Vec<WeightedPodTerm>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WeightedPodTerm {
    pub(crate) weight: i64,
    pub(crate) pod_affinity_term: PodTerm,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodTerm {
    pub(crate) label_selector: Option<Value>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) namespace_selector: Option<Value>,
    pub(crate) topology_key: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpreadConstraint {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: String,
    pub(crate) when_unsatisfiable: String,
    pub(crate) label_selector: Option<Value>,
}

/// A node.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct NodeView {
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct NodeSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) allocatable: BTreeMap<String, String>,
}

/// Amounts by resource name: millicores for `cpu`, whole units otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts(pub(crate) BTreeMap<String, i64>);

impl Amounts {
    pub(crate) fn of(quantities: &BTreeMap<String, String>) -> Self {
        let amount = |(name, text): (&String, &String)| {
            let quantity = Quantity::parse(text)?;
            Some((name.clone(), if name == "cpu" { quantity.millis() } else { quantity.units() }))
        };
        Self(quantities.iter().filter_map(amount).collect())
    }
    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= amount;
        }
    }
    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }
}

impl PodSpec {
    /// What the pod asks for: the larger of its containers with sidecars, and of each init container with the sidecars that
    /// were started before it, plus overhead (KEP-753).
    pub(crate) fn requests(&self) -> Amounts {
        let mut total = Amounts::default();
        for container in &self.containers {
            total.add(&Amounts::of(&container.resources.requests));
        }
        let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
        for init in &self.init_containers {
            let mut asked = Amounts::of(&init.resources.requests);
            if init.restart_policy == "Always" {
                sidecars.add(&asked);
                peak.raise_to(&sidecars);
            } else {
                asked.add(&sidecars);
                peak.raise_to(&asked);
            }
        }
        total.add(&sidecars);
        total.raise_to(&peak);
        total.add(&Amounts::of(&self.overhead));
        total
    }

    /// The host ports that it wants.
    pub(crate) fn host_ports(&self) -> Vec<Port> {
        let all = self.containers.iter().chain(self.init_containers.iter().filter(|c| c.restart_policy == "Always"));
        all.flat_map(|c| &c.ports).filter(|p| p.host_port != 0).cloned().collect()
    }
}

impl PodView {
    /// True once it uses nothing any more.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}

impl Toleration {
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "Exists" => true,
                "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
                "Gt" => compare(&taint.value, &self.value, i64::gt),
                "Lt" => compare(&taint.value, &self.value, i64::lt),
                _ => false,
            }
    }
}

/// Compares two numbers in text; false when one is none.
pub(crate) fn compare(left: &str, right: &str, wanted: fn(&i64, &i64) -> bool) -> bool {
    left.parse().ok().zip(right.parse().ok()).is_some_and(|(a, b)| wanted(&a, &b))
}
