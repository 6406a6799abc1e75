//! Requests to the server in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object::{FieldSelector, LabelSelector, Object, Reason, Status};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{FakeServer, Request, State, Table, discovery, key, patch, table};
use crate::{
    DeleteOptions, List, ListOptions, Patch, Propagation, Resource, Result, Transport, WatchEvent, WatchStream,
    WriteOptions,
};

/// A connection to a [`FakeServer`] under one name.
pub(super) struct FakeTransport {
    pub(super) server: FakeServer,
    pub(super) user: String,
}

impl FakeTransport {
    fn admit(&self, verb: &'static str, at: &Resource) -> Result<()> {
        self.server.admit(Request { verb, at: at.clone(), user: self.user.clone() })
    }

    /// Runs `write` on the state and tells the watchers.
    fn write<T>(&self, write: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let done = write(&mut self.server.inner.state.lock());
        self.server.announce();
        done
    }
}

fn parse(body: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(body).map_err(|e| Status::bad_request(e.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(Status::bad_request("the body is no object")) }
}

fn selects(at: &Resource, labels: &LabelSelector, fields: &FieldSelector, object: &Object) -> bool {
    at.namespace.as_ref().is_none_or(|ns| *ns == object.head.namespace)
        && labels.matches(&object.head.labels)
        && fields.matches(&object.head)
}

fn create(state: &mut State, at: &Resource, mut value: Value) -> Result<Arc<Object>> {
    let gvr = &at.gvr;
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    if let Some(namespace) = &at.namespace {
        value["metadata"]["namespace"] = json!(namespace);
    }
    if value["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        let prefix = value["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        if prefix.is_empty() {
            return Err(Status::bad_request("name or generateName is required"));
        }
        value["metadata"]["name"] = json!(format!("{prefix}{:05x}", state.revision));
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let namespace = at.namespace.clone().unwrap_or_default();
    if !namespace.is_empty() {
        let namespaces = state.objects.get(&(String::new(), "namespaces".into()));
        if namespaces.and_then(|all| all.get(&namespace)).is_some_and(|ns| ns.head.is_terminating()) {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let mut status = Status::forbidden(&gvr.group, &gvr.resource, &name, &why);
            let cause = object::Cause { reason: "NamespaceTerminating".into(), message: why, field: String::new() };
            status.causes.push(cause);
            return Err(status);
        }
    }
    let table = table(gvr);
    if state.objects.get(&table).is_some_and(|all| all.contains_key(&key(&namespace, &name))) {
        return Err(Status::already_exists(&gvr.group, &gvr.resource, &name));
    }
    if let Some(top) = value.as_object_mut() {
        top.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp"] {
            metadata.remove(field);
        }
    }
    match gvr.resource.as_str() {
        "namespaces" => {
            value["spec"]["finalizers"] = json!(["kubernetes"]);
            value["status"] = json!({"phase": "Active"});
        }
        "pods" => value["status"] = json!({"phase": "Pending"}),
        _ => {}
    }
    state.stamp(&mut value);
    state.put(&table, value)
}

/// Stores `new` over `old` as a write to `at.subresource` may.
fn replace(state: &mut State, at: &Resource, old: &Object, mut new: Value) -> Result<Arc<Object>> {
    let gvr = &at.gvr;
    let given = new["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    if !given.is_empty() && given != old.head.resource_version.to_string() {
        return Err(Status::stale(&gvr.group, &gvr.resource, &old.head.name));
    }
    let uid = new["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    if !uid.is_empty() && uid != old.head.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.head.uid);
        return Err(Status::conflict(&gvr.group, &gvr.resource, &old.head.name, &why));
    }
    let before = old.value().map_err(Status::internal)?;
    match at.subresource.as_deref() {
        Some("status") => {
            // As upstream for most kinds, annotations go with it.
            let (status, annotations) = (new["status"].take(), new["metadata"]["annotations"].take());
            new = before.clone();
            new["status"] = status;
            match annotations.is_null() {
                true => drop(new["metadata"].as_object_mut().and_then(|metadata| metadata.remove("annotations"))),
                false => new["metadata"]["annotations"] = annotations,
            }
        }
        Some("finalize") => {
            let finalizers = new["spec"]["finalizers"].take();
            new = before.clone();
            new["spec"]["finalizers"] = finalizers;
        }
        _ => {
            for field in [
                "uid",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "namespace",
                "generation",
            ] {
                match before["metadata"].get(field) {
                    Some(value) => new["metadata"][field] = value.clone(),
                    None => drop(new["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field))),
                }
            }
            match (before.get("status"), new.as_object_mut()) {
                (Some(status), Some(top)) => drop(top.insert("status".into(), status.clone())),
                (None, Some(top)) => drop(top.remove("status")),
                _ => {}
            }
            if new["spec"] != before["spec"] {
                new["metadata"]["generation"] = json!(old.head.generation + 1);
            }
        }
    }
    new["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let table = table(gvr);
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let held = !empty(&new["metadata"]["finalizers"]) || !empty(&new["spec"]["finalizers"]);
    let graceful = before["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    if old.head.is_terminating() && !held && !graceful {
        let last = state.put(&table, new)?;
        state.take(&table, &last.head.key());
        return Ok(last);
    }
    // A write that changes nothing makes no revision.
    if new == before {
        return state.find(&Resource { subresource: None, ..at.clone() });
    }
    state.put(&table, new)
}

fn delete(state: &mut State, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
    let old = state.find(at)?;
    let gvr = &at.gvr;
    if options.uid.as_ref().is_some_and(|uid| *uid != old.head.uid)
        || options.resource_version.is_some_and(|revision| revision != old.head.resource_version)
    {
        return Err(Status::conflict(&gvr.group, &gvr.resource, &old.head.name, "Precondition failed"));
    }
    let mut value = old.value().map_err(Status::internal)?;
    let mut finalizers = old.head.finalizers.clone();
    match options.propagation {
        Some(Propagation::Foreground) => finalizers.push("foregroundDeletion".into()),
        Some(Propagation::Orphan) => finalizers.push("orphan".into()),
        Some(Propagation::Background) => finalizers.retain(|f| f != "foregroundDeletion" && f != "orphan"),
        None => {}
    }
    finalizers.dedup();
    let running = gvr.resource == "pods"
        && value["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty())
        && !matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let wanted = options.grace_period_seconds.or(value["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    let grace = if running { wanted } else { 0 };
    let namespace = gvr.resource == "namespaces" && !value["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    if finalizers.is_empty() && grace == 0 && !namespace {
        state.take(&table(gvr), &old.head.key());
        return Ok(None);
    }
    value["metadata"]["finalizers"] = json!(finalizers);
    if finalizers.is_empty() {
        drop(value["metadata"].as_object_mut().and_then(|metadata| metadata.remove("finalizers")));
    }
    if !old.head.is_terminating() {
        value["metadata"]["deletionTimestamp"] = json!(base::time::format_seconds(base::time::now_seconds() + grace));
    }
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if namespace {
        value["status"]["phase"] = json!("Terminating");
    }
    if value == old.value().map_err(Status::internal)? {
        return Ok(Some(old));
    }
    state.put(&table(gvr), value).map(Some)
}

#[async_trait]
impl Transport for FakeTransport {
    async fn get(&self, at: &Resource) -> Result<Arc<Object>> {
        self.admit("get", at)?;
        self.server.inner.state.lock().find(at)
    }

    async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        self.admit("list", at)?;
        let state = self.server.inner.state.lock();
        let all = state.objects.get(&table(&at.gvr)).into_iter().flat_map(|objects| objects.values());
        let items = all.filter(|o| selects(at, &options.labels, &options.fields, o)).cloned().collect();
        Ok(List { revision: state.revision, items, continue_token: None })
    }

    async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        self.admit("watch", at)?;
        let cursor = Cursor {
            revision: self.server.inner.revision.subscribe(),
            server: self.server.clone(),
            at: at.clone(),
            table: table(&at.gvr),
            options: options.clone(),
            seen: options.resource_version.unwrap_or_else(|| self.server.revision()),
            ended: false,
        };
        let next = |mut cursor: Cursor| async move { cursor.next().await.map(|event| (event, cursor)) };
        Ok(futures::stream::unfold(cursor, next).boxed())
    }

    async fn create(&self, at: &Resource, body: Bytes, _: &WriteOptions) -> Result<Arc<Object>> {
        self.admit("create", at)?;
        let mut value = parse(&body)?;
        self.write(|state| match at.subresource.as_deref() {
            None => create(state, at, value),
            Some("binding") => {
                let pod = state.find(at)?;
                let mut bound = pod.value().map_err(Status::internal)?;
                if bound["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty()) {
                    let why = "pod is already assigned to a node";
                    return Err(Status::conflict("", "pods", &pod.head.name, why));
                }
                bound["spec"]["nodeName"] = value["target"]["name"].clone();
                state.put(&table(&at.gvr), bound)
            }
            Some("eviction") => {
                let object = Resource { subresource: None, ..at.clone() };
                let pod = state.find(&object)?;
                delete(state, &object, &DeleteOptions::default())?;
                Ok(pod)
            }
            Some("token") => {
                value["status"] = json!({"token": format!("token-of-{}", at.name.as_deref().unwrap_or_default()),
                    "expirationTimestamp": base::time::format_seconds(base::time::now_seconds() + 3600)});
                Object::from_value(&value).map(Arc::new).map_err(Status::internal)
            }
            Some(other) => Err(Status::new(Reason::MethodNotAllowed, format!("no subresource {other}"))),
        })
    }

    async fn update(&self, at: &Resource, body: Bytes, _: &WriteOptions) -> Result<Arc<Object>> {
        self.admit("update", at)?;
        let value = parse(&body)?;
        self.write(|state| {
            let old = state.find(at)?;
            replace(state, at, &old, value)
        })
    }

    async fn patch(&self, at: &Resource, patch: &Patch, _: &WriteOptions) -> Result<Arc<Object>> {
        self.admit("patch", at)?;
        self.write(|state| {
            let old = match (state.find(at), patch) {
                (Err(status), Patch::Apply(value, _)) if status.is_not_found() => {
                    let collection = Resource { name: None, ..at.clone() };
                    let mut value = value.clone();
                    value["metadata"]["name"] = json!(at.name);
                    return create(state, &collection, value);
                }
                (found, _) => found?,
            };
            let mut value = old.value().map_err(Status::internal)?;
            patch::apply(&mut value, patch)?;
            replace(state, at, &old, value)
        })
    }

    async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        self.admit("delete", at)?;
        self.write(|state| delete(state, at, options))
    }

    async fn delete_collection(&self, at: &Resource, options: &DeleteOptions, selection: &ListOptions) -> Result<()> {
        self.admit("deletecollection", at)?;
        self.write(|state| {
            let all = state.objects.get(&table(&at.gvr)).into_iter().flat_map(|objects| objects.values());
            let chosen: Vec<_> =
                all.filter(|o| selects(at, &selection.labels, &selection.fields, o)).cloned().collect();
            for object in chosen {
                let at = Resource::object(&at.gvr, Some(&object.head.namespace), &object.head.name);
                delete(state, &at, options)?;
            }
            Ok(())
        })
    }

    async fn raw_get(&self, path: &str) -> Result<Bytes> {
        discovery::get(path)
    }
}

/// A watch: where it stands in the history.
struct Cursor {
    server: FakeServer,
    revision: watch::Receiver<u64>,
    at: Resource,
    table: Table,
    options: ListOptions,
    seen: u64,
    ended: bool,
}

impl Cursor {
    async fn next(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            if self.ended || self.server.inner.broken_watches.load(Ordering::SeqCst) {
                return None;
            }
            self.revision.borrow_and_update();
            {
                let state = self.server.inner.state.lock();
                if self.seen < state.compacted {
                    self.ended = true;
                    let text = format!("too old resource version: {} ({})", self.seen, state.compacted);
                    return Some(Err(Status::new(Reason::Expired, text)));
                }
                let from = state.history.partition_point(|(revision, _, _)| *revision <= self.seen);
                for (revision, table, event) in state.history.range(from..) {
                    self.seen = *revision;
                    if *table == self.table
                        && let Some(event) = self.translate(event)
                    {
                        return Some(Ok(event));
                    }
                }
                self.seen = self.seen.max(state.revision);
            }
            if self.revision.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The event as this watch's selection sees it. An object that leaves the selection is deleted; one that enters it
    /// may be told as modified, which informers take as well.
    fn translate(&self, event: &WatchEvent) -> Option<WatchEvent> {
        let selected = |object: &Object| selects(&self.at, &self.options.labels, &self.options.fields, object);
        let here = |object: &Object| self.at.namespace.as_ref().is_none_or(|ns| *ns == object.head.namespace);
        match event {
            WatchEvent::Modified(object) if here(object) && !selected(object) => {
                Some(WatchEvent::Deleted(object.clone()))
            }
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                selected(object).then(|| event.clone())
            }
            WatchEvent::Bookmark(revision) => Some(WatchEvent::Bookmark(*revision)),
        }
    }
}
