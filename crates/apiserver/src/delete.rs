//! Deletion: grace, finalizers, propagation, preconditions.

use std::sync::Arc;

use client::Resource;
use kinds::Kind;
use object::{Invalid, Object, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Compare, Op, StoreError, Txn, Versioned};

use crate::admission::{self, Attributes, Operation, addresses};
use crate::api::{Api, key, namespace_of, served, store_status};
use crate::read::ListQuery;
use crate::user::User;
use crate::write::metadata_of;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// What is told of jobs whose pods stay because nobody said otherwise.
const JOB_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", "nil"];

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteRequest {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation_policy: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) preconditions: Option<Preconditions>,
    pub(crate) dry_run: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What a delete left.
pub(crate) enum Deleted {
    /// The object is gone: its last state.
    Gone(Arc<Object>),
    /// Grace or finalizers keep it for now.
    Terminating(Arc<Object>),
}

impl Deleted {
    /// The reply's body: the object while it terminates, or where the kind's last states are returned; else a success status.
    pub(crate) fn body(&self, kind: &Kind) -> Result<Value, Status> {
        match self {
            Deleted::Terminating(object) => object.value().map_err(Status::internal),
            Deleted::Gone(object) if kind.returned_by_delete => object.value().map_err(Status::internal),
            Deleted::Gone(object) => {
                let mut details = json!({"name": object.head.name, "kind": kind.plural, "uid": object.head.uid});
                if !kind.group.is_empty() {
                    details["group"] = kind.group.as_str().into();
                }
                Ok(
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
                )
            }
        }
    }
}

/// True when nothing holds an object back that waits for its deletion.
pub(crate) fn is_free(kind: &Kind, object: &Value) -> bool {
    let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let held = is_namespace(kind) && !none(&object["spec"]["finalizers"]);
    none(&object["metadata"]["finalizers"]) && grace == 0 && !held
}

impl DeleteRequest {
    /// Adds what is wrong with the options themselves.
    pub(crate) fn check_options(&self, errors: &mut Vec<Invalid>) {
        const POLICY: &str = "propagationPolicy";
        let Some(policy) = self.propagation_policy.as_deref() else { return };
        if self.orphan_dependents.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(Invalid::invalid(POLICY, &policy.into(), why));
        } else if !POLICIES.contains(&policy) {
            errors.push(Invalid::unsupported(POLICY, &policy.into(), &POLICIES));
        }
    }

    fn propagation(&self) -> Option<&str> {
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (None, Some(true)) => Some("Orphan"),
            (None, Some(false)) => Some("Background"),
            (policy, _) => policy,
        }
    }

    fn check(&self, kind: &Kind, object: &Versioned) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let head = &object.object.head;
        let conflict = |what: &str, wanted: &str, is: &str, but: &str| {
            // As upstream: the store itself looks at a namespace's, and events are in their old group.
            if is_namespace(kind) {
                let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
                return Err(Status::conflict(&kind.group, &kind.plural, &head.name, &why));
            }
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {but}"
            );
            let group = if is_event(kind) { "" } else { &kind.group };
            Err(Status::conflict(group, &kind.kind, &head.name, &why))
        };
        if let Some(uid) = wanted.uid.as_ref().filter(|u| **u != head.uid) {
            return conflict("UID", uid, &head.uid, "deleted and then recreated");
        }
        let is = object.mod_revision.to_string();
        match wanted.resource_version.as_ref().filter(|rv| **rv != is) {
            Some(revision) => conflict("ResourceVersion", revision, &is, "modified"),
            None => Ok(()),
        }
    }

    /// True when nothing is to be deleted after all.
    /// Adds what was asked for to options that webhooks see.
    pub(crate) fn show(&self, options: &mut Value) {
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = &self.propagation_policy {
            options["propagationPolicy"] = policy.as_str().into();
        }
        if let Some(orphan) = self.orphan_dependents {
            options["orphanDependents"] = orphan.into();
        }
        let Some(preconditions) = &self.preconditions else { return };
        for (field, value) in [("uid", &preconditions.uid), ("resourceVersion", &preconditions.resource_version)] {
            if let Some(value) = value {
                options["preconditions"][field] = value.as_str().into();
            }
        }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|d| d.iter().any(|d| d == "All"))
    }
}

