//! A whole kubelet over an API server and a runtime in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use client::testing::FakeServer;
use client::{DeleteOptions, Resource};
use object::Gvr;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SECOND};
use crate::server::{ApiServerOnly, KubeletServer, Peer};
use crate::testing::{Behaviour, FakeRuntime};
use crate::volumes::mounter::FakeMounter;
use crate::{Config, Kubelet};

mod api;
mod lifecycle;
mod objects;

/// A node under test.
pub(crate) struct Node {
    pub(crate) api: FakeServer,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: KubeletServer,
    /// Added to the wall clock, in nanoseconds.
    skew: Arc<AtomicI64>,
    tasks: JoinSet<()>,
    token: CancellationToken,
}

pub(crate) fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

impl Node {
    pub(crate) async fn start() -> Self {
        let skew = Arc::new(AtomicI64::new(0));
        let clock = clock(&skew);
        let runtime = FakeRuntime::new(clock);
        let dir = tempfile::tempdir().unwrap();
        let api = FakeServer::new();
        api.seed(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}}),
        );
        Self::over(api, runtime, dir, skew).await
    }

    async fn over(api: FakeServer, runtime: Arc<FakeRuntime>, dir: tempfile::TempDir, skew: Arc<AtomicI64>) -> Self {
        let config = config(&api, &runtime, dir.path());
        let kubelet = Kubelet::with_mounter(config, Arc::new(FakeMounter::default()), clock(&skew)).await.unwrap();
        let server = kubelet.server();
        let token = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet.start(token.clone()));
        Self { api, runtime, dir, server, skew, tasks, token }
    }

    /// Stops the kubelet and starts another on what it left.
    pub(crate) async fn restart(mut self) -> Self {
        self.token.cancel();
        while self.tasks.join_next().await.is_some() {}
        Self::over(self.api, self.runtime, self.dir, self.skew).await
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.skew.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    pub(crate) fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let meta = json!({"name": name, "namespace": "ns", "labels": {"app": name}});
        let status = json!({"phase": "Pending"});
        self.api.seed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}));
    }

    pub(crate) fn pod(&self, name: &str) -> Value {
        self.api.value(&pods(), "ns", name)
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        self.pod(name)["status"].clone()
    }

    /// Waits for a condition on a pod's status.
    pub(crate) async fn until(&self, name: &str, done: impl Fn(&Value) -> bool) {
        let wait = self.api.until(|| done(&self.status(name)));
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{name}: {:#}\n{:?}", self.status(name), self.runtime.calls());
    }

    pub(crate) async fn until_running(&self, name: &str) {
        self.until(name, |s| s["phase"] == "Running" && condition(s, "Ready") == "True").await;
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        self.api.until(|| self.api.get(&pods(), "ns", name).is_none()).await;
    }

    pub(crate) async fn delete(&self, name: &str, grace: Option<i64>) {
        let options = DeleteOptions { grace_period_seconds: grace, ..DeleteOptions::default() };
        let at = Resource::object(&pods(), Some("ns"), name);
        self.api.client("user").delete(&at, &options).await.unwrap();
    }

    /// `reason: message` of the events about an object of this name.
    pub(crate) fn events(&self, about: &str) -> Vec<String> {
        let all = self.api.list(&Gvr::new("", "v1", "events"));
        let values = all.iter().map(|e| e.value().unwrap());
        let text = |e: Value| format!("{}: {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap());
        values.filter(|e| e["involvedObject"]["name"] == about).map(text).collect()
    }

    pub(crate) async fn until_event(&self, about: &str, wanted: &str) {
        let wait = self.api.until(|| self.events(about).iter().any(|e| e.starts_with(wanted)));
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "no event {wanted}: {:#?}", self.events(about));
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        use http_body_util::{BodyExt, Empty};
        let body = Empty::new().boxed_unsync();
        let request = http::Request::builder().uri(path).body(body).unwrap();
        let response = self.server.handle(&Peer::trusted(), request).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

fn clock(skew: &Arc<AtomicI64>) -> Clock {
    let (skew, system) = (skew.clone(), Clock::system());
    Clock::new(move || system.nanos() + skew.load(Ordering::SeqCst))
}

fn config(api: &FakeServer, runtime: &Arc<FakeRuntime>, dir: &std::path::Path) -> Config {
    Config {
        node_name: "n1".into(),
        client: api.client("system:node:n1"),
        runtime: runtime.clone(),
        images: runtime.clone(),
        root_dir: dir.join("kubelet"),
        log_dir: dir.join("log/pods"),
        links_dir: dir.join("log/containers"),
        image_dir: dir.to_owned(),
        node_ip: "10.0.0.1".into(),
        cluster_dns: vec!["10.43.0.10".into()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: dir.join("resolv.conf"),
        max_pods: 110,
        labels: Default::default(),
        taints: Vec::new(),
        cgroup_root: String::new(),
        pod_cidr: None,
        seccomp_dir: dir.join("seccomp"),
        listen: None,
        port: 10250,
        authorizer: Arc::new(ApiServerOnly::default()),
        streams: None,
    }
}

pub(crate) fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default().to_owned()
}

pub(crate) fn one(container: Value) -> Value {
    let mut container = container;
    let defaults = json!({"name": "c", "image": "img:1"});
    for (key, value) in defaults.as_object().unwrap() {
        if container.get(key).is_none() {
            container[key] = value.clone();
        }
    }
    json!({"containers": [container]})
}

pub(crate) fn ends_with(code: i32) -> Behaviour {
    Behaviour { ends_with: Some(code), ..Behaviour::default() }
}
