//! What is admitted: one operation on one object.

use kinds::Kind;
use object::{Gvk, Gvr, Status};
use serde_json::{Value, json};

use crate::delete::DeleteRequest;
use crate::user::User;
use crate::write::WriteQuery;

/// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A request as admission sees it.
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    /// The kind of the resource that the request is about.
    pub(crate) kind: &'a Kind,
    pub(crate) operation: Operation,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// What a refusal calls the object: its name, or before it has one what its name begins with.
    pub(crate) title: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) sent: Sent<'a>,
}

/// The options that came with the request, for webhooks and policies to see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent<'a> {
    Nothing,
    Write(&'a WriteQuery),
    Delete(&'a DeleteRequest),
}

impl Attributes<'_> {
    /// Whether the request is about the resource, or one of its subresources.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural
    }

    /// Whether the request creates or updates.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// A refusal.
    pub(crate) fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.kind.group, &self.kind.plural, self.title, why)
    }

    /// The resource, without its subresource.
    pub(crate) fn gvr(&self) -> Gvr {
        self.kind.gvr()
    }

    /// The kind of the object that goes with the request: of a subresource it may be another one.
    pub(crate) fn gvk(&self) -> Gvk {
        match (self.operation, self.subresource) {
            (Operation::Connect, "exec") => Gvk::new("", "v1", "PodExecOptions"),
            (Operation::Connect, "attach") => Gvk::new("", "v1", "PodAttachOptions"),
            (Operation::Connect, "portforward") => Gvk::new("", "v1", "PodPortForwardOptions"),
            (Operation::Connect, "proxy") => Gvk::new("", "v1", &format!("{}ProxyOptions", self.kind.kind)),
            (_, "scale") => Gvk::new("autoscaling", "v1", "Scale"),
            (Operation::Create, "binding") => Gvk::new("", "v1", "Binding"),
            (Operation::Create, "eviction") => Gvk::new("policy", "v1", "Eviction"),
            (Operation::Create, "token") => Gvk::new("authentication.k8s.io", "v1", "TokenRequest"),
            _ => self.kind.gvk(),
        }
    }

    /// Whether what is sent is no object of the resource, but a scale, a binding, the options of a stream.
    pub(crate) fn has_own_body(&self) -> bool {
        self.gvk() != self.kind.gvk()
    }

    /// The options of the request, as webhooks see them.
    pub(crate) fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        match self.sent {
            Sent::Nothing => {}
            Sent::Write(query) => {
                if let Some(manager) = query.manager.as_deref().filter(|m| !m.is_empty()) {
                    options["fieldManager"] = manager.into();
                }
                if query.says_validation {
                    options["fieldValidation"] = query.validation.name().into();
                }
            }
            Sent::Delete(request) => request.show(&mut options),
        }
        options
    }

    /// Who asks, as `authentication.k8s.io/v1 UserInfo`.
    pub(crate) fn user_info(&self) -> Value {
        let mut info = json!({"username": self.user.name, "groups": self.user.groups});
        if !self.user.uid.is_empty() {
            info["uid"] = self.user.uid.as_str().into();
        }
        if !self.user.extra.is_empty() {
            info["extra"] = json!(self.user.extra);
        }
        info
    }
}
