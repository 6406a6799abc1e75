//! CustomResourceDefinitions at work: names are given, conditions told, kinds served, and what is left of deleted ones is removed.
//!
//! One task follows the definitions in the store. A new definition is served once its status, the next write to disk, is there.
//! Deciding is pure (`kinds::custom::naming`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::Resource;
use futures::StreamExt;
use kinds::Kind;
use kinds::custom::naming::{self, Taken};
use kinds::custom::{self, CLEANUP};
use object::{Gvr, Object, Status};
use serde_json::Value;
use store::{Event, EventKind};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, store_status};
use crate::delete::DeleteRequest;
use crate::user::User;
use crate::write::{Part, WriteQuery};

const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// Objects deleted at a time.
const CHUNK: usize = 500;

fn resource(name: &str) -> Resource {
    let gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    Resource::object(&gvr, None, name)
}

/// What the task knows.
pub(crate) struct Definitions {
    api: Arc<Api>,
    taken: HashMap<String, Taken>,
    /// Definitions that did not get all their names, by group.
    waiting: BTreeMap<String, BTreeSet<String>>,
    /// Writes of statuses and removals of objects.
    work: JoinSet<()>,
    /// Definitions whose objects are being removed.
    cleaning: BTreeSet<String>,
    revision: u64,
}

impl Definitions {
    /// Reads the stored definitions: their kinds are served from now on.
    pub(crate) fn load(api: Arc<Api>) -> Result<Self, Status> {
        let page = api.store.range(PREFIX, None, 0, 0).map_err(|e| store_status(&e))?;
        let mut definitions = Self {
            api,
            taken: HashMap::new(),
            waiting: BTreeMap::new(),
            work: JoinSet::new(),
            cleaning: BTreeSet::new(),
            revision: page.revision,
        };
        for item in page.items {
            let Ok(value) = item.object.value() else { continue };
            definitions.taken(&value).set(&value);
            definitions.api.registry.set(&item.object.head.name, custom::kinds(&value, item.mod_revision));
        }
        Ok(definitions)
    }

    fn taken(&mut self, definition: &Value) -> &mut Taken {
        self.taken.entry(definition["spec"]["group"].as_str().unwrap_or("").to_owned()).or_default()
    }

    /// Follows changes until the token is cancelled.
    pub(crate) async fn follow(mut self, token: CancellationToken) {
        // What was decided before the last stop may not be written, and what was begun not be done.
        let page = self.api.store.range(PREFIX, None, 0, 0);
        for item in page.into_iter().flat_map(|page| page.items) {
            self.changed(&item.object);
        }
        loop {
            let Ok(mut events) = self.api.store.watch(PREFIX, self.revision) else {
                // The window has passed: begin with what there is now.
                let Ok(page) = self.api.store.range(PREFIX, None, 0, 0) else { return };
                self.revision = page.revision;
                page.items.iter().for_each(|item| self.changed(&item.object));
                continue;
            };
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    Some(_) = self.work.join_next() => {}
                    batch = events.next() => match batch {
                        Some(Ok(batch)) => batch.iter().for_each(|event| self.event(event)),
                        Some(Err(_)) => break,
                        None => return,
                    },
                }
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.revision = self.revision.max(event.revision);
        match event.kind {
            EventKind::Put => self.changed(&event.object),
            EventKind::Delete => self.gone(&event.object),
        }
    }

    fn changed(&mut self, object: &Object) {
        let Ok(mut definition) = object.value() else { return };
        let name = object.head.name.clone();
        if object.head.is_terminating() {
            self.serve(&name, &definition);
            if object.head.finalizers.iter().any(|f| f == CLEANUP) && self.cleaning.insert(name.clone()) {
                self.work.spawn(self.api.clone().clean_up(name, definition));
            }
            return;
        }
        let group = definition["spec"]["group"].as_str().unwrap_or("").to_owned();
        let taken = self.taken.entry(group.clone()).or_default();
        let status = naming::decide(&definition, taken, &base::time::now());
        let is_new = status != definition["status"];
        // Served only once its status says so to everybody: who sees the resource can write the definition.
        let is_established = custom::has_condition(&definition, "Established");
        definition["status"] = status;
        taken.set(&definition);
        if is_established {
            self.serve(&name, &definition);
        }
        if custom::has_condition(&definition, "NamesAccepted") {
            self.waiting.get_mut(&group).map(|waiting| waiting.remove(&name));
        } else {
            self.waiting.entry(group).or_default().insert(name.clone());
        }
        if is_new {
            let status = definition["status"].take();
            self.work.spawn(self.api.clone().tell(name, object.head.uid.clone(), status));
        }
    }

    fn serve(&self, name: &str, definition: &Value) {
        let kinds = custom::kinds(definition, self.api.store.revision());
        self.api.conversions.settle(name, &kinds);
        self.api.registry.set(name, kinds);
    }

