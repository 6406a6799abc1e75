//! From a pod to what the runtime is told: CRI sandbox and container configurations. Pure, but for the files that a
//! container's `/etc/hosts` and logs need.

pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod downward;
pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod hosts;
pub(crate) mod sandbox;
pub(crate) mod security;
pub(crate) mod services;

/// What every configuration needs to know of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) node_ip: String,
    pub(crate) cluster_dns: Vec<String>,
    pub(crate) cluster_domain: String,
    pub(crate) resolv_conf: std::path::PathBuf,
    pub(crate) cgroup_root: String,
    pub(crate) log_dir: std::path::PathBuf,
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) ephemeral_bytes: i64,
}
