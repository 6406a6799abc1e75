//! `v1/Pod` status, read and written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Resources;

/// `status`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) phase: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub(crate) host_ip: String,
    #[serde(rename = "hostIPs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) host_ips: Vec<Address>,
    #[serde(rename = "podIP", skip_serializing_if = "String::is_empty")]
    pub(crate) pod_ip: String,
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) pod_ips: Vec<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    #[serde(rename = "qosClass", skip_serializing_if = "String::is_empty")]
    pub(crate) qos_class: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ephemeral_container_statuses: Vec<ContainerStatus>,
}

impl PodStatus {
    /// True for `Failed` and `Succeeded`.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.phase.as_str(), "Failed" | "Succeeded")
    }
    /// The condition of this type.
    pub(crate) fn condition(&self, of: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.r#type == of)
    }
    /// The status of the container called `name`, of whatever list.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerStatus> {
        let lists = [&self.container_statuses, &self.init_container_statuses, &self.ephemeral_container_statuses];
        lists.into_iter().flatten().find(|c| c.name == name)
    }
}

/// `{ip: ...}`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Address {
    pub(crate) ip: String,
}

/// `conditions[]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    pub(crate) r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    pub(crate) status: String,
    pub(crate) last_probe_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// `containerStatuses[]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) last_state: State,
    pub(crate) ready: bool,
    pub(crate) restart_count: i32,
    pub(crate) image: String,
    #[serde(rename = "imageID")]
    pub(crate) image_id: String,
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub(crate) container_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocated_resources: Option<super::Quantities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Resources>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) volume_mounts: Vec<MountStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
}

/// `volumeMounts[]` of a container status.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MountStatus {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recursive_read_only: Option<String>,
}

/// `state`, `lastState`: at most one is set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<Running>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminated: Option<Terminated>,
}

impl State {
    /// `waiting` for this reason.
    pub(crate) fn waiting(reason: &str, message: &str) -> Self {
        Self { waiting: Some(Waiting { reason: reason.into(), message: message.into() }), ..Self::default() }
    }
    /// `terminated`.
    pub(crate) fn terminated(terminated: Terminated) -> Self {
        Self { terminated: Some(terminated), ..Self::default() }
    }
}

/// `state.waiting`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Waiting {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// `state.running`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Running {
    pub(crate) started_at: Option<String>,
}

/// `state.terminated`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) signal: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub(crate) container_id: String,
}

fn is_zero(value: &i32) -> bool {
    *value == 0
}