    fn gone(&mut self, object: &Object) {
        let name = &object.head.name;
        self.cleaning.remove(name);
        self.api.registry.remove(name);
        self.api.conversions.forget(name);
        let Ok(definition) = object.value() else { return };
        self.taken(&definition).remove(name);
        // Others may have waited for these names.
        let group = definition["spec"]["group"].as_str().unwrap_or("");
        if let Some(waiting) = self.waiting.get_mut(group) {
            waiting.remove(name);
            for name in waiting.clone() {
                if let Some(other) = self.api.store.get(&format!("{PREFIX}{name}")) {
                    self.changed(&other.object);
                }
            }
        }
    }
}

/// Upstream's API server writes under this name.
fn ours() -> WriteQuery {
    WriteQuery { agent: "kube-apiserver".into(), ..WriteQuery::default() }
}

impl Api {
    /// The kind of a definition that is established, but that the task which follows definitions has not come to yet: nobody who has
    /// waited for the condition is told that there is no such resource.
    pub(crate) fn newly_established(&self, gvr: &Gvr) -> Option<Arc<Kind>> {
        if gvr.group.is_empty() {
            return None;
        }
        let (name, key) =
            (format!("{}.{}", gvr.resource, gvr.group), format!("{PREFIX}{}.{}", gvr.resource, gvr.group));
        let definition = self.store.get(&key)?.object.value().ok()?;
        let kinds = custom::kinds(&definition, self.store.revision());
        if kinds.is_empty() {
            return None;
        }
        self.registry.set(&name, kinds);
        if self.store.get(&key).is_none() {
            self.registry.remove(&name);
        }
        self.registry.by_gvr(gvr)
    }
}

impl Api {
    /// Writes the names and conditions of a definition.
    async fn tell(self: Arc<Self>, name: String, uid: String, status: Value) {
        let set = |old: &Value| {
            let mut new = old.clone();
            // Another of the same name is decided on by itself.
            if old["metadata"]["uid"] == uid {
                for field in ["acceptedNames", "conditions"] {
                    new["status"][field] = status[field].clone();
                }
            }
            Ok(new)
        };
        self.change_definition(&name, Part::Status, set).await;
    }

    async fn change_definition(&self, name: &str, part: Part, set: impl Fn(&Value) -> Result<Value, Status>) {
        let at = resource(name);
        let written = match self.stored_kind_of(&at.gvr) {
            Ok(kind) => self.change(&User::superuser(), &kind, &at, part, &ours(), set).await.map(drop),
            Err(status) => Err(status),
        };
        if let Err(status) = written
            && !status.is_not_found()
        {
            tracing::warn!(definition = name, error = %status, "the definition is not up to date");
        }
    }

    /// Deletes the objects of a definition, then lets it go.
    async fn clean_up(self: Arc<Self>, name: String, definition: Value) {
        let prefix = format!("/registry/{}/", custom::storage_prefix(&definition));
        if let Some(kind) = custom::stored_kind(&definition) {
            let mut told = false;
            loop {
                let revision = self.store.revision();
                self.delete_all(&kind, &prefix).await;
                if self.store.count(&prefix) == 0 {
                    break;
                }
                if !std::mem::replace(&mut told, true) {
                    let words = "CustomResource deletion is in progress";
                    self.tell_terminating(&name, "True", "InstanceDeletionInProgress", words).await;
                }
                // Finalizers hold the rest: every change may be the last one.
                let Ok(mut changes) = self.store.watch(&prefix, revision) else { continue };
                while self.store.count(&prefix) > 0 {
                    match changes.next().await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) => break,
                        None => return,
                    }
                }
            }
        }
        self.tell_terminating(&name, "False", "InstanceDeletionCompleted", "removed all instances").await;
        let release = |old: &Value| {
            let mut new = old.clone();
            let kept = old["metadata"]["finalizers"].as_array().into_iter().flatten().filter(|f| *f != CLEANUP);
            new["metadata"]["finalizers"] = kept.cloned().collect();
            Ok(new)
        };
        self.change_definition(&name, Part::Main, release).await;
    }

    async fn tell_terminating(&self, name: &str, status: &str, reason: &str, words: &str) {
        let set = |old: &Value| {
            let mut new = old.clone();
            let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            naming::set_condition(&mut conditions, "Terminating", status, reason, words, &base::time::now());
            new["status"]["conditions"] = conditions.into();
            Ok(new)
        };
        self.change_definition(name, Part::Status, set).await;
    }

    /// Asks for the deletion of every object below the prefix.
    async fn delete_all(&self, kind: &Kind, prefix: &str) {
        let mut after: Option<String> = None;
        while let Ok(page) = self.store.range(prefix, after.as_deref(), CHUNK, 0) {
            for item in &page.items {
                let head = &item.object.head;
                let namespace = Some(head.namespace.as_str()).filter(|n| !n.is_empty());
                let at = Resource::object(&kind.gvr(), namespace, &head.name);
                if let Err(status) = self.delete_as(kind, &at, &DeleteRequest::default()).await
                    && !status.is_not_found()
                {
                    tracing::warn!(key = %item.key, error = %status, "cannot delete an object of a deleted definition");
                }
            }
            after = page.items.last().map(|item| item.key.to_string());
            if !page.more {
                return;
            }
        }
    }
}
