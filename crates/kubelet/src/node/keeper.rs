//! Keeps the node's object, status and lease alive.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::lease::Heartbeat;
use client::{Client, Patch, Resource};
use object::Gvr;
use protos::cri::v1::{ListImagesRequest, StatusRequest, UpdateRuntimeConfigRequest, VersionRequest};
use protos::cri::{ImageService, RuntimeService};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::facts::{Load, Machine, disk};
use super::status::{self, Condition, ImageNames, Inputs};
use crate::events::{About, Events};

const STATUS_EVERY: Duration = Duration::from_secs(10);
/// An unchanged status is written this often all the same.
const REPORT_EVERY: Duration = Duration::from_secs(300);
/// How long the lease holds; it is renewed four times in it.
const LEASE: Duration = Duration::from_secs(40);
/// While the node is not ready, it looks again soon.
const HURRY: Duration = Duration::from_millis(100);

/// What the keeper needs.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) events: Events,
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Value>,
    pub(crate) machine: Machine,
    pub(crate) root_dir: PathBuf,
    pub(crate) image_dir: PathBuf,
    pub(crate) max_pods: i64,
    pub(crate) port: u16,
    pub(crate) pod_cidr: Option<String>,
    pub(crate) ready: watch::Sender<bool>,
}

struct Written {
    status: Map<String, Value>,
    conditions: Vec<Condition>,
    since: BTreeMap<&'static str, String>,
    at: Instant,
}

impl Keeper {
    /// Registers the node, then keeps its status and lease until cancelled.
    pub(crate) async fn run(self, token: CancellationToken) {
        let keep = async {
            let node_uid = Some(self.register().await);
            let lease = Heartbeat { client: self.client.clone(), node: self.name.clone(), node_uid, duration: LEASE };
            futures::future::join(self.keep_status(), lease.run(token.clone())).await;
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = keep => {}
        }
    }

    fn at(&self) -> Resource {
        Resource::object(&Gvr::new("", "v1", "nodes"), None, &self.name)
    }

