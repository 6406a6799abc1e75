//! Flags of `navarch server`, as k3s has them, and the file that may hold them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::{Value, json};

use crate::datastore;

pub(crate) mod file;

/// Where mirrors and credentials of registries are looked for.
pub(crate) const REGISTRIES: &str = "/etc/navarch/registries.yaml";

/// Flags as k3s has them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// YAML file with flags by their names; `--flag` on the command line goes before it, and it before the environment.
    #[arg(long, short, env = "NAVARCH_CONFIG_FILE", default_value = file::PATH)]
    pub(crate) config: PathBuf,
    /// Where all state is kept.
    #[arg(long, short, env = "NAVARCH_DATA_DIR", default_value = cluster::DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Port of the API.
    #[arg(long, env = "NAVARCH_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    pub(crate) https_listen_port: u16,
    /// Address that the API listens on.
    #[arg(long, env = "NAVARCH_BIND_ADDRESS", default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Further names and addresses of the API's certificate.
    #[arg(long, env = "NAVARCH_TLS_SAN", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// Where the administrator's kubeconfig is written.
    #[arg(long, env = "NAVARCH_WRITE_KUBECONFIG", default_value = "/etc/navarch/navarch.yaml")]
    pub(crate) write_kubeconfig: PathBuf,
    /// Its mode, octal.
    #[arg(long, env = "NAVARCH_WRITE_KUBECONFIG_MODE", default_value = "600", value_parser = octal)]
    pub(crate) write_kubeconfig_mode: u32,
    /// Name of this node; the host name when not given.
    #[arg(long, env = "NAVARCH_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// Address that others reach this node at; found out when not given.
    #[arg(long, env = "NAVARCH_NODE_IP")]
    pub(crate) node_ip: Option<Ipv4Addr>,
    /// Labels of this node: `key=value`.
    #[arg(long, env = "NAVARCH_NODE_LABEL", value_delimiter = ',', value_parser = label)]
    pub(crate) node_label: Vec<(String, String)>,
    /// Taints that this node begins with: `key=value:NoSchedule`.
    #[arg(long, env = "NAVARCH_NODE_TAINT", value_delimiter = ',', value_parser = taint)]
    pub(crate) node_taint: Vec<Value>,
    /// Network of the pods.
    #[arg(long, env = "NAVARCH_CLUSTER_CIDR", default_value = "10.42.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Network of the services.
    #[arg(long, env = "NAVARCH_SERVICE_CIDR", default_value = "10.43.0.0/16")]
    pub(crate) service_cidr: String,
    /// Address of the cluster's DNS, within the service network.
    #[arg(long, env = "NAVARCH_CLUSTER_DNS", default_value = "10.43.0.10")]
    pub(crate) cluster_dns: Ipv4Addr,
    /// Domain of the cluster's names.
    #[arg(long, env = "NAVARCH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Mirrors and credentials of registries, in k3s's form.
    #[arg(long, env = "NAVARCH_PRIVATE_REGISTRY", default_value = REGISTRIES)]
    pub(crate) private_registry: PathBuf,
    /// Parts that are not run: `coredns`.
    #[arg(long, env = "NAVARCH_DISABLE", value_delimiter = ',', value_parser = ["coredns"])]
    pub(crate) disable: Vec<String>,
    /// Run the control plane only.
    #[arg(long, env = "NAVARCH_DISABLE_AGENT", action = ArgAction::SetTrue)]
    pub(crate) disable_agent: bool,
    /// Run no scheduler.
    #[arg(long, env = "NAVARCH_DISABLE_SCHEDULER", action = ArgAction::SetTrue)]
    pub(crate) disable_scheduler: bool,
    /// Run no controllers.
    #[arg(long, env = "NAVARCH_DISABLE_CONTROLLER_MANAGER", action = ArgAction::SetTrue)]
    pub(crate) disable_controller_manager: bool,
    /// Shared by the servers of a cluster: locks the cluster's keys in the datastore.
    #[arg(long, env = "NAVARCH_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) datastore: datastore::DatastoreFlags,
    /// Run no service proxy on this node.
    #[arg(long, env = "NAVARCH_DISABLE_KUBE_PROXY", action = ArgAction::SetTrue)]
    pub(crate) disable_kube_proxy: bool,
    /// Serve what lies below /debug: how much is logged can be set there.
    #[arg(long, env = "NAVARCH_PROFILING", default_value_t = true, action = ArgAction::Set)]
    pub(crate) profiling: bool,
    #[command(flatten)]
    pub(crate) security: crate::security::Flags,
    /// All of these as text, without those that are secret.
    #[arg(skip)]
    pub(crate) told: BTreeMap<String, String>,
}

/// Flags whose values nobody may see: keys, and addresses that may hold passwords.
const SECRET: [&str; 2] = ["token", "datastore-endpoint"];

/// The flags of a command with their values, as upstream's `/flagz` tells them: lists in brackets.
pub(crate) fn told(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let value = |flag: &Arg| {
        let raw = matches.get_raw(flag.get_id().as_str()).into_iter().flatten();
        let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        let is_list = flag.get_value_delimiter().is_some() || matches!(flag.get_action(), ArgAction::Append);
        if is_list { format!("[{}]", values.join(",")) } else { values.concat() }
    };
    let named = |flag: &Arg| Some((flag.get_long()?.to_owned(), value(flag)));
    let mut all: BTreeMap<String, String> = command
        .get_arguments()
        .filter(|flag| {
            !matches!(
                flag.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            )
        })
        .filter_map(named)
        .collect();
    for (name, value) in &mut all {
        if SECRET.contains(&name.as_str()) && !value.is_empty() {
            *value = "CENSORED".into();
        }
    }
    all
}

impl Flags {
    /// The node's labels: the role, and what was asked for.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let role = ("node-role.kubernetes.io/control-plane".to_owned(), "true".to_owned());
        std::iter::once(role).chain(self.node_label.iter().cloned()).collect()
    }

    pub(crate) fn is_disabled(&self, part: &str) -> bool {
        self.disable.iter().any(|d| d == part)
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let digits = text.trim_start_matches("0o");
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "write it in octal, like 600 or 0644".into())
}

/// Labels and taints are checked by the API; here only their form.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("write it as key=value".into()) } else { Ok((key.into(), value.into())) }
}

fn taint(text: &str) -> Result<Value, String> {
    let (of, effect) = text.rsplit_once(':').ok_or("write it as key=value:Effect")?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err("the effect is one of NoSchedule, PreferNoSchedule, NoExecute".into());
    }
    let (key, value) = of.split_once('=').unwrap_or((of, ""));
    match key {
        "" => Err("write it as key=value:Effect".into()),
        _ if value.is_empty() => Ok(json!({"key": key, "effect": effect})),
        _ => Ok(json!({"key": key, "value": value, "effect": effect})),
    }
}
