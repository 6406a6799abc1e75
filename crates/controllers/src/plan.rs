//! What a controller wants done: operations in steps, events, a time to look again. A plan can be printed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use client::{DeleteOptions, ObjectReference, Patch, Resource, Severity};
use object::Object;
use serde_json::Value;

use crate::kinds::Kind;

/// An event to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it is about.
    pub about: ObjectReference,
    /// Normal or Warning.
    pub severity: Severity,
    /// CamelCase.
    pub reason: &'static str,
    /// For people. In events of an operation `{name}` stands for the name of the object that was written and `{error}`
    /// for what the server said.
    pub message: String,
}

impl Event {
    /// A Normal event.
    pub fn normal(about: &Object, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about: about.into(), severity: Severity::Normal, reason, message: message.into() }
    }
    /// A Warning event.
    pub fn warning(about: &Object, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about: about.into(), severity: Severity::Warning, reason, message: message.into() }
    }
}

/// What an operation does.
#[derive(Clone, Debug)]
pub enum Verb {
    /// POST.
    Create(Arc<Value>),
    /// PUT of what the cache holds with this merge patch applied, under its resourceVersion: upstream's roles let most
    /// controllers update and not patch.
    Update(Arc<Object>, Value),
    /// PATCH.
    Patch(Patch),
    /// DELETE. An object that is gone already is fine.
    Delete(DeleteOptions),
}

/// One request to the API server.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it does.
    pub verb: Verb,
    /// The kind.
    pub kind: &'static Kind,
    /// Where.
    pub at: Resource,
    /// Recorded when it is done.
    pub done: Option<Event>,
    /// Recorded when it fails.
    pub failed: Option<Event>,
    /// Done even if an operation before it failed (a status that tells of the failure).
    pub regardless: bool,
}

impl Op {
    fn new(verb: Verb, kind: &'static Kind, at: Resource) -> Self {
        Self { verb, kind, at, done: None, failed: None, regardless: false }
    }
    /// Creates `body` in `namespace` (empty for cluster-scoped kinds).
    pub fn create(kind: &'static Kind, namespace: &str, body: impl Into<Arc<Value>>) -> Self {
        Self::new(Verb::Create(body.into()), kind, Resource::collection(&kind.gvr(), Some(namespace)))
    }
    /// Updates `base` by a merge patch.
    pub fn update(kind: &'static Kind, base: &Arc<Object>, change: Value) -> Self {
        Self::new(Verb::Update(base.clone(), change), kind, kind.at(base))
    }
    /// Updates the status of `base` by a merge patch of the whole object.
    pub fn status(kind: &'static Kind, base: &Arc<Object>, change: Value) -> Self {
        let op = Self::new(Verb::Update(base.clone(), change), kind, kind.at(base).sub("status"));
        Self { regardless: true, ..op }
    }
    /// Makes `status` the status of `base`; `None` when it is.
    pub fn status_to(kind: &'static Kind, base: &Arc<Object>, status: &impl serde::Serialize) -> Option<Self> {
        let old = base.value().unwrap_or_default()["status"].take();
        let old = if old.is_null() { serde_json::json!({}) } else { old };
        let change = crate::diff::merge_diff(&old, &serde_json::json!(status))?;
        Some(Self::status(kind, base, serde_json::json!({"status": change})))
    }
    /// Patches an object.
    pub fn patch(kind: &'static Kind, object: &Object, patch: Patch) -> Self {
        Self::new(Verb::Patch(patch), kind, kind.at(object))
    }
    /// Deletes this very object.
    pub fn delete(kind: &'static Kind, object: &Object) -> Self {
        let options = DeleteOptions { uid: Some(object.head.uid.clone()), ..DeleteOptions::default() };
        Self::new(Verb::Delete(options), kind, kind.at(object))
    }
    /// Goes to this subresource.
    pub fn sub(mut self, subresource: &str) -> Self {
        self.at = self.at.sub(subresource);
        self
    }
    /// Records this when it is done.
    pub fn on_done(self, event: Event) -> Self {
        Self { done: Some(event), ..self }
    }
    /// Records this when it fails.
    pub fn on_failure(self, event: Event) -> Self {
        Self { failed: Some(event), ..self }
    }
}

/// What a reconciliation wants done. Empty: all is as it should be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps in order. The operations of one step are independent: they run in parallel, a few first and then more.
    /// After a failure only operations that are to be done regardless follow, and the key comes again with back-off.
    pub steps: Vec<Vec<Op>>,
    /// Recorded at once.
    pub events: Vec<Event>,
    /// Look again after this time, even if nothing changes.
    pub requeue: Option<Duration>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }
    /// Adds a step of one operation.
    pub fn push(&mut self, op: Op) {
        self.steps.push(vec![op]);
    }
    /// Adds a step of one operation, if there is one.
    pub fn push_some(&mut self, op: Option<Op>) {
        self.steps.extend(op.map(|op| vec![op]));
    }
    /// Adds a step.
    pub fn step(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            self.steps.push(ops);
        }
    }
    /// Looks again after `seconds`, or sooner if that was asked for before.
    pub fn requeue_after(&mut self, seconds: i64) {
        let wait = Duration::from_secs(seconds.max(0).unsigned_abs());
        self.requeue = Some(self.requeue.map_or(wait, |old| old.min(wait)));
    }
    /// True when nothing is to be written or recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.events.is_empty()
    }
    /// All operations in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.steps.iter().flatten()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.at.namespace.iter().chain(&self.at.name).cloned().collect::<Vec<_>>().join("/");
        let sub = self.at.subresource.as_ref().map(|s| format!("/{s}")).unwrap_or_default();
        let resource = self.kind.resource;
        match &self.verb {
            Verb::Create(body) => {
                let meta = &body["metadata"];
                let name = meta["name"].as_str().map(str::to_owned);
                let name = name.or_else(|| meta["generateName"].as_str().map(|prefix| format!("{prefix}*")));
                write!(f, "create {resource}{sub} {place}/{}", name.unwrap_or_default())
            }
            Verb::Update(_, change) => write!(f, "update {resource}{sub} {place} {change}"),
            Verb::Patch(Patch::Json(body) | Patch::Merge(body) | Patch::Strategic(body) | Patch::Apply(body, _)) => {
                write!(f, "patch {resource}{sub} {place} {body}")
            }
            Verb::Delete(_) => write!(f, "delete {resource} {place}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for op in self.ops() {
            writeln!(f, "{op}")?;
            if let Some(event) = &op.done {
                writeln!(f, "  event {} {}", event.reason, event.message)?;
            }
        }
        for event in &self.events {
            writeln!(f, "event {} {}", event.reason, event.message)?;
        }
        if let Some(wait) = self.requeue {
            writeln!(f, "requeue {} s", wait.as_secs())?;
        }
        Ok(())
    }
}
