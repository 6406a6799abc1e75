//! `spec.containers[]` and what hangs on it.

use serde::{Deserialize, Serialize};

use super::{IntOrString, Quantities, RestartPolicy, SeccompProfile};

/// A container: init, main or ephemeral.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) env_from: Vec<EnvFrom>,
    pub(crate) resources: Resources,
    pub(crate) resize_policy: Vec<ResizePolicy>,
    pub(crate) restart_policy: Option<RestartPolicy>,
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) volume_devices: Vec<serde_json::Value>,
    pub(crate) liveness_probe: Option<Probe>,
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) termination_message_path: Option<String>,
    pub(crate) termination_message_policy: String,
    pub(crate) image_pull_policy: String,
    pub(crate) security_context: SecurityContext,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    pub(crate) target_container_name: String,
}

impl Container {
    /// True for an init container that keeps running beside the main ones (KEP-753).
    pub(crate) fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
    /// The number of the port that `port` names.
    pub(crate) fn port_number(&self, port: &IntOrString) -> Result<u16, String> {
        let found = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => match self.ports.iter().find(|p| p.name == *name) {
                Some(named) => u16::try_from(named.container_port).ok(),
                None => match name.parse() {
                    Ok(number) => Some(number),
                    Err(_) => return Err(format!("couldn't find port: {name} in {:?}", self.name)),
                },
            },
        };
        match found {
            Some(number) if number > 0 => Ok(number),
            _ => Err(format!("invalid port number: {}", found.unwrap_or_default())),
        }
    }
}

/// `ports[]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) host_port: i64,
    pub(crate) container_port: i64,
    pub(crate) protocol: String,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
}

/// `env[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) value_from: Option<EnvSource>,
}

/// `env[].valueFrom`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvSource {
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
    pub(crate) config_map_key_ref: Option<KeyRef>,
    pub(crate) secret_key_ref: Option<KeyRef>,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

/// A resource of a container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceFieldRef {
    pub(crate) container_name: String,
    pub(crate) resource: String,
    pub(crate) divisor: Option<serde_json::Value>,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct KeyRef {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) optional: bool,
}

/// `envFrom[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvFrom {
    pub(crate) prefix: String,
    pub(crate) config_map_ref: Option<OptionalRef>,
    pub(crate) secret_ref: Option<OptionalRef>,
}

/// A ConfigMap or Secret that may be absent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct OptionalRef {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// `resources`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "Quantities::is_empty")]
    pub(crate) limits: Quantities,
    #[serde(skip_serializing_if = "Quantities::is_empty")]
    pub(crate) requests: Quantities,
}

/// `resizePolicy[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResizePolicy {
    pub(crate) resource_name: String,
    pub(crate) restart_policy: String,
}

/// `volumeMounts[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    pub(crate) sub_path: String,
    pub(crate) sub_path_expr: String,
    pub(crate) read_only: bool,
    pub(crate) recursive_read_only: Option<String>,
    pub(crate) mount_propagation: Option<String>,
}

/// `livenessProbe`, `readinessProbe`, `startupProbe`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) handler: Handler,
    pub(crate) initial_delay_seconds: i64,
    pub(crate) timeout_seconds: i64,
    pub(crate) period_seconds: i64,
    pub(crate) success_threshold: i64,
    pub(crate) failure_threshold: i64,
    pub(crate) termination_grace_period_seconds: Option<i64>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            handler: Handler::default(),
            initial_delay_seconds: 0,
            timeout_seconds: 1,
            period_seconds: 10,
            success_threshold: 1,
            failure_threshold: 3,
            termination_grace_period_seconds: None,
        }
    }
}

/// What a probe or a lifecycle hook does.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Handler {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exec: Option<ExecAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_get: Option<HttpGet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_socket: Option<TcpSocket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<Grpc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sleep: Option<Sleep>,
}

/// `exec`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct ExecAction {
    pub(crate) command: Vec<String>,
}

/// `httpGet`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpGet {
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) port: IntOrString,
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) scheme: String,
    #[serde(default)]
    pub(crate) http_headers: Vec<HttpHeader>,
}

/// `httpGet.httpHeaders[]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct HttpHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// `tcpSocket`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct TcpSocket {
    pub(crate) port: IntOrString,
    #[serde(default)]
    pub(crate) host: String,
}

/// `grpc`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Grpc {
    pub(crate) port: i64,
    pub(crate) service: Option<String>,
}

/// `sleep`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Sleep {
    pub(crate) seconds: i64,
}

/// `lifecycle`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
    pub(crate) stop_signal: Option<String>,
}

/// `securityContext` of a container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecurityContext {
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) privileged: bool,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) read_only_root_filesystem: bool,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) proc_mount: Option<String>,
    pub(crate) seccomp_profile: Option<SeccompProfile>,
    pub(crate) app_armor_profile: Option<SeccompProfile>,
    pub(crate) se_linux_options: Option<serde_json::Value>,
}

/// `capabilities`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
}
