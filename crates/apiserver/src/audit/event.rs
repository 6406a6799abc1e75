//! One request's events.

use std::collections::BTreeMap;

use client::Resource;
use object::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::policy::{Decision, Level, Stage};
use crate::user::User;

/// A request as the policy looks at it, and as its events tell of it.
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a User,
    /// Who sent it, when it acts as another.
    pub(crate) sender: Option<&'a User>,
    pub(crate) verb: &'a str,
    pub(crate) at: Option<&'a Resource>,
    /// Path without the query.
    pub(crate) path: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) id: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) addresses: Vec<String>,
}

#[cfg(test)]
impl<'a> Asked<'a> {
    /// A request of which nothing else is known.
    pub(crate) fn new(user: &'a User, verb: &'a str) -> Self {
        let (at, sender) = (None, None);
        Self { user, sender, verb, at, path: "", uri: "", id: "", agent: "", addresses: Vec::new() }
    }
}

fn told(user: &User) -> Value {
    let mut told = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        told["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        told["extra"] = json!(user.extra);
    }
    told
}

/// What is noted of a request while it is handled.
pub(crate) struct Recording {
    event: Value,
    decision: Decision,
    lines: mpsc::Sender<String>,
}

impl Recording {
    pub(super) fn new(asked: &Asked<'_>, decision: Decision, lines: mpsc::Sender<String>) -> Self {
        let level = match decision.level {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        };
        let now = base::time::now_micros();
        let mut event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "auditID": asked.id, "stage": "",
            "requestURI": asked.uri, "verb": asked.verb, "user": told(asked.sender.unwrap_or(asked.user)), "sourceIPs": asked.addresses,
            "requestReceivedTimestamp": now});
        if asked.sender.is_some() {
            event["impersonatedUser"] = told(asked.user);
        }
        if !asked.agent.is_empty() {
            event["userAgent"] = asked.agent.into();
        }
        if let Some(at) = asked.at {
            let mut reference = json!({"resource": at.gvr.resource, "apiVersion": at.gvr.version});
            let mut add = |key: &str, value: Option<&str>| {
                if let Some(value) = value.filter(|v| !v.is_empty()) {
                    reference[key] = value.into();
                }
            };
            add("apiGroup", Some(&at.gvr.group));
            add("namespace", at.namespace.as_deref());
            add("name", at.name.as_deref());
            add("subresource", at.subresource.as_deref());
            event["objectRef"] = reference;
        }
        Self { event, decision, lines }
    }

    /// True when the body of the request is wanted.
    pub(crate) fn wants_request(&self) -> bool {
        self.decision.level >= Level::Request
    }

    /// True when the body of the reply is wanted.
    pub(crate) fn wants_response(&self) -> bool {
        self.decision.level >= Level::RequestResponse
    }

    /// Notes the object that was sent.
    pub(crate) fn request(&mut self, object: Value) {
        self.event["requestObject"] = self.shown(object);
    }

    /// Notes the object that was replied.
    pub(crate) fn response(&mut self, object: Value) {
        self.event["responseObject"] = self.shown(object);
    }

    fn shown(&self, mut object: Value) -> Value {
        if self.decision.omit_managed_fields {
            strip(&mut object);
        }
        object
    }

    /// Notes whether the sender might.
    pub(crate) fn decided(&mut self, allowed: bool) {
        let decision = if allowed { "allow" } else { "forbid" };
        self.event["annotations"]["authorization.k8s.io/decision"] = decision.into();
        self.event["annotations"]["authorization.k8s.io/reason"] = "".into();
    }

    /// Notes what admission has to say.
    pub(crate) fn note(&mut self, notes: BTreeMap<String, String>) {
        for (key, value) in notes {
            self.event["annotations"][key] = value.into();
        }
    }

    /// Notes how it went.
    pub(crate) fn outcome(&mut self, code: u16, status: Option<&Status>) {
        let mut outcome = json!({"metadata": {}, "code": code});
        if let Some(status) = status {
            outcome["status"] = "Failure".into();
            outcome["message"] = status.message.as_str().into();
            if let Some(reason) = &status.reason {
                outcome["reason"] = json!(reason);
            }
        }
        self.event["responseStatus"] = outcome;
    }

    fn line(&mut self, stage: Stage) -> Option<String> {
        if self.decision.omit_stages.contains(&stage) {
            return None;
        }
        self.event["stage"] = stage.name().into();
        self.event["stageTimestamp"] = base::time::now_micros().into();
        crate::metrics::AUDIT_EVENTS.inc();
        Some(self.event.to_string())
    }

    /// Writes the event of a stage.
    pub(crate) async fn tell(&mut self, stage: Stage) {
        if let Some(line) = self.line(stage) {
            // The log ends only with the server.
            let _ = self.lines.send(line).await;
        }
    }

    /// The same where there is no waiting (the end of a stream): an event is lost only when thousands wait already.
    pub(crate) fn tell_now(&mut self, stage: Stage) {
        if let Some(line) = self.line(stage)
            && self.lines.try_send(line).is_err()
        {
            tracing::warn!("the audit log does not keep up: an event is lost");
        }
    }
}

/// Takes managed fields out of an object, or of the items of a list.
fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(item);
    }
}
