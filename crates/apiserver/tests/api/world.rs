//! A server of its own for each test.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Config, Debug, Encryption, Security, Server, User};
use base::Tasks;
use client::{Client, Resource};
use object::{Gvr, Object};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A running server, and the directory that it lives in.
pub struct World {
    pub server: Server,
    pub pki: Arc<pki::Pki>,
    /// As the superuser.
    pub client: Client,
    pub store: Arc<dyn store::Backend>,
    tasks: Tasks,
    _dir: Option<tempfile::TempDir>,
}

fn fields(object: &Object) -> object::Texts {
    let gvk = object::Gvk::from_api_version(&object.head.api_version, &object.head.kind);
    let value = object.value().unwrap_or_default();
    kinds::table().by_gvk(&gvk).map(|kind| kinds::fields(kind, &value)).unwrap_or_default()
}

impl World {
    /// A fresh cluster's server.
    pub async fn new() -> Self {
        Self::with(Security::default()).await
    }

    /// A fresh cluster's server with these security settings.
    pub async fn with(security: Security) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self::at(dir.path(), security, None).await;
        Self { _dir: Some(dir), ..world }
    }

    /// The server of the cluster that lives in `dir`.
    pub async fn at(dir: &Path, security: Security, encryption: Option<Arc<Encryption>>) -> Self {
        let pki = Arc::new(pki::Pki::load_or_create(&dir.join("pki")).unwrap());
        let transform = encryption.clone().map(|e| e as Arc<dyn store::Transform>);
        let options = store::Options { fields, transform };
        // A server that was stopped a moment ago may still be about to let go.
        let store = loop {
            match store::Embedded::open(&dir.join("state"), options.clone()) {
                Err(store::StoreError::Locked) => tokio::time::sleep(Duration::from_millis(10)).await,
                opened => break opened.unwrap(),
            }
        };
        let store: Arc<dyn store::Backend> = Arc::new(store);
        let mut tasks = Tasks::new(&CancellationToken::new());
        let config = Config {
            store: store.clone(),
            pki: pki.clone(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            advertise: Ipv4Addr::LOCALHOST,
            names: Vec::new(),
            service_cidr: "10.43.0.0/16".into(),
            cluster_domain: "cluster.local".into(),
            nodes: None,
            encryption,
            security,
            debug: Debug {
                flags: [("service-cidr".to_owned(), "10.43.0.0/16".to_owned())].into(),
                verbosity: Some(Arc::new(|_| Ok(()))),
            },
        };
        let server = Server::start(config, &mut tasks).await.unwrap();
        let client = server.client(User::superuser(), "test");
        Self { server, pki, client, store, tasks, _dir: None }
    }

    /// In-process requests of `user`.
    pub fn as_user(&self, user: User) -> Client {
        self.server.client(user, "test")
    }

    /// Creates an object in its collection of the namespace `default`, or in none.
    pub async fn create(&self, object: Value) -> client::Result<Value> {
        let gvk =
            object::Gvk::from_api_version(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let kind = kinds::table().by_gvk(&gvk).unwrap();
        let namespace = object["metadata"]["namespace"].as_str().or(kind.namespaced().then_some("default"));
        let created = self.client.create(&Resource::collection(&kind.gvr(), namespace), &object).await?;
        Ok(created.value().unwrap())
    }

    /// An object as it is stored.
    pub async fn get(&self, at: &Resource) -> client::Result<Value> {
        Ok(self.client.get(at).await?.value().unwrap())
    }

    /// Stops the server and everything that it runs.
    pub async fn stop(self) {
        self.tasks.shutdown().await;
    }
}

pub fn config_maps() -> Gvr {
    Gvr::new("", "v1", "configmaps")
}

pub fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

/// A ConfigMap in `default`.
pub fn config_map(name: &str) -> Resource {
    Resource::object(&config_maps(), Some("default"), name)
}

/// A ConfigMap's tree.
pub fn map_of(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": value}}, "data": {"key": value}})
}

/// The account that pods of `default` run as; the controllers make it in a whole cluster.
pub async fn default_account(world: &World) {
    world.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await.unwrap();
}

/// A pod's tree; without `node` it waits for the scheduler.
pub fn pod_of(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}
