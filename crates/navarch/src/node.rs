//! The node agent: runtime, images, network, kubelet, service proxy, DNS, plugged into each other.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use base::Tasks;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use protos::cri::v1::{ImageSpec, ImageStatusRequest};
use protos::cri::{Error, ImageService as _, Result};

use crate::local::HostNetwork;

/// How the node is set up.
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    /// `registries.yaml`: mirrors and credentials.
    pub(crate) registries: PathBuf,
    pub(crate) node_name: String,
    pub(crate) node_ip: Ipv4Addr,
    pub(crate) cluster_cidr: String,
    pub(crate) service_cidr: String,
    pub(crate) cluster_dns: Ipv4Addr,
    pub(crate) cluster_domain: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// As API objects, for a new node.
    pub(crate) taints: Vec<serde_json::Value>,
    pub(crate) has_proxy: bool,
    pub(crate) has_dns: bool,
    /// The network that leads to registries, name servers and the Internet, if this process's own does not.
    pub(crate) outside: Option<HostNetwork>,
}

/// The way from the API server to this node's kubelet: in process.
pub(crate) struct LocalNode {
    name: String,
    kubelet: OnceLock<kubelet::KubeletServer>,
}

impl LocalNode {
    /// The node of this name, whose kubelet is yet to start.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), kubelet: OnceLock::new() }
    }
}

#[async_trait]
impl apiserver::NodeProxy for LocalNode {
    fn is(&self, node: &str) -> bool {
        node == self.name
    }

    async fn send(&self, request: Request<apiserver::Body>) -> Response<apiserver::Body> {
        match self.kubelet.get() {
            Some(kubelet) => kubelet.handle(&kubelet::server::Peer::trusted(), request).await,
            None => {
                let text = format!("the kubelet of node {:?} is not running", self.name);
                let mut response = Response::new(Full::from(text).boxed_unsync());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
        }
    }
}

/// Root file systems out of the image store.
struct Roots(images::Images);

fn as_cri(error: &images::Error) -> Error {
    let text = base::Chain(error).to_string();
    if error.is_not_found() { Error::not_found(text) } else { Error::unknown(text) }
}

#[async_trait]
impl runtime::Rootfs for Roots {
    async fn prepare(&self, container_id: &str, image: &str) -> Result<runtime::Prepared> {
        let prepared = self.0.prepare(container_id, image).await.map_err(|e| as_cri(&e))?;
        let config = prepared.config;
        let spec = ImageSpec { image: prepared.image_id.clone(), ..ImageSpec::default() };
        let named = self.0.image_status(ImageStatusRequest { image: Some(spec), verbose: false }).await;
        // A container's image may have lost all its names since.
        let named = named.ok().and_then(|reply| reply.image).unwrap_or_default();
        Ok(runtime::Prepared {
            path: prepared.rootfs,
            image_id: prepared.image_id,
            tags: named.repo_tags,
            digests: named.repo_digests,
            config: runtime::ImageConfig {
                env: config.env,
                entrypoint: config.entrypoint,
                cmd: config.cmd,
                user: config.user,
                working_dir: config.working_dir,
                stop_signal: config.stop_signal,
            },
        })
    }

    async fn mount_image(&self, container_id: &str, image: &str, sub: &str) -> Result<PathBuf> {
        self.0.mount_image(container_id, image, sub).await.map_err(|e| as_cri(&e))
    }

    async fn remove(&self, container_id: &str) -> Result<()> {
        self.0.remove(container_id).await.map_err(|e| as_cri(&e))
    }
}

/// The built-in pod network.
struct Pods(cni::Bridge);

#[async_trait]
impl runtime::Network for Pods {
    async fn attach(&self, sandbox_id: &str, netns: &Path) -> Result<Vec<IpAddr>> {
        let attached = self.0.attach(sandbox_id, netns).await;
        attached
            .map(|ip| vec![ip.into()])
            .map_err(|e| Error::unknown(format!("cannot connect the sandbox: {}", base::Chain(&e))))
    }

