//! What controllers read of pods, templates and conditions, and small rules over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Text by key.
pub type Map = BTreeMap<String, String>;

/// `metadata`, beyond what an object's head has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Uid.
    pub uid: String,
    /// Labels.
    pub labels: Option<Map>,
    /// Annotations.
    pub annotations: Option<Map>,
    /// When it was created.
    pub creation_timestamp: Option<String>,
    /// When it is to be gone.
    pub deletion_timestamp: Option<String>,
    /// Seconds of grace.
    pub deletion_grace_period_seconds: Option<i64>,
}

impl Meta {
    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
    /// Seconds since the epoch of its creation.
    pub fn created(&self) -> Option<i64> {
        self.creation_timestamp.as_deref().and_then(base::time::parse_seconds)
    }
}

/// Any object whose metadata alone is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Any {
    /// `metadata`.
    pub metadata: Meta,
}

/// A condition of any status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`.
    pub r#type: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// When it was last looked at (deployments).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
    /// When it was last looked at (jobs, pods).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<String>,
    /// When it was last looked at (nodes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<String>,
    /// When `status` changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// The generation that was looked at (disruption budgets).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// CamelCase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Condition {
    /// A condition that changes now.
    pub fn new(kind: &str, status: &str, reason: &str, message: impl Into<String>, stamp: &str) -> Self {
        Self {
            r#type: kind.into(),
            status: status.into(),
            last_transition_time: Some(stamp.into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            ..Self::default()
        }
    }
    /// Its reason, or the empty text.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
    /// True when it holds.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.r#type == kind)
}

/// Sets a condition: nothing changes when status and reason are the same; the transition time stays when the status is.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    if let Some(old) = condition(conditions, &new.r#type) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove_condition(conditions, &new.r#type);
    conditions.push(new);
}

/// Takes a condition out.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|c| c.r#type != kind);
}

/// What is read of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: PodSpec,
    /// `status`.
    pub status: PodStatus,
}

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Where it runs.
    pub node_name: String,
    /// Its host name, if it has one of its own.
    pub hostname: String,
    /// The headless service that names it.
    pub subdomain: String,
    /// `Always`, `OnFailure`, `Never`.
    pub restart_policy: String,
    /// Shares the node's network.
    pub host_network: bool,
    /// What it tolerates.
    pub tolerations: Option<Vec<Toleration>>,
    /// Containers.
    pub containers: Option<Vec<Container>>,
    /// Init containers.
    pub init_containers: Option<Vec<Container>>,
}

/// What is read of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Option<Vec<ContainerPort>>,
    /// `Always` for a sidecar.
    pub restart_policy: Option<String>,
}

/// A container's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Name.
    pub name: String,
    /// Number.
    pub container_port: i64,
    /// `TCP` when empty.
    pub protocol: Option<String>,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Key; empty with `Exists` for all.
    pub key: String,
    /// `Equal` when empty.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; empty for all.
    pub effect: String,
    /// For how long a NoExecute taint is tolerated; forever when absent.
    pub toleration_seconds: Option<i64>,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: String,
    /// When it was added (NoExecute).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

impl Toleration {
    /// True when it tolerates `taint`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "Exists" => true,
                "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
                _ => false,
            }
    }
}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// Why.
    pub reason: String,
    /// Conditions.
    pub conditions: Option<Vec<Condition>>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All its addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
    /// The node's address.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Containers.
    pub container_statuses: Option<Vec<ContainerStatus>>,
    /// Init containers.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// When the kubelet took it.
    pub start_time: Option<String>,
}

/// An address of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// What is read of a container's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// Restarts.
    pub restart_count: i64,
    /// State.
    pub state: Value,
}

impl Pod {
    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        condition(self.status.conditions.as_deref().unwrap_or_default(), kind)
    }
    /// True when its condition Ready holds.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(Condition::is_true)
    }
    /// When it became ready.
    pub fn ready_since(&self) -> Option<i64> {
        let ready = self.condition("Ready").filter(|c| c.is_true())?;
        ready.last_transition_time.as_deref().and_then(base::time::parse_seconds)
    }
    /// True when it has been ready for that many seconds.
    pub fn is_available(&self, min_ready_seconds: i64, now: i64) -> bool {
        self.is_ready()
            && (min_ready_seconds == 0 || self.ready_since().is_some_and(|since| since + min_ready_seconds <= now))
    }
    /// True once its containers ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
    /// True when it is neither finished nor going.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && self.metadata.deletion_timestamp.is_none()
    }
    /// The most restarts of a container.
    pub fn restarts(&self) -> i64 {
        self.status.container_statuses.iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    }
    /// Its containers' ports.
    pub fn ports(&self) -> impl Iterator<Item = &ContainerPort> {
        self.spec.containers.iter().flatten().flat_map(|c| c.ports.iter().flatten())
    }
    /// The ports of init containers that stay (sidecars), then of its containers: where a service's port name is looked up.
    pub fn all_ports(&self) -> impl Iterator<Item = &ContainerPort> {
        let stays = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let sidecars = self.spec.init_containers.iter().flatten().filter(stays);
        self.ports().chain(sidecars.flat_map(|c| c.ports.iter().flatten()))
    }
}
