//! Puts the parts together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::{Client, Informer, ListOptions, Resource};
use object::{FieldSelector, Gvr};
use protos::cri::v1::VersionRequest;
use protos::cri::{ImageService, RuntimeService};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::NodeFacts;
use crate::gc::Housekeeping;
use crate::images::Puller;
use crate::node::Keeper;
use crate::node::facts::{CpuMeter, Machine, disk};
use crate::objects::Objects;
use crate::pleg::Pleg;
use crate::pods::manager::{Manager, Wakers};
use crate::server::{About, Authorizer, KubeletServer, StreamServer, listen};
use crate::shared::{Registry, Shared, crash_backoffs};
use crate::volumes::Volumes;
use crate::volumes::mounter::{KernelMounter, Mounter};

/// How a kubelet is set up.
#[derive(Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// The API, as `system:node:<name>` in the group `system:nodes`.
    pub client: Client,
    /// Runs sandboxes and containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// Pulls and lists images.
    pub images: Arc<dyn ImageService>,
    /// `pods/<uid>/...`: `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// `<namespace>_<pod>_<uid>/<container>/<n>.log`: `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Links to the logs for collectors: `/var/log/containers`.
    pub links_dir: PathBuf,
    /// Where the images' files lie, to see how full that file system is.
    pub image_dir: PathBuf,
    /// The node's address.
    pub node_ip: String,
    /// Addresses of the cluster's DNS.
    pub cluster_dns: Vec<String>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The node's resolver configuration: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Most pods on this node: 110.
    pub max_pods: i64,
    /// Labels besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that a new node gets, as API objects.
    pub taints: Vec<Value>,
    /// What `/kubepods` is put below: empty for the root.
    pub cgroup_root: String,
    /// The node's range of pod addresses, when it is known without the node's object.
    pub pod_cidr: Option<String>,
    /// Localhost seccomp profiles: `<root_dir>/seccomp`.
    pub seccomp_dir: PathBuf,
    /// Where the kubelet's API listens (`0.0.0.0:10250`) and with which certificate (`pki::tls::server_config` with the
    /// client CA); `None`: only in process.
    pub listen: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    /// The port that the node's status announces.
    pub port: u16,
    /// Who may use the kubelet's API.
    pub authorizer: Arc<dyn Authorizer>,
    /// Speaks the streaming protocols of exec, attach and port-forward.
    pub streams: Option<Arc<dyn StreamServer>>,
}

/// Why a kubelet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot be made.
    #[error("cannot create {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken, say.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A kubelet that has what it needs and can be run.
pub struct Kubelet {
    config: Config,
    machine: Machine,
    shared: Arc<Shared>,
    wakers: Wakers,
    events: client::EventWriter,
    pods: Informer,
    services: Informer,
    listener: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
    ready: watch::Sender<bool>,
    server: KubeletServer,
}

impl Kubelet {
    /// Runs a kubelet until `token` is cancelled. Running containers stay as they are then.
    pub async fn run(config: Config, token: CancellationToken) -> Result<(), StartError> {
        Self::new(config).await?.start(token).await;
        Ok(())
    }

    /// Makes directories, binds the port; nothing runs yet.
    pub async fn new(config: Config) -> Result<Self, StartError> {
        Self::with_mounter(config, Arc::new(KernelMounter), Clock::system()).await
    }

