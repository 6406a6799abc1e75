//! `navarch server`: everything, in order, and down again in the reverse order.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use base::Tasks;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{kubeconfig, node};

/// Flags as k3s has them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Where all state is kept.
    #[arg(long, env = "NAVARCH_DATA_DIR", default_value = "/var/lib/navarch")]
    pub(crate) data_dir: PathBuf,
    /// Port of the API.
    #[arg(long, env = "NAVARCH_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    pub(crate) https_listen_port: u16,
    /// Address that the API listens on.
    #[arg(long, env = "NAVARCH_BIND_ADDRESS", default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Address that others reach this node at; found out when not given.
    #[arg(long, env = "NAVARCH_NODE_IP")]
    pub(crate) node_ip: Option<Ipv4Addr>,
    /// Name of this node; the host name when not given.
    #[arg(long, env = "NAVARCH_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// Further names and addresses of the API's certificate.
    #[arg(long, env = "NAVARCH_TLS_SAN", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// Where the administrator's kubeconfig is written.
    #[arg(long, env = "NAVARCH_WRITE_KUBECONFIG", default_value = "/etc/navarch/navarch.yaml")]
    pub(crate) write_kubeconfig: PathBuf,
    /// Its mode, octal.
    #[arg(long, env = "NAVARCH_WRITE_KUBECONFIG_MODE", default_value = "600")]
    pub(crate) write_kubeconfig_mode: String,
    /// Network of the pods.
    #[arg(long, env = "NAVARCH_CLUSTER_CIDR", default_value = "10.42.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Network of the services.
    #[arg(long, env = "NAVARCH_SERVICE_CIDR", default_value = "10.43.0.0/16")]
    pub(crate) service_cidr: String,
    /// Address of the cluster's DNS, within the service network.
    #[arg(long, env = "NAVARCH_CLUSTER_DNS", default_value = "10.43.0.10")]
    pub(crate) cluster_dns: Ipv4Addr,
    /// Mirrors and credentials of registries, in k3s's form.
    #[arg(long, env = "NAVARCH_PRIVATE_REGISTRY", default_value = "/etc/navarch/registries.yaml")]
    pub(crate) private_registry: PathBuf,
    /// Run the control plane only.
    #[arg(long, env = "NAVARCH_DISABLE_AGENT")]
    pub(crate) disable_agent: bool,
    /// Domain of the cluster's names.
    #[arg(long, env = "NAVARCH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn main(flags: &Flags) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NAVARCH_LOG").unwrap_or_else(|_| "info".into());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run(flags))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(flags: &Flags) -> anyhow::Result<()> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let started = tokio::time::Instant::now();
    let mut tasks = Tasks::new(&token);
    let store_dir = flags.data_dir.join("server/db");
    let options = store::Options { fields: selectable_fields };
    let store = store::Embedded::open(&store_dir, options)
        .with_context(|| format!("cannot open the store in {}", store_dir.display()))?;
    let pki = Arc::new(pki::Pki::load_or_create(&flags.data_dir.join("server/tls"))?);
    let node_ip = match flags.node_ip {
        Some(ip) => ip,
        None => own_address().context("cannot find this machine's address: give it with --node-ip")?,
    };
    let node_name = match &flags.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("cannot read the host name")?.to_string_lossy().to_lowercase(),
    };
    let local = Arc::new(node::LocalNode::default());
    let config = apiserver::Config {
        store: Arc::new(store),
        pki: pki.clone(),
        listen: SocketAddr::new(flags.bind_address, flags.https_listen_port),
        advertise: node_ip,
        names: flags.tls_san.clone(),
        service_cidr: flags.service_cidr.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        nodes: Some(local.clone()),
    };
    let server = Arc::new(apiserver::Server::start(config, &mut tasks).await?);
    let admin = pki.client("admin", "system:admin", "system:masters")?;
    let url = format!(
        "https://{}:{}",
        if node_ip.is_loopback() { Ipv4Addr::LOCALHOST } else { node_ip },
        server.address().port()
    );
    let access = kubeconfig::Access { server: &url, ca: pki.server_ca.certificate_pem(), pair: &admin };
    let mode = u32::from_str_radix(&flags.write_kubeconfig_mode, 8).context("--write-kubeconfig-mode is not octal")?;
    kubeconfig::write(&flags.write_kubeconfig, &kubeconfig::document("navarch", &access), mode)?;
    tracing::info!(address = %server.address(), took = ?started.elapsed(), "the API is ready");
    start_control_plane(&server, &pki, &mut tasks);
    if !flags.disable_agent {
        let config = node::Config {
            data_dir: flags.data_dir.clone(),
            run_dir: flags.data_dir.join("run"),
            registries: flags.private_registry.clone(),
            node_name,
            node_ip,
            cluster_cidr: flags.cluster_cidr.clone(),
            service_cidr: flags.service_cidr.clone(),
            cluster_dns: flags.cluster_dns,
            cluster_domain: flags.cluster_domain.clone(),
        };
        node::start(config, &server, &pki, &local, &mut tasks).await?;
        tracing::info!(took = ?started.elapsed(), "the node agent is started");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tasks.shutdown().await;
    Ok(())
}

/// The address that packets to elsewhere would leave from; nothing is sent. The loopback address where there is no way out.
fn own_address() -> std::io::Result<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address of the documentation range: only the routing table is asked.
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_err() {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Ok(Ipv4Addr::LOCALHOST),
    }
}

/// Scheduler and controllers, each under the identity that upstream gives it.
fn start_control_plane(server: &Arc<apiserver::Server>, pki: &pki::Pki, tasks: &mut Tasks) {
    let stop = tasks.token().clone();
    let user = apiserver::User::new("system:kube-scheduler", &[]);
    let client = server.client(user, "kube-scheduler");
    tasks.spawn("scheduler", scheduler::run(client, scheduler::Options::default(), stop.clone()));
    let user = apiserver::User::new("system:kube-controller-manager", &[]);
    let client = server.client(user, "kube-controller-manager");
    let for_identities = server.clone();
    let identities: controllers::Identities =
        Arc::new(move |name| for_identities.client(apiserver::User::service_account("kube-system", name), name));
    let options = controllers::Options { ca_pem: pki.server_ca.certificate_pem().into(), ..Default::default() };
    tasks.spawn("controllers", controllers::run(client, identities, options, stop));
}

/// What the store cannot know: which fields of an object can be selected on.
fn selectable_fields(object: &object::Object) -> std::collections::BTreeMap<String, String> {
    let gvk = object::Gvk::from_api_version(&object.head.api_version, &object.head.kind);
    match (kinds::table().by_gvk(&gvk), object.value()) {
        (Some(kind), Ok(value)) => kinds::fields(kind, &value),
        _ => Default::default(),
    }
}