impl Api {
    /// DELETE of an object.
    pub(crate) async fn delete(
        &self,
        user: &User,
        at: &Resource,
        request: &DeleteRequest,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, Status> {
        self.delete_one(user, at, request, false, warnings).await
    }

    async fn delete_one(
        &self,
        user: &User,
        at: &Resource,
        request: &DeleteRequest,
        with_others: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let name = at.name.as_deref().unwrap_or("");
        if kind.kind == "Job" && kind.group == "batch" && request.propagation().is_none() {
            crate::warned::tell([JOB_WARNING.into()], warnings);
        }
        if let Some(current) = self.store.get(&key(kind, namespace_of(kind, at)?, name)) {
            request.check(kind, &current)?;
            let old = self.conversions.one(kind, served(kind, current.object)).await?;
            let old = old.value().map_err(Status::internal)?;
            let mut admitted = Attributes {
                user,
                kind,
                operation: Operation::Delete,
                subresource: "",
                namespace: at.namespace.as_deref().unwrap_or(""),
                name,
                title: name,
                dry_run: request.is_dry_run(),
                sent: admission::Sent::Delete(request),
            };
            admission::mutate(self, &admitted, &mut Value::Null, &old, warnings).await?;
            if with_others {
                // As upstream: such a request names nothing.
                (admitted.name, admitted.title) = ("", "Unknown");
            }
            admission::validate(self, &admitted, &Value::Null, &old, warnings).await?;
        }
        Ok(match self.delete_as(kind, at, request).await? {
            Deleted::Terminating(object) => {
                Deleted::Terminating(self.conversions.one(kind, served(kind, object)).await?)
            }
            gone => gone,
        })
    }

    /// DELETE of an object of a kind that need not be served (any more).
    pub(crate) async fn delete_as(
        &self,
        kind: &Kind,
        at: &Resource,
        request: &DeleteRequest,
    ) -> Result<Deleted, Status> {
        let namespace = namespace_of(kind, at)?;
        let name = at.name.as_deref().unwrap_or("");
        let key = key(kind, namespace, name);
        let not_found = || self.missing(kind, namespace, name);
        let mut current = self.store.get(&key).ok_or_else(not_found)?;
        loop {
            request.check(kind, &current)?;
            let old = current.object.value().map_err(Status::internal)?;
            let mut new = old.clone();
            let free = mark(kind, &mut new, request);
            if request.is_dry_run() {
                let sealed = self.draft(kind, &mut new)?.seal(current.mod_revision);
                return Ok(if free { Deleted::Gone(current.object) } else { Deleted::Terminating(Arc::new(sealed)) });
            }
            if !free && new == old {
                return Ok(Deleted::Terminating(current.object));
            }
            let compare = Compare::ModRevision(key.clone(), current.mod_revision);
            let op = if free { Op::Delete(key.clone()) } else { Op::Put(key.clone(), self.draft(kind, &mut new)?) };
            let mut ops = vec![op];
            if free {
                ops.extend(addresses::released(kind, &old, None));
            }
            match self.store.commit(Txn { compares: vec![compare], ops }).await {
                Ok(done) => {
                    let object = done.objects.into_iter().next().flatten().ok_or_else(not_found)?;
                    if !free {
                        return Ok(Deleted::Terminating(object));
                    }
                    // What could have had a grace goes as one that had none.
                    let graceful = (kind.rules.grace)(&new).is_some();
                    let revision = object.head.resource_version;
                    let marked = graceful.then(|| self.draft(kind, &mut new)).transpose()?;
                    return Ok(Deleted::Gone(marked.map_or(object, |marked| Arc::new(marked.seal(revision)))));
                }
                Err(StoreError::Conflict { current: Some(newer), .. }) => current = newer,
                Err(StoreError::Conflict { .. }) => return Err(not_found()),
                Err(error) => return Err(store_status(&error)),
            }
        }
    }

    /// DELETE of a collection; the last states of what was selected.
    pub(crate) async fn delete_collection(
        &self,
        user: &User,
        at: &Resource,
        query: &ListQuery,
        request: &DeleteRequest,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let listing = self.list_as(at, &ListQuery { limit: 0, continue_token: None, ..query.clone() }).await?;
        for item in &listing.items {
            let namespace = Some(item.head.namespace.as_str());
            let one = Resource::object(&at.gvr, namespace, &item.head.name);
            match self.delete_one(user, &one, request, true, warnings).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(listing.items)
    }
}

/// Kinds whose dependents stay unless the request says otherwise: those that are older than garbage collection.
fn orphans(kind: &Kind) -> bool {
    matches!((kind.group.as_str(), kind.kind.as_str()), ("", "ReplicationController") | ("batch", "Job"))
}

/// Marks an object for deletion; true when it can go at once.
fn mark(kind: &Kind, object: &mut Value, request: &DeleteRequest) -> bool {
    let finalizers = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let mut wanted = finalizers(object);
    let already = object["metadata"]["deletionTimestamp"].is_string();
    let held = object["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    if is_namespace(kind) && already && held {
        return false;
    }
    // Nothing depends on events.
    match request.propagation().filter(|_| !is_event(kind)) {
        Some("Foreground") => {
            wanted.retain(|f| f != ORPHAN && f != FOREGROUND);
            wanted.push(FOREGROUND.into());
        }
        Some("Orphan") => {
            wanted.retain(|f| f != ORPHAN && f != FOREGROUND);
            wanted.push(ORPHAN.into());
        }
        Some(_) => wanted.retain(|f| f != ORPHAN && f != FOREGROUND),
        None if orphans(kind) && !wanted.iter().any(|f| f == ORPHAN || f == FOREGROUND) => wanted.push(ORPHAN.into()),
        None => {}
    }
    if wanted.is_empty() {
        metadata_of(object).remove("finalizers");
    } else {
        metadata_of(object).insert("finalizers".into(), wanted.into());
    }
    let grace = grace(kind, object, request);
    let now = base::time::now_seconds();
    let pending = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if !already || pending.is_some_and(|p| grace < p) {
        let generation = object["metadata"]["generation"].as_i64();
        let metadata = metadata_of(object);
        metadata.insert("deletionTimestamp".into(), base::time::format_seconds(now + grace).into());
        if !is_namespace(kind) {
            metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        }
        if let Some(generation) = generation.filter(|_| !already) {
            metadata.insert("generation".into(), (generation + 1).into());
        }
    }
    if is_definition(kind) && !already {
        kinds::custom::begin_deletion(object, &base::time::now());
    }
    if is_namespace(kind) {
        object["status"]["phase"] = "Terminating".into();
    }
    is_free(kind, object)
}

fn is_namespace(kind: &Kind) -> bool {
    kind.kind == "Namespace" && kind.group.is_empty()
}

fn is_event(kind: &Kind) -> bool {
    kind.kind == "Event" && kind.custom.is_none()
}

fn is_definition(kind: &Kind) -> bool {
    kind.kind == "CustomResourceDefinition" && kind.group == "apiextensions.k8s.io"
}

/// Seconds that the object gets: graceful kinds only; a pod that runs nowhere, or has ended, needs none.
fn grace(kind: &Kind, object: &Value, request: &DeleteRequest) -> i64 {
    let Some(default) = (kind.rules.grace)(object) else { return 0 };
    let unscheduled = object["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let finished = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    // As upstream: a negative grace is the shortest that there is.
    let wanted = request.grace_period_seconds.map(|g| if g < 0 { 1 } else { g });
    if unscheduled || finished { 0 } else { wanted.unwrap_or(default) }
}