    /// Creates the node, or brings the labels of an existing one up to date.
    async fn register(&self) -> String {
        let node = status::node(&self.name, &self.labels, &self.taints, &self.machine);
        let mut backoff = base::Backoff::new(Duration::from_millis(50), Duration::from_secs(7));
        loop {
            let collection = Resource::collection(&Gvr::new("", "v1", "nodes"), None);
            let registered = match self.client.create(&collection, &node).await {
                Err(error) if error.is_already_exists() => {
                    let patch = json!({"metadata": {"labels": node["metadata"]["labels"]}});
                    self.client.patch(&self.at(), &Patch::Strategic(patch)).await
                }
                created => created,
            };
            match registered {
                Ok(node) => {
                    self.events.normal(About::node(&self.name), "Starting", "Starting kubelet.");
                    return node.head.uid.clone();
                }
                Err(error) => tracing::warn!(node = self.name, %error, "the node cannot be registered yet"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn keep_status(&self) {
        let mut written: Option<Written> = None;
        let mut pod_cidr = self.pod_cidr.clone();
        self.tell_pod_cidr(pod_cidr.as_deref()).await;
        loop {
            let inputs = self.inputs().await;
            let is_ready = inputs.not_ready.is_empty();
            if let Err(error) = self.write_status(&inputs, &mut written).await {
                tracing::warn!(node = self.name, %error, "the node's status could not be written");
            }
            self.ready.send_if_modified(|now| std::mem::replace(now, is_ready) != is_ready);
            if self.pod_cidr.is_none() {
                self.follow_pod_cidr(&mut pod_cidr).await;
            }
            let is_settled = is_ready && written.is_some();
            tokio::time::sleep(if is_settled { STATUS_EVERY } else { HURRY }).await;
        }
    }

    /// The controllers give the node its range of pod addresses; the runtime's network needs it.
    async fn follow_pod_cidr(&self, known: &mut Option<String>) {
        let Ok(node) = self.client.get(&self.at()).await else { return };
        let tree = node.value().unwrap_or_default();
        let found = tree["spec"]["podCIDR"].as_str().map(str::to_owned);
        if found.is_some() && found != *known {
            self.tell_pod_cidr(found.as_deref()).await;
            *known = found;
        }
    }

    async fn tell_pod_cidr(&self, pod_cidr: Option<&str>) {
        let Some(pod_cidr) = pod_cidr else { return };
        let network = protos::cri::v1::NetworkConfig { pod_cidr: pod_cidr.to_owned() };
        let config = protos::cri::v1::RuntimeConfig { network_config: Some(network) };
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(config) };
        if let Err(error) = self.runtime.update_runtime_config(request).await {
            tracing::warn!(%error, pod_cidr, "the runtime did not take the pod CIDR");
        }
    }

    async fn inputs(&self) -> Inputs {
        let version = self.runtime.version(VersionRequest::default()).await.unwrap_or_default();
        let images = self.images.list_images(ListImagesRequest::default()).await.unwrap_or_default();
        let images = images.images.into_iter().map(|image| ImageNames {
            names: image.repo_digests.into_iter().chain(image.repo_tags).collect(),
            size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
        });
        let here = disk(&self.root_dir);
        Inputs {
            name: self.name.clone(),
            ip: self.ip.clone(),
            machine: self.machine.clone(),
            load: Load::read(),
            node_disk: here,
            image_disk: disk(&self.image_dir),
            max_pods: self.max_pods,
            port: self.port,
            runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
            not_ready: self.not_ready().await,
            images: images.collect(),
        }
    }

    async fn not_ready(&self) -> Vec<String> {
        let reply = match self.runtime.status(StatusRequest { verbose: false }).await {
            Ok(reply) => reply,
            Err(error) => return vec![format!("container runtime is down: {error}")],
        };
        let conditions = reply.status.map(|s| s.conditions).unwrap_or_default();
        let mut out = Vec::new();
        for (kind, words) in
            [("RuntimeReady", "container runtime not ready"), ("NetworkReady", "container runtime network not ready")]
        {
            match conditions.iter().find(|c| c.r#type == kind) {
                Some(c) if c.status => {}
                Some(c) => {
                    out.push(format!("{words}: {kind}=false reason:{} message:{}", c.reason, c.message));
                }
                None => out.push(format!("{words}: condition {kind} is not set")),
            }
        }
        out
    }

    async fn write_status(&self, inputs: &Inputs, written: &mut Option<Written>) -> client::Result<()> {
        let status = status::status(inputs);
        let conditions = status::conditions(inputs);
        if let Some(last) = written
            && last.status == status
            && last.conditions == conditions
            && last.at.elapsed() < REPORT_EVERY
        {
            return Ok(());
        }
        let since = self.transitions(written.as_ref(), &conditions).await?;
        let now = base::time::now();
        let all: Vec<Value> = conditions
            .iter()
            .map(|c| {
                json!({
                    "type": c.kind,
                    "status": if c.is_true { "True" } else { "False" },
                    "reason": c.reason,
                    "message": c.message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": since.get(c.kind).unwrap_or(&now),
                })
            })
            .collect();
        let mut body = status.clone();
        body.insert("conditions".into(), json!(all));
        // Merged by type, an address that is no longer ours would stay.
        if let Some(Value::Array(addresses)) = body.get_mut("addresses") {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
        self.client.patch(&self.at().sub("status"), &Patch::Strategic(json!({"status": body}))).await?;
        self.announce(written.as_ref(), &conditions);
        *written = Some(Written { status, conditions, since, at: Instant::now() });
        Ok(())
    }

    /// Since when each condition holds: what was written before counts, also before a restart of the kubelet.
    async fn transitions(
        &self,
        written: Option<&Written>,
        conditions: &[Condition],
    ) -> client::Result<BTreeMap<&'static str, String>> {
        let now = base::time::now();
        if let Some(last) = written {
            let of = |c: &Condition| {
                let same = last.conditions.iter().any(|l| l.kind == c.kind && l.is_true == c.is_true);
                last.since.get(c.kind).filter(|_| same).cloned().unwrap_or_else(|| now.clone())
            };
            return Ok(conditions.iter().map(|c| (c.kind, of(c))).collect());
        }
        let node = self.client.get(&self.at()).await?.value().unwrap_or_default();
        let known = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let of = |c: &Condition| {
            let status = if c.is_true { "True" } else { "False" };
            let same = known.iter().find(|k| k["type"] == c.kind && k["status"] == status);
            same.and_then(|k| k["lastTransitionTime"].as_str()).map_or_else(|| now.clone(), str::to_owned)
        };
        Ok(conditions.iter().map(|c| (c.kind, of(c))).collect())
    }

    fn announce(&self, written: Option<&Written>, conditions: &[Condition]) {
        for condition in conditions {
            let before = written.and_then(|w| w.conditions.iter().find(|c| c.kind == condition.kind));
            let changed = before.is_none_or(|b| b.is_true != condition.is_true);
            let reason = match (condition.kind, condition.is_true) {
                ("Ready", true) => "NodeReady",
                ("Ready", false) if written.is_some() => "NodeNotReady",
                ("Ready", false) => continue,
                _ => condition.reason,
            };
            if changed {
                let message = format!("Node {} status is now: {reason}", self.name);
                self.events.normal(About::node(&self.name), reason, message);
            }
        }
    }
}
