//! `navarch server`: everything, in order, and down again in the reverse order.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use base::Tasks;
use cluster::preflight::{self, Wanted};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::datastore::Datastore;
use crate::flags::Flags;
use crate::local::HostNetwork;
use crate::{kubeconfig, node, snapshot};

/// Sets what is logged.
type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

static LOG: OnceLock<SetFilter> = OnceLock::new();

/// Sets how much is logged, in klog's numbers: from 4 on what helps to find errors, from 6 on everything.
fn set_verbosity(level: u32) -> Result<(), String> {
    let filter = match level {
        0..=3 => "info",
        4..=5 => "debug,h2=info,hyper=info,hyper_util=info,rustls=info",
        // What goes over the wire, keys among it, stays unsaid.
        6.. => "trace,h2=info,hyper=info,hyper_util=info,rustls=info,mio=info",
    };
    LOG.get().map_or(Ok(()), |set| set(filter))
}

/// Runs until SIGINT or SIGTERM. The world is reached over `outside`, if this process's own network leads nowhere.
pub(crate) fn main(flags: &Flags, outside: Option<HostNetwork>) -> anyhow::Result<ExitCode> {
    foreground(run(flags, outside))
}

/// Runs `work` to its end, with a log on standard error.
pub(crate) fn foreground(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("NAVARCH_LOG").unwrap_or_else(|_| "info".into());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    let log = log.with_filter_reloading();
    let handle = log.reload_handle();
    let set = move |filter: &str| handle.reload(EnvFilter::new(filter)).map_err(|error| error.to_string());
    // A process has one log.
    let _ = LOG.set(Box::new(set));
    log.init();
    // Memory goes back to the kernel even while nothing is asked for. Without these threads it only does later.
    let _ = tikv_jemalloc_ctl::background_thread::write(true);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Sockets are looked at more often than tokio does by itself (61): a task that sends a long list works for a tenth of a
    // millisecond at a time, and small requests should not wait for sixty of those.
    let runtime = runtime.enable_all().event_interval(4).build().context("cannot start the runtime")?;
    runtime.block_on(work)?;
    Ok(ExitCode::SUCCESS)
}

/// Listens for SIGINT and SIGTERM from now on; done when one has come.
pub(crate) fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Everything that could go wrong for the machine's sake, before anything is changed.
fn wanted(flags: &Flags, is_local: bool) -> Wanted {
    let api = SocketAddr::new(flags.bind_address, flags.https_listen_port);
    let kubelet = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), node::KUBELET_PORT);
    let is_agent = !flags.disable_agent;
    let mut wanted = Wanted {
        data_dir: flags.data_dir.clone(),
        agent: is_agent,
        local: is_local,
        listen: vec![(api, "--https-listen-port or --bind-address")],
        ..Wanted::default()
    };
    if is_agent {
        wanted.listen.push((kubelet, "--disable-agent (the kubelet's port is fixed)"));
        wanted.networks =
            vec![(flags.cluster_cidr.clone(), "--cluster-cidr"), (flags.service_cidr.clone(), "--service-cidr")];
        wanted.own_links = vec![node::BRIDGE.into()];
    }
    wanted
}

