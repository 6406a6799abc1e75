//! `v1/Pod` as the kubelet reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Container, PodStatus, Quantities, Volume};

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

/// `metadata`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) creation_timestamp: Option<String>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) deletion_grace_period_seconds: Option<i64>,
    pub(crate) finalizers: Vec<String>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    pub(crate) ephemeral_containers: Vec<Container>,
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) dns_policy: String,
    pub(crate) dns_config: Option<DnsConfig>,
    pub(crate) service_account_name: String,
    pub(crate) node_name: String,
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: bool,
    pub(crate) share_process_namespace: bool,
    pub(crate) host_users: Option<bool>,
    pub(crate) security_context: PodSecurityContext,
    pub(crate) image_pull_secrets: Vec<LocalReference>,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) hostname_override: Option<String>,
    #[serde(rename = "setHostnameAsFQDN")]
    pub(crate) set_hostname_as_fqdn: bool,
    pub(crate) host_aliases: Vec<HostAlias>,
    pub(crate) priority: Option<i64>,
    pub(crate) runtime_class_name: Option<String>,
    pub(crate) enable_service_links: Option<bool>,
    pub(crate) readiness_gates: Vec<ReadinessGate>,
    pub(crate) resources: Option<super::Resources>,
    pub(crate) overhead: Quantities,
    pub(crate) priority_class_name: String,
}

/// `restartPolicy` of a pod or a container.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// `{name: ...}`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct LocalReference {
    pub(crate) name: String,
}

/// `dnsConfig`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct DnsConfig {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<DnsOption>,
}

/// `dnsConfig.options[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct DnsOption {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// `hostAliases[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct HostAlias {
    pub(crate) ip: String,
    pub(crate) hostnames: Vec<String>,
}

/// `readinessGates[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReadinessGate {
    pub(crate) condition_type: String,
}

/// `spec.securityContext`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) fs_group: Option<i64>,
    pub(crate) fs_group_change_policy: Option<String>,
    pub(crate) supplemental_groups: Vec<i64>,
    pub(crate) supplemental_groups_policy: Option<String>,
    pub(crate) seccomp_profile: Option<SeccompProfile>,
    pub(crate) app_armor_profile: Option<SeccompProfile>,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) se_linux_options: Option<Value>,
}

/// `seccompProfile` and `appArmorProfile`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SeccompProfile {
    pub(crate) r#type: String,
    pub(crate) localhost_profile: Option<String>,
}

/// `sysctls[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Sysctl {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Which list of the spec a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Init,
    Main,
    Ephemeral,
}

impl Pod {
    /// `name_namespace(uid)`: how upstream's messages name a pod.
    pub(crate) fn full(&self) -> String {
        format!("{}_{}({})", self.metadata.name, self.metadata.namespace, self.metadata.uid)
    }
    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
    /// All containers with their list, in starting order.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let spec = &self.spec;
        let of = |role| move |c| (role, c);
        spec.init_containers
            .iter()
            .map(of(Role::Init))
            .chain(spec.containers.iter().map(of(Role::Main)))
            .chain(spec.ephemeral_containers.iter().map(of(Role::Ephemeral)))
    }
    /// The container called `name`.
    pub(crate) fn container(&self, name: &str) -> Option<(Role, &Container)> {
        self.all_containers().find(|(_, c)| c.name == name)
    }
    /// The containers of one list.
    pub(crate) fn containers(&self, role: Role) -> &[Container] {
        match role {
            Role::Init => &self.spec.init_containers,
            Role::Main => &self.spec.containers,
            Role::Ephemeral => &self.spec.ephemeral_containers,
        }
    }
    /// True once deletion was requested.
    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
    /// Whether `container` starts again after it ended with `exit_code`.
    pub(crate) fn restarts(&self, container: &Container, exit_code: i32) -> bool {
        let policy = container.restart_policy.unwrap_or(self.spec.restart_policy);
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
    /// `terminationGracePeriodSeconds`, 30 by default; `deletionGracePeriodSeconds` once deleted.
    pub(crate) fn grace_seconds(&self) -> i64 {
        let of_deletion = self.metadata.deletion_grace_period_seconds;
        of_deletion.or(self.spec.termination_grace_period_seconds).unwrap_or(30)
    }
}
