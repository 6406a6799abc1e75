//! Events about pods and the node: recorded without waiting, written by one task, repeated ones counted.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Client, Patch, Resource};
use object::Gvr;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::{Container, Pod, Role};

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 1000;
/// Repetitions are counted for this many different events.
const REMEMBERED: usize = 4096;

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct About {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) field_path: String,
}

impl About {
    /// A pod.
    pub(crate) fn pod(pod: &Pod) -> Self {
        let m = &pod.metadata;
        Self { kind: "Pod", namespace: m.namespace.clone(), name: m.name.clone(), uid: m.uid.clone(), ..Self::default() }
    }
    /// A container of a pod.
    pub(crate) fn container(pod: &Pod, container: &Container) -> Self {
        let list = match pod.container(&container.name).map(|(role, _)| role) {
            Some(Role::Init) => "initContainers",
            Some(Role::Ephemeral) => "ephemeralContainers",
            _ => "containers",
        };
        Self { field_path: format!("spec.{list}{{{}}}", container.name), ..Self::pod(pod) }
    }
    /// The node itself.
    pub(crate) fn node(name: &str) -> Self {
        Self { kind: "Node", name: name.into(), uid: name.into(), ..Self::default() }
    }
}

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Event {
    about: About,
    severity: Severity,
    reason: String,
    message: String,
}

/// Records events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Event>,
}

/// Writes what was recorded.
pub(crate) struct EventWriter {
    client: Client,
    host: String,
    queue: mpsc::Receiver<Event>,
    seen: HashMap<Event, (Resource, u32)>,
}

impl Events {
    /// A recorder for the node `host` and the writer behind it.
    pub(crate) fn new(client: Client, host: &str) -> (Self, EventWriter) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender }, EventWriter { client, host: host.into(), queue, seen: HashMap::new() })
    }

    /// Records an event of type Normal.
    pub(crate) fn normal(&self, about: About, reason: &str, message: impl Into<String>) {
        self.record(about, Severity::Normal, reason, message.into());
    }

    /// Records an event of type Warning.
    pub(crate) fn warning(&self, about: About, reason: &str, message: impl Into<String>) {
        self.record(about, Severity::Warning, reason, message.into());
    }

    fn record(&self, about: About, severity: Severity, reason: &str, message: String) {
        tracing::debug!(about = %about.name, reason, message, "event");
        // Events are best effort: with a full queue this one is lost, not the pod's progress.
        let _ = self.queue.try_send(Event { about, severity, reason: reason.into(), message });
    }
}

impl EventWriter {
    /// Writes until cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = token.cancelled() => return,
                event = self.queue.recv() => event,
            };
            let Some(event) = event else { return };
            if let Err(error) = self.write(event).await {
                tracing::debug!(%error, "an event could not be written");
            }
        }
    }

    async fn write(&mut self, event: Event) -> client::Result<()> {
        if let Some((at, count)) = self.seen.get_mut(&event) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": base::time::now()});
            match self.client.patch(&at.clone(), &Patch::Merge(patch)).await {
                Err(status) if status.is_not_found() => {}
                done => return done.map(drop),
            }
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        let namespace = if event.about.namespace.is_empty() { "default" } else { &event.about.namespace };
        let gvr = Gvr::new("", "v1", "events");
        let created: Arc<object::Object> =
            self.client.create(&Resource::collection(&gvr, Some(namespace)), &self.body(&event, namespace)).await?;
        let at = Resource::object(&gvr, Some(namespace), &created.head.name);
        self.seen.insert(event, (at, 1));
        Ok(())
    }

    fn body(&self, event: &Event, namespace: &str) -> Value {
        let about = &event.about;
        let now = base::time::now();
        let mut involved = json!({"kind": about.kind, "name": about.name, "uid": about.uid, "apiVersion": "v1"});
        for (key, value) in [("namespace", &about.namespace), ("fieldPath", &about.field_path)] {
            if !value.is_empty() {
                involved[key] = json!(value);
            }
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{}.{:016x}", about.name, rand::random::<u64>()), "namespace": namespace},
            "involvedObject": involved,
            "reason": event.reason,
            "message": event.message,
            "source": {"component": "kubelet", "host": self.host},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": match event.severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "reportingComponent": "kubelet",
            "reportingInstance": self.host,
        })
    }
}