    async fn detach(&self, sandbox_id: &str) -> Result<()> {
        self.0.detach(sandbox_id).await.map_err(|e| Error::unknown(base::Chain(&e).to_string()))
    }

    async fn retain(&self, alive: &HashSet<String>) -> Result<()> {
        self.0.retain(alive).await.map_err(|e| Error::unknown(base::Chain(&e).to_string()))
    }
}

/// exec, attach and port-forward.
#[derive(Default)]
struct Streams(streaming::Streams);

#[async_trait]
impl kubelet::server::StreamServer for Streams {
    async fn serve_session(
        &self,
        request: Request<kubelet::server::Body>,
        options: kubelet::server::StreamOptions,
        open: kubelet::server::OpenSession,
    ) -> Response<kubelet::server::Body> {
        let kubelet::server::StreamOptions { stdin, stdout, stderr, tty } = options;
        self.0.session(request, streaming::Options { stdin, stdout, stderr, tty }, async move { open().await })
    }

    async fn serve_port_forward(
        &self,
        request: Request<kubelet::server::Body>,
        sandbox: &str,
        open: kubelet::server::OpenPort,
    ) -> Response<kubelet::server::Body> {
        self.0.port_forward(request, sandbox, open)
    }
}

/// The bridge's name.
pub(crate) const BRIDGE: &str = "navarch0";
const MTU: u32 = 1500;
/// Pods of the one node there is: the first /24 of the cluster's network.
const POD_PREFIX: u8 = 24;
pub(crate) const KUBELET_PORT: u16 = 10_250;
const MAX_PODS: i64 = 110;

/// Starts everything of a node; it ends with `tasks`.
pub(crate) async fn start(
    config: Config,
    server: &apiserver::Server,
    pki: &pki::Pki,
    local: &LocalNode,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let token = tasks.token().clone();
    let cluster: cni::Cidr = config.cluster_cidr.parse()?;
    let pod_cidr = cni::Cidr { network: cluster.network, prefix: POD_PREFIX.max(cluster.prefix) };
    let bridge = cni::Bridge::open(cni::Config {
        bridge: BRIDGE.into(),
        pod_cidr,
        service_cidr: config.service_cidr.parse()?,
        addresses: vec![config.cluster_dns],
        mtu: MTU,
        state_dir: config.data_dir.join("agent/network"),
    });
    let bridge = bridge.await.context("cannot set up the pod network")?;
    let store =
        images::Store::open(config.data_dir.join("agent/images-store")).context("cannot open the image store")?;
    let drop_in = config.data_dir.join("agent/images");
    let importing = store.clone();
    let imported = tokio::task::spawn_blocking(move || importing.import_dir(&drop_in)).await?;
    for file in imported.context("cannot import images")? {
        tracing::info!(?file, "an image archive was looked at");
    }
    let registries = images::Registries::load(&config.registries).context("cannot use the registries file")?;
    let dial = config.outside.clone().map(|o| Arc::new(o) as Arc<dyn images::Dial>);
    let images = images::Images::new(images::Registry::dialing(store, registries, dial));
    let options = runtime::Options {
        state_dir: config.run_dir.join("sandboxes"),
        program: std::env::current_exe().context("cannot find this program")?,
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let runtime =
        runtime::EmbeddedRuntime::open(options, Arc::new(Roots(images.clone())), Arc::new(Pods(bridge))).await?;

    let node_client = |manager| server.client(apiserver::User::node(&config.node_name), manager);
    let proxy = proxy::Config {
        node_name: config.node_name.clone(),
        cluster_cidr: config.cluster_cidr.clone(),
        service_cidr: config.service_cidr.clone(),
    };
    let proxy_client = server.client(apiserver::User::new("system:kube-proxy", &[]), "kube-proxy");
    if config.has_proxy {
        let (of_node, stop) = (node_client("kube-proxy"), token.clone());
        tasks.spawn("service proxy", async move {
            report("service proxy", proxy::run(proxy_client, of_node, proxy, stop).await);
        });
    }
    let dns = dns::Config {
        listen: SocketAddr::new(config.cluster_dns.into(), 53),
        domain: config.cluster_domain.clone(),
        resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        sockets: config.outside.clone().map(|o| Arc::new(o) as Arc<dyn dns::Sockets>),
    };
    // What the service proxy may read is what names are made of; a node itself may not read all that.
    let dns_client = server.client(apiserver::User::new("system:kube-proxy", &[]), "dns");
    let stop = token.clone();
    if config.has_dns {
        tasks.spawn("dns", async move { report("dns", dns::run(dns_client, dns, stop).await) });
    }

    if let Some(HostNetwork(outside)) = config.outside {
        let inside = vec![config.cluster_cidr.clone(), config.service_cidr.clone()];
        let egress = cluster::egress::Config { link: BRIDGE.into(), inside, listen: pod_cidr.gateway() };
        let stop = token.clone();
        tasks.spawn("egress", async move { report("egress", cluster::egress::run(outside, egress, stop).await) });
    }

    let names = [config.node_name.clone(), config.node_ip.to_string()];
    let serving = pki.server("kubelet", &format!("system:node:{}", config.node_name), &names)?;
    let tls = pki::server_config(&serving, pki.client_ca.certificate_pem())?;
    let root_dir = config.data_dir.join("agent/kubelet");
    let marking = mark(server.client(apiserver::User::superuser(), "navarch"), config.node_name.clone(), config.labels);
    let stop = token.clone();
    tasks.spawn("node role", async move { stop.run_until_cancelled(marking).await.unwrap_or_default() });
    let kubelet = kubelet::Kubelet::new(kubelet::Config {
        node_name: config.node_name.clone(),
        client: node_client("kubelet"),
        runtime: Arc::new(runtime),
        images: Arc::new(images),
        seccomp_dir: root_dir.join("seccomp"),
        root_dir,
        log_dir: config.data_dir.join("agent/logs/pods"),
        links_dir: config.data_dir.join("agent/logs/containers"),
        image_dir: config.data_dir.join("agent/images-store"),
        node_ip: config.node_ip.to_string(),
        cluster_dns: vec![config.cluster_dns.to_string()],
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: "/etc/resolv.conf".into(),
        max_pods: MAX_PODS,
        labels: BTreeMap::new(),
        taints: config.taints.clone(),
        cgroup_root: format!("/navarch-{}", config.node_name),
        pod_cidr: Some(pod_cidr.to_string()),
        listen: Some((SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), KUBELET_PORT), Arc::new(tls))),
        port: KUBELET_PORT,
        authorizer: Arc::new(kubelet::server::ApiServerOnly::default()),
        streams: Some(Arc::new(Streams::default())),
    });
    let kubelet = kubelet.await?;
    // A second start of the same process would be a fault of ours; the first kubelet stays.
    let _ = local.kubelet.set(kubelet.server());
    tasks.spawn("kubelet", kubelet.start(token));
    Ok(())
}

/// Gives the node its labels once it is there: it may not say of itself that it is one of the control plane.
async fn mark(client: client::Client, node: String, labels: BTreeMap<String, String>) {
    let at = client::Resource::object(&object::Gvr::new("", "v1", "nodes"), None, &node);
    let labels = serde_json::json!({"metadata": {"labels": labels}});
    let mut backoff = base::Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    while let Err(error) = client.patch(&at, &client::Patch::Merge(labels.clone())).await {
        tracing::debug!(node, %error, "the node is not there yet");
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// A part that could not begin says so; the others go on.
fn report<E: std::error::Error>(part: &str, outcome: std::result::Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!(part, error = %base::Chain(&error), "a part of the node ended");
    }
}
