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
    /// Who sent it.
    pub(crate) user: &'a User,
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
        Self { user, verb, at: None, path: "", uri: "", id: "", agent: "", addresses: Vec::new() }
    }
}

fn told(user: &User) -> Value {
    let mut told = json!({});
    if !user.name.is_empty() {
        told["username"] = user.name.as_str().into();
    }
    if !user.groups.is_empty() {
        told["groups"] = json!(user.groups);
    }
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
    /// Its last event is told.
    is_over: bool,
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
            "requestURI": asked.uri, "verb": asked.verb, "user": told(asked.user), "sourceIPs": asked.addresses,
            "requestReceivedTimestamp": now});
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
        Self { event, decision, lines, is_over: false }
    }

    /// True when the body of the reply is wanted.
    pub(crate) fn wants_response(&self) -> bool {
        self.decision.level >= Level::RequestResponse
    }

    /// Notes whom it acts as, and by which of the ways of impersonation.
    pub(crate) fn impersonates(&mut self, user: &User, constraint: &str) {
        self.event["impersonatedUser"] = told(user);
        if !constraint.is_empty() {
            self.event["authenticationMetadata"] = json!({"impersonationConstraint": constraint});
        }
    }

    /// Notes the object that was sent. What the path does not say of the object's place, the object does, unless it is a patch.
    pub(crate) fn request(&mut self, object: Value, is_patch: bool) {
        if let Some(reference) = self.event.get_mut("objectRef").filter(|_| !is_patch) {
            for field in ["namespace", "name", "uid", "resourceVersion"] {
                let said = object["metadata"][field].as_str().filter(|said| !said.is_empty());
                if let Some(said) = said.filter(|_| reference[field].is_null()) {
                    reference[field] = said.into();
                }
            }
        }
        if self.decision.level >= Level::Request {
            self.event["requestObject"] = self.shown(object);
        }
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

    /// Notes something.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        self.event["annotations"][key] = value.into();
    }

    /// Notes whether the sender might, and why.
    pub(crate) fn decided(&mut self, (allowed, why): &(bool, String)) {
        self.annotate("authorization.k8s.io/decision", if *allowed { "allow" } else { "forbid" });
        self.annotate("authorization.k8s.io/reason", why);
    }

    /// Notes what admission has to say.
    pub(crate) fn note(&mut self, notes: BTreeMap<String, String>) {
        for (key, value) in notes {
            self.annotate(&key, &value);
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
            let details = status.to_value()["details"].take();
            if details.as_object().is_some_and(|details| !details.is_empty()) {
                outcome["details"] = details;
            }
        }
        self.event["responseStatus"] = outcome;
    }

    fn line(&mut self, stage: Stage) -> Option<String> {
        self.is_over |= matches!(stage, Stage::ResponseComplete | Stage::Panic);
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

    /// That was its last event.
    pub(crate) fn end(mut self) {
        self.is_over = true;
    }

    /// The same where there is no waiting (the end of a stream): an event is lost only when thousands wait already.
    fn tell_now(&mut self, stage: Stage) {
        if let Some(line) = self.line(stage)
            && self.lines.try_send(line).is_err()
        {
            tracing::warn!("the audit log does not keep up: an event is lost");
        }
    }
}

/// What ends unsaid, ends here: a stream, a client that went away, a handler that panicked.
impl Drop for Recording {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if std::thread::panicking() {
            let mut status = Status::internal("the request could not be handled");
            status.message = "APIServer panic'd: the request could not be handled".into();
            self.outcome(500, Some(&status));
            self.tell_now(Stage::Panic);
        } else {
            self.tell_now(Stage::ResponseComplete);
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
