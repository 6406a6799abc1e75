//! Recording events: the caller never waits, one task writes, repetitions are counted, floods are cut.
//!
//! As upstream's correlator: the same event again patches its count; more than ten that differ only in the message
//! within ten minutes are written as one `(combined from similar events)`; per source and object 25 at once and then one
//! in five minutes. The queue is bounded and drops the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use object::{Gvr, Object};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Client, Patch, Resource};

mod correlator;

use correlator::{Correlator, Verdict};

/// Events that wait to be written.
const QUEUE: usize = 1000;
/// Attempts to write one event.
const ATTEMPTS: u32 = 12;

/// What an event is about (`v1/ObjectReference`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// `Pod`.
    pub kind: String,
    /// Its namespace; empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `v1`, `apps/v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The revision that was looked at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// `spec.containers{app}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl From<&Object> for ObjectReference {
    fn from(object: &Object) -> Self {
        let head = &object.head;
        Self {
            kind: head.kind.to_string(),
            namespace: head.namespace.clone(),
            name: head.name.clone(),
            uid: head.uid.clone(),
            api_version: head.api_version.to_string(),
            resource_version: head.resource_version.to_string(),
            field_path: String::new(),
        }
    }
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Someone should look.
    Warning,
}

#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    at: jiff::Timestamp,
}

struct Queue {
    waiting: Mutex<VecDeque<Recorded>>,
    wake: Notify,
}

/// Records events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: Arc<Queue>,
}

/// Writes what was recorded.
pub struct EventWriter {
    client: Client,
    component: String,
    host: String,
    queue: Arc<Queue>,
    correlator: Correlator,
}

impl Recorder {
    /// A recorder for `component` (on the node `host`, for components that run on one) and the writer behind it.
    pub fn new(client: Client, component: &str, host: &str) -> (Self, EventWriter) {
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Notify::new() });
        let writer = EventWriter {
            client,
            component: component.into(),
            host: host.into(),
            queue: queue.clone(),
            correlator: Correlator::default(),
        };
        (Self { queue }, writer)
    }

    /// Records that all is well.
    pub fn normal(&self, about: impl Into<ObjectReference>, reason: &str, message: impl Into<String>) {
        self.record(about.into(), Severity::Normal, reason, message);
    }

    /// Records what someone should look at.
    pub fn warning(&self, about: impl Into<ObjectReference>, reason: &str, message: impl Into<String>) {
        self.record(about.into(), Severity::Warning, reason, message);
    }

    /// Records an event. Never waits; when too many wait to be written, the oldest is lost.
    pub fn record(&self, about: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::debug!(kind = about.kind, namespace = about.namespace, name = about.name, reason, message, "event");
        let event = Recorded { about, severity, reason: reason.into(), message, at: jiff::Timestamp::now() };
        let lost = {
            let mut waiting = self.queue.waiting.lock();
            waiting.push_back(event);
            if waiting.len() > QUEUE { waiting.pop_front() } else { None }
        };
        if let Some(lost) = lost {
            tracing::warn!(reason = lost.reason, object = lost.about.name, "too many events: the oldest is dropped");
        }
        self.queue.wake.notify_one();
    }
}

impl EventWriter {
    /// Writes until cancelled; what was recorded before is tried once more then.
    pub async fn run(mut self, token: CancellationToken) {
        loop {
            let next = self.queue.waiting.lock().pop_front();
            match next {
                Some(event) => {
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = self.write(event) => {}
                    }
                }
                None => tokio::select! {
                    () = token.cancelled() => return,
                    () = self.queue.wake.notified() => {}
                },
            }
        }
    }

    async fn write(&mut self, event: Recorded) {
        let mut wait = base::Backoff::new(std::time::Duration::from_millis(500), std::time::Duration::from_secs(10));
        let Some(verdict) = self.correlator.judge(&event) else { return };
        for _ in 0..ATTEMPTS {
            let written = match &verdict {
                Verdict::Count { at, name, count, message } => self.count_up(&event, at, name, *count, message).await,
                Verdict::New { message } => self.create(&event, message).await,
            };
            match written {
                Ok(()) => return,
                // The server will not have it: a namespace that terminates, a right that is lacking.
                Err(status) if !status.is_transient() => {
                    tracing::debug!(error = %status, reason = event.reason, "the server refuses an event");
                    return;
                }
                Err(status) => {
                    tracing::debug!(error = %status, reason = event.reason, "an event is written again later");
                    tokio::time::sleep(wait.next_wait()).await;
                }
            }
        }
    }

    async fn count_up(
        &mut self,
        event: &Recorded,
        namespace: &str,
        name: &str,
        count: u32,
        message: &str,
    ) -> crate::Result<()> {
        let patch = json!({"count": count, "message": message, "lastTimestamp": base::time::format_seconds(event.at.as_second())});
        let at = Resource::object(&events(), Some(namespace), name);
        match self.client.patch(&at, &Patch::Merge(patch)).await {
            // The event was cleaned up: begin anew.
            Err(status) if status.is_not_found() => self.create(event, message).await,
            done => done.map(drop),
        }
    }

    async fn create(&mut self, event: &Recorded, message: &str) -> crate::Result<()> {
        let about = &event.about;
        let namespace = if about.namespace.is_empty() { "default" } else { &about.namespace };
        let name = format!("{}.{:x}", about.name, event.at.as_nanosecond());
        let stamp = base::time::format_seconds(event.at.as_second());
        let mut source = json!({"component": self.component});
        if !self.host.is_empty() {
            source["host"] = json!(self.host);
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": event.reason,
            "message": message,
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": event.severity,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        match self.client.create(&Resource::collection(&events(), Some(namespace)), &body).await {
            Ok(_) => {}
            // An attempt before this one arrived although its answer did not.
            Err(status) if status.is_already_exists() => {}
            Err(status) => return Err(status),
        }
        self.correlator.created(event, namespace, &name);
        Ok(())
    }
}

fn events() -> Gvr {
    Gvr::new("", "v1", "events")
}

#[cfg(test)]
mod tests;