    pub(crate) async fn with_mounter(
        mut config: Config,
        mounter: Arc<dyn Mounter>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        make_dirs(&config)?;
        // Mounts are found again by their real paths.
        config.root_dir = config.root_dir.canonicalize().unwrap_or(config.root_dir);
        let listener = match &config.listen {
            Some((address, tls)) => {
                let bound = TcpListener::bind(address).await;
                let bound = bound.map_err(|source| StartError::Listen { address: *address, source })?;
                Some((bound, tls.clone()))
            }
            None => None,
        };
        let machine = Machine::read();
        let node = facts(&config, &machine);
        let (events, writer) = client::Recorder::new(config.client.clone(), "kubelet", &config.node_name);
        let objects = Objects::new(config.client.clone());
        let services = Informer::new(
            config.client.clone(),
            Resource::collection(&Gvr::new("", "v1", "services"), None),
            ListOptions::default(),
        );
        let fields = FieldSelector { terms: vec![("spec.nodeName".into(), true, config.node_name.clone())] };
        let pods = Informer::new(
            config.client.clone(),
            Resource::collection(&Gvr::new("", "v1", "pods"), None),
            ListOptions { fields, ..ListOptions::default() },
        );
        let version = config.runtime.version(VersionRequest::default()).await.unwrap_or_default();
        let runtime_name = if version.runtime_name.is_empty() { "navarch".into() } else { version.runtime_name };
        let client = config.client.clone();
        let shared = Arc::new(Shared {
            volumes: Volumes::new(&config.root_dir, mounter, objects.clone(), client.clone(), node.clone()),
            image_volumes: Default::default(),
            puller: Puller::new(config.images.clone(), objects.clone(), events.clone(), clock.clone()),
            client,
            runtime: config.runtime.clone(),
            runtime_name,
            node,
            cpu: CpuMeter::new(),
            objects,
            services: services.lister(),
            services_synced: services.synced(),
            events,
            crashes: crash_backoffs(),
            clock,
            seccomp_root: config.seccomp_dir.clone(),
            registry: Registry::default(),
            links_dir: config.links_dir.clone(),
        });
        let about =
            About { node_name: config.node_name.clone(), config: configz(&config), root_dir: config.root_dir.clone() };
        let server = KubeletServer::new(shared.clone(), config.authorizer.clone(), config.streams.clone(), about);
        Ok(Self {
            config,
            machine,
            shared,
            wakers: Wakers::default(),
            events: writer,
            pods,
            services,
            listener,
            ready: watch::channel(false).0,
            server,
        })
    }

    /// The kubelet's API, for callers in the same process.
    pub fn server(&self) -> KubeletServer {
        self.server.clone()
    }

    /// Becomes true when the node has been reported Ready.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The address that the API listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Runs until `token` is cancelled.
    pub async fn start(mut self, token: CancellationToken) {
        let mut tasks = base::Tasks::new(&token);
        let token = tasks.token().clone();
        let changes = self.pods.subscribe();
        let pods_synced = self.pods.synced();
        tasks.spawn("events", self.events.run(token.clone()));
        tasks.spawn("services", self.services.run(token.clone()));
        tasks.spawn("pods", self.pods.run(token.clone()));
        let manager = Manager::new(self.shared.clone(), self.wakers.clone(), token.clone());
        tasks.spawn("pod workers", manager.run(changes));
        let pleg = Pleg {
            runtime: self.config.runtime.clone(),
            wakers: self.wakers.clone(),
            pods_synced: pods_synced.clone(),
        };
        tasks.spawn("runtime events", pleg.run(token.clone()));
        let housekeeping = Housekeeping {
            shared: self.shared.clone(),
            images: self.config.images.clone(),
            image_dir: self.config.image_dir.clone(),
            wakers: self.wakers.clone(),
            pods_synced,
        };
        tasks.spawn("housekeeping", housekeeping.run(token.clone()));
        let keeper = Keeper {
            client: self.config.client.clone(),
            runtime: self.config.runtime.clone(),
            images: self.config.images.clone(),
            events: self.shared.events.clone(),
            name: self.config.node_name.clone(),
            ip: self.config.node_ip.clone(),
            labels: self.config.labels.clone(),
            taints: self.config.taints.clone(),
            machine: self.machine,
            root_dir: self.config.root_dir.clone(),
            image_dir: self.config.image_dir.clone(),
            max_pods: self.config.max_pods,
            port: self.config.port,
            pod_cidr: self.config.pod_cidr.clone(),
            ready: self.ready,
        };
        tasks.spawn("node", keeper.run(token.clone()));
        if let Some((listener, tls)) = self.listener {
            tasks.spawn("kubelet API", listen(listener, tls, self.server, token.clone()));
        }
        token.cancelled().await;
        tasks.shutdown().await;
    }
}

fn make_dirs(config: &Config) -> Result<(), StartError> {
    let pods = config.root_dir.join("pods");
    for path in [&pods, &config.log_dir, &config.links_dir] {
        let failed = |source| StartError::Directory { path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
    }
    Ok(())
}

fn facts(config: &Config, machine: &Machine) -> NodeFacts {
    NodeFacts {
        node_ip: config.node_ip.clone(),
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: config.resolv_conf.clone(),
        cgroup_root: config.cgroup_root.clone(),
        log_dir: config.log_dir.clone(),
        cpus: machine.cpus,
        memory_bytes: machine.memory_bytes,
        ephemeral_bytes: disk(&config.root_dir).bytes,
    }
}

fn configz(config: &Config) -> Value {
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "maxPods": config.max_pods,
        "resolvConf": config.resolv_conf,
        "port": config.port,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "imageGCHighThresholdPercent": 85,
        "imageGCLowThresholdPercent": 80,
    }})
}