async fn run(flags: &Flags, outside: Option<HostNetwork>) -> anyhow::Result<()> {
    let token = CancellationToken::new();
    let stopped = stopped()?;
    let started = tokio::time::Instant::now();
    preflight::run(&wanted(flags, outside.is_some()))?;
    let mut tasks = Tasks::new(&token);
    // Secrets in the store, environments of containers, tokens in volumes: nothing for other users of the machine.
    for private in ["server", "run", "agent/kubelet"] {
        private_dir(&flags.data_dir.join(private))?;
    }
    let encryption = flags.security.encryption()?;
    let transform = encryption.clone().map(|e| e as Arc<dyn store::Transform>);
    let options = store::Options { fields: selectable_fields, transform };
    let store = flags.datastore.open(&flags.data_dir, options).await?;
    let pki = Arc::new(store.keys(&flags.data_dir, flags.token.as_deref()).await?);
    let node_ip = match flags.node_ip {
        Some(ip) => ip,
        None => own_address().context("cannot find this machine's address: give it with --node-ip")?,
    };
    let node_name = match &flags.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("cannot read the host name")?.to_string_lossy().to_lowercase(),
    };
    let local = Arc::new(node::LocalNode::new(&node_name));
    let config = apiserver::Config {
        store: store.backend(),
        pki: pki.clone(),
        listen: SocketAddr::new(flags.bind_address, flags.https_listen_port),
        advertise: node_ip,
        names: flags.tls_san.clone(),
        service_cidr: flags.service_cidr.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        nodes: Some(local.clone()),
        encryption,
        security: flags.security.settings()?,
        debug: apiserver::Debug {
            flags: flags.told.clone(),
            verbosity: flags.profiling.then(|| Arc::new(set_verbosity) as apiserver::Verbosity),
        },
    };
    let server = Arc::new(apiserver::Server::start(config, &mut tasks).await?);
    let admin = pki.client("admin", "system:admin", "system:masters")?;
    let url = format!(
        "https://{}:{}",
        if node_ip.is_loopback() { Ipv4Addr::LOCALHOST } else { node_ip },
        server.address().port()
    );
    let access = kubeconfig::Access { server: &url, ca: pki.server_ca.certificate_pem(), pair: &admin };
    let document = kubeconfig::document("navarch", &access);
    kubeconfig::write(&flags.write_kubeconfig, &document, flags.write_kubeconfig_mode)?;
    tracing::info!(address = %server.address(), took = ?started.elapsed(), "the API is ready");
    if let Datastore::Embedded(_) = store {
        let stop = tasks.token().clone();
        tasks.spawn("snapshots", snapshot::serve(store.backend(), flags.data_dir.clone(), stop));
    }
    // Of several servers on one etcd one leads; nobody else can be at an embedded store.
    let candidate = matches!(store, Datastore::Etcd(_)).then(|| format!("{node_name}_{node_ip}"));
    start_control_plane(flags, &server, &pki, candidate, &mut tasks);
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
            labels: flags.labels(),
            taints: flags.node_taint.clone(),
            has_proxy: !flags.disable_kube_proxy,
            has_dns: !flags.is_disabled("coredns"),
            outside,
        };
        node::start(config, &server, &pki, &local, &mut tasks).await?;
        tracing::info!(took = ?started.elapsed(), "the node agent is started");
    }
    stopped.await;
    tasks.shutdown().await;
    Ok(())
}

/// A directory that only root looks into, whatever it was before.
fn private_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let make = || {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("cannot make the directory {}", path.display()))
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

/// Scheduler and controllers, each under the identity that upstream gives it. A `candidate` runs each while it leads.
fn start_control_plane(
    flags: &Flags,
    server: &Arc<apiserver::Server>,
    pki: &Arc<pki::Pki>,
    candidate: Option<String>,
    tasks: &mut Tasks,
) {
    let stop = tasks.token().clone();
    if !flags.disable_scheduler {
        let user = apiserver::User::new("system:kube-scheduler", &[]);
        let client = server.client(user, "kube-scheduler");
        let of = client.clone();
        let run = move |stop| scheduler::run(of.clone(), scheduler::Options::default(), stop);
        tasks.spawn("scheduler", lead(client, "kube-scheduler", candidate.clone(), stop.clone(), run));
    }
    if flags.disable_controller_manager {
        return;
    }
    let user = apiserver::User::new("system:kube-controller-manager", &[]);
    let client = server.client(user, "kube-controller-manager");
    let for_identities = server.clone();
    let identities: controllers::Identities =
        Arc::new(move |name| for_identities.client(identity(name), "kube-controller-manager"));
    let options = controllers::Options {
        ca_pem: pki.server_ca.certificate_pem().into(),
        keys: Some(controllers::Keys(pki.clone())),
        ..Default::default()
    };
    let of = client.clone();
    let run = move |stop| controllers::run(of.clone(), identities.clone(), options.clone(), stop);
    tasks.spawn("controllers", lead(client, "kube-controller-manager", candidate, stop, run));
}

/// Runs a component until `stop`: always, or while this candidate holds the lease of that name.
pub(crate) async fn lead<F: Future<Output = ()>>(
    client: client::Client,
    lease: &'static str,
    candidate: Option<String>,
    stop: CancellationToken,
    run: impl Fn(CancellationToken) -> F,
) {
    let Some(identity) = candidate else { return run(stop).await };
    while !stop.is_cancelled() {
        client::leader::Election::new(client.clone(), "kube-system", lease, &identity).run(stop.clone(), &run).await;
    }
}

/// The controller that makes accounts' tokens.
pub(crate) const TOKENS: &str = "tokens-controller";

/// Whose rights a controller has: its own account's, but for the one that makes accounts' tokens (as upstream).
fn identity(controller: &str) -> apiserver::User {
    match controller {
        TOKENS => apiserver::User::new("system:kube-controller-manager", &[]),
        name => apiserver::User::service_account("kube-system", name),
    }
}

/// What the store cannot know: which fields of an object can be selected on.
fn selectable_fields(object: &object::Object) -> object::Texts {
    let gvk = object::Gvk::from_api_version(&object.head.api_version, &object.head.kind);
    // Most kinds have none, and to find that out no object need be read.
    let kind = kinds::table().by_gvk(&gvk).filter(|kind| !kind.selectable.is_empty());
    match kind.map(|kind| (kind, object.value_to_show())) {
        Some((kind, Ok(value))) => kinds::fields(kind, &value),
        _ => Default::default(),
    }
}
