//! The server: TLS listener, connections, orderly shutdown.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::Tasks;
use client::Client;
use object::Status;
use store::Backend;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::addresses::{self, Addresses};
use crate::aggregation::Aggregation;
use crate::api::Api;
use crate::connection;
use crate::conversion::Conversions;
use crate::definitions::Definitions;
use crate::discovery::Documents;
use crate::egress::Egress;
use crate::encryption::Encryption;
use crate::flow::Flow;
use crate::http::{Debug, Service};
use crate::inprocess::InProcess;
use crate::metrics;
use crate::node_proxy::NodeProxy;
use crate::registry::Registry;
use crate::security::{Security, SecurityError};
use crate::servers;
use crate::user::User;
use crate::{bootstrap, expiry};

/// What the server needs to know.
pub struct Config {
    /// Where objects live.
    pub store: Arc<dyn Backend>,
    /// The cluster's key material.
    pub pki: Arc<pki::Pki>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The address that others reach this server at.
    pub advertise: Ipv4Addr,
    /// Names and addresses of the serving certificate, besides the standard ones.
    pub names: Vec<String>,
    /// `10.43.0.0/16`.
    pub service_cidr: String,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The way to the kubelets.
    pub nodes: Option<Arc<dyn NodeProxy>>,
    /// Where the store's values are encrypted: the same that the store was opened with.
    pub encryption: Option<Arc<Encryption>>,
    /// Whom to believe besides certificates and service accounts, and what to write down.
    pub security: Security,
    /// What it tells of itself.
    pub debug: Debug,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or may not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Certificates.
    #[error("cannot set up certificates")]
    Pki(#[from] pki::PkiError),
    /// The service network is no network.
    #[error("not an IPv4 network for services: {0:?}")]
    ServiceCidr(String),
    /// A file or flag of authentication or audit.
    #[error("cannot use the security settings")]
    Security(#[from] SecurityError),
    /// The first objects could not be written.
    #[error("cannot write the cluster's first objects")]
    Bootstrap(#[source] Status),
}

/// A running server.
pub struct Server {
    pub(crate) api: Arc<Api>,
    address: SocketAddr,
}

/// How long a connection may take to finish its requests at shutdown.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Binds, writes what every cluster begins with, and serves in a task of `tasks` until its token is cancelled.
    pub async fn start(config: Config, tasks: &mut Tasks) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { address: config.listen, source };
        crate::http::begin();
        metrics::begin();
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let addresses = Addresses::new(&config.service_cidr).ok_or(StartError::ServiceCidr(config.service_cidr))?;
        let mut names: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"]
                .map(Into::into)
                .to_vec();
        names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
        names.push(addresses.first().to_string());
        names.push(config.advertise.to_string());
        names.extend(config.names);
        names.sort();
        names.dedup();
        let serving = config.pki.server("apiserver", "kube-apiserver", &names)?;
        let pki = &config.pki;
        let trusted = format!("{}\n{}", pki.client_ca.certificate_pem(), pki.front_proxy_ca.certificate_pem());
        let tls = pki::server_config(&serving, &trusted)?;
        let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
        let store: Arc<dyn Backend> = Arc::new(metrics::Measured::new(config.store));
        let api = Arc::new(Api {
            conversions: Arc::new(Conversions::new(store.clone())),
            store,
            pki: config.pki,
            rbac: ArcSwap::from_pointee(rbac::Index::default()),
            hooks: Default::default(),
            policies: Default::default(),
            addresses,
            admission: config.security.admission()?,
            registry: Registry::default(),
            documents: Documents::default(),
            authn: config.security.authenticators(&issuer)?,
            authorizers: config.security.authorizers()?,
            egress: Egress::default(),
            aggregation: Aggregation::default(),
            audit: config.security.audit(tasks)?,
            flow: Flow::of(config.security.limits.in_flight),
            limits: config.security.limits,
            issuer,
            advertise: config.advertise,
            port: address.port(),
            stop: tasks.token().clone(),
        });
        let pair = api.pki.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")?;
        let kubelet_tls = Arc::new(pki::credulous_client_config(Some(&pair))?);
        start_objects(&api).await.map_err(StartError::Bootstrap)?;
        let service = Arc::new(Service {
            api: api.clone(),
            nodes: config.nodes,
            kubelet_tls,
            sockets: streaming::Streams::default(),
            debug: config.debug,
        });
        let token = tasks.token().clone();
        let definitions = Definitions::load(api.clone()).map_err(StartError::Bootstrap)?;
        tasks.spawn("custom resources", definitions.follow(token.clone()));
        tasks.spawn("admission webhooks", api.clone().follow_hooks(token.clone()));
        tasks.spawn("admission policies", api.clone().follow_policies(token.clone()));
        api.reload_flows();
        tasks.spawn("priority and fairness", api.clone().follow_flows(token.clone()));
        tasks.spawn("apiservices", api.clone().follow_apiservices(token.clone()));
        if let Some(encryption) = config.encryption {
            tasks.spawn("encryption", encryption.follow(api.store.clone(), token.clone()));
        }
        tasks.spawn("issuers of tokens", api.clone().follow_issuers(token.clone()));
        tasks.spawn("authorizers", api.clone().follow_authorizers(token.clone()));
        tasks.spawn("rbac policy", api.clone().follow_policy(token.clone()));
        tasks.spawn("first namespaces", bootstrap::keep_namespaces(api.clone(), token.clone()));
        if servers::is_shared(&api) {
            tasks.spawn("servers", servers::keep(api.clone(), token.clone()));
        }
        tasks.spawn("addresses of services", addresses::keep(api.clone(), token.clone()));
        tasks.spawn("expiry of events", expiry::run(api.clone(), token.clone()));
        tasks.spawn("api server", accept(listener, TlsAcceptor::from(Arc::new(tls)), service, token));
        Ok(Self { api, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this server, in process, as `user`; its writes are recorded under `manager`.
    pub fn client(&self, user: User, manager: &str) -> Client {
        Client::new(Arc::new(InProcess::new(self.api.clone(), user)), manager)
    }
}

/// What every cluster begins with. Other servers may do the same at the same time.
async fn start_objects(api: &Api) -> Result<(), Status> {
    for _ in 0..5 {
        match bootstrap::run(api).await {
            Err(status) if status.is_conflict() => {}
            Err(status) => return Err(status),
            Ok(()) => return servers::begin(api).await,
        }
    }
    bootstrap::run(api).await?;
    servers::begin(api).await
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, service: Arc<Service>, token: CancellationToken) {
    let mut connections = JoinSet::new();
    let requests = TaskTracker::new();
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let serving = connection::serve(stream, peer, tls.clone(), service.clone(), requests.clone(), token.clone());
                    connections.spawn(async move {
                        if let Err(error) = serving.await {
                            tracing::debug!(%peer, %error, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: a pause is the cure.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    requests.close();
    let rest = async {
        while connections.join_next().await.is_some() {}
        requests.wait().await;
    };
    if tokio::time::timeout(PATIENCE, rest).await.is_err() {
        tracing::debug!("connections are cut");
    }
}
