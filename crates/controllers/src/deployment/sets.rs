//! The replica sets of a deployment, as they are and as they shall be.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::Object;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::template::{self, HASH_LABEL};
use super::{View, scale, status};
use crate::kinds::{DEPLOYMENTS, REPLICA_SETS};
use crate::plan::Op;
use crate::views::{Condition, Meta, set_condition};
use crate::world::World;
use crate::{Event, Plan, replicaset};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that are not copied from the deployment.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The longest revision history, in characters.
const HISTORY_CHARACTERS: usize = 2000;

/// One replica set.
pub(super) struct Set {
    /// As it is; `None` for one that is to be created.
    pub(super) object: Option<Arc<Object>>,
    pub(super) name: String,
    pub(super) created: i64,
    /// The size that it shall have.
    pub(super) replicas: i64,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) status: replicaset::Status,
    pub(super) template: Value,
    was: (i64, BTreeMap<String, String>, i64),
    min_ready_seconds: i64,
    delete: bool,
    /// The label of a set that is to be created.
    hash: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SetView {
    metadata: Meta,
    spec: SetSpec,
    status: replicaset::Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SetSpec {
    replicas: Option<i64>,
    min_ready_seconds: i64,
    template: Value,
}

impl Set {
    fn read(object: &Arc<Object>) -> Self {
        let view: SetView = object.view().unwrap_or_default();
        let (replicas, annotations) =
            (view.spec.replicas.unwrap_or(1), view.metadata.annotations.clone().unwrap_or_default());
        Self {
            object: Some(object.clone()),
            name: object.head.name.clone(),
            created: view.metadata.created().unwrap_or(0),
            replicas,
            was: (replicas, annotations.clone(), view.spec.min_ready_seconds),
            annotations,
            status: view.status,
            template: view.spec.template,
            min_ready_seconds: view.spec.min_ready_seconds,
            delete: false,
            hash: String::new(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.replicas > 0
    }

    /// The deployment's size when this one was last scaled.
    pub(super) fn desired(&self) -> Option<i64> {
        self.annotations.get(DESIRED)?.parse().ok()
    }

    /// The deployment's size with surge when this one was last scaled.
    pub(super) fn max(&self) -> Option<i64> {
        self.annotations.get(MAX)?.parse().ok()
    }

    fn revision(&self) -> i64 {
        self.annotations.get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }

    /// Sets the size, and what it was decided from.
    pub(super) fn scale(&mut self, replicas: i64, view: &View) {
        self.replicas = replicas;
        self.annotations.insert(DESIRED.into(), view.replicas().to_string());
        self.annotations.insert(MAX.into(), (view.replicas() + view.max_surge()).to_string());
    }

    /// Takes over the deployment's annotations and the revision.
    fn annotate(&mut self, view: &View, revision: i64) {
        for (key, value) in view.metadata.annotations.iter().flatten() {
            if !OWN.contains(&key.as_str()) {
                self.annotations.insert(key.clone(), value.clone());
            }
        }
        let old = self.annotations.get(REVISION).cloned();
        if self.revision() >= revision {
            return;
        }
        self.annotations.insert(REVISION.into(), revision.to_string());
        if let Some(old) = old {
            let history = self.annotations.get(REVISION_HISTORY).filter(|h| !h.is_empty());
            let mut all: Vec<&str> = history.map(|h| h.split(',').collect()).unwrap_or_default();
            all.push(&old);
            while all.iter().map(|one| one.len() + 1).sum::<usize>() > HISTORY_CHARACTERS {
                all.remove(0);
            }
            let all = all.join(",");
            self.annotations.insert(REVISION_HISTORY.into(), all);
        }
    }

    /// The merge patch from what it was; `None` when nothing changed.
    fn change(&self) -> Option<Value> {
        let mut change = json!({});
        if self.replicas != self.was.0 {
            change["spec"]["replicas"] = json!(self.replicas);
        }
        if self.min_ready_seconds != self.was.2 {
            change["spec"]["minReadySeconds"] = json!(self.min_ready_seconds);
        }
        let changed = self.annotations.iter().filter(|(key, value)| self.was.1.get(*key) != Some(*value));
        let changed: Map<String, Value> = changed.map(|(key, value)| (key.clone(), json!(value))).collect();
        if !changed.is_empty() {
            change["metadata"]["annotations"] = Value::Object(changed);
        }
        (change != json!({})).then_some(change)
    }
}

/// The new replica set (of the present template) and the old ones.
pub(super) struct Sets {
    pub(super) new: Option<Set>,
    pub(super) old: Vec<Set>,
}

impl Sets {
    pub(super) fn new(_: &Object, view: &View, objects: &[Arc<Object>]) -> Self {
        let mut all: Vec<Set> = objects.iter().map(Set::read).collect();
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let wanted = template::canonical(&view.spec.template);
        // Of several with the present template the oldest is the new one.
        let new = all.iter().position(|set| template::canonical(&set.template) == wanted);
        let new = new.map(|at| all.remove(at));
        Self { new, old: all }
    }

    /// All of them, the new one last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.old.iter_mut().chain(&mut self.new)
    }

    /// The sum of the sizes.
    pub(super) fn total(&self) -> i64 {
        self.all().map(|set| set.replicas).sum()
    }

    /// The sum over the available pods.
    pub(super) fn available(&self) -> i64 {
        self.all().map(|set| set.status.available_replicas).sum()
    }

    /// True when the deployment's size changed since its sets were last scaled.
    pub(super) fn is_scaling_event(&self, view: &View) -> bool {
        self.all().filter(|set| set.is_active()).any(|set| set.desired().is_some_and(|size| size != view.replicas()))
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(Set::revision).max().unwrap_or(0) + 1
    }

    /// Brings the annotations of the new set up to date, if there is one; the deployment's revision then.
    pub(super) fn refresh_new(&mut self, view: &View, status: &mut status::Status, world: &World) -> Option<String> {
        let next = self.next_revision();
        let new = self.new.as_mut()?;
        new.annotate(view, next);
        new.min_ready_seconds = view.spec.min_ready_seconds;
        let known = status.conditions.iter().any(|c| c.r#type == "Progressing");
        if view.progress_deadline().is_some() && !known {
            let message = format!("Found new replica set \"{}\"", new.name);
            status::set(status, "Progressing", "True", "FoundNewReplicaSet", message, world);
        }
        Some(new.annotations.get(REVISION).cloned().unwrap_or_default())
    }

    /// Makes a new set for the present template. After a name collision the count in `status` goes up instead.
    pub(super) fn make_new(
        &mut self,
        deployment: &Object,
        view: &View,
        status: &mut status::Status,
        world: &World,
    ) -> Option<String> {
        let hash = template::name(&view.spec.template, status.collision_count);
        let name = set_name(&deployment.head.name, &hash);
        let key = crate::owner::key_of(&deployment.head.namespace, &name);
        // The name is taken by something else: of another template, or another owner.
        if world.get(&REPLICA_SETS, &key).is_some() {
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            return None;
        }
        if let Some(failure) = world.failure().filter(|f| f.create && f.kind == &REPLICA_SETS)
            && view.progress_deadline().is_some()
            && !failure.status.is_already_exists()
        {
            let message = format!("Failed to create new replica set \"{name}\": {}", failure.status.message);
            status::set(status, "Progressing", "False", "ReplicaSetCreateError", message, world);
        }
        let revision = self.next_revision();
        let mut set = Set {
            object: None,
            name,
            created: world.now(),
            replicas: 0,
            annotations: BTreeMap::new(),
            status: replicaset::Status::default(),
            template: view.spec.template.clone(),
            was: (0, BTreeMap::new(), 0),
            min_ready_seconds: view.spec.min_ready_seconds,
            delete: false,
            hash,
        };
        set.annotate(view, revision);
        let size = scale::new_size(self.total(), 0, view);
        set.scale(size, view);
        if view.progress_deadline().is_some() && world.failure().is_none() {
            let message = format!("Created new replica set \"{}\"", set.name);
            let stamp = world.stamp();
            let mut created = Condition::new("Progressing", "True", "NewReplicaSetCreated", message, &stamp);
            created.last_update_time = Some(stamp);
            set_condition(&mut status.conditions, created);
        }
        self.new = Some(set);
        Some(revision.to_string())
    }

    /// Marks old sets beyond the history limit for deletion, the oldest revisions first. Sets with pods stay.
    pub(super) fn clean_up(&mut self, view: &View) {
        let Some(limit) = view.spec.revision_history_limit.filter(|limit| *limit != i64::from(i32::MAX)) else {
            return;
        };
        let alive = |set: &&mut Set| set.object.as_ref().is_some_and(|object| !object.head.is_terminating());
        let mut cleanable: Vec<&mut Set> = self.old.iter_mut().filter(alive).collect();
        let surplus = cleanable.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        cleanable.sort_by_key(|set| (set.revision(), set.created));
        for set in cleanable.into_iter().take(surplus) {
            let seen =
                set.object.as_ref().is_some_and(|object| object.head.generation <= set.status.observed_generation);
            set.delete = set.status.replicas == 0 && set.replicas == 0 && seen;
        }
    }

    /// Writes what changed, with upstream's events.
    pub(super) fn write(&self, deployment: &Arc<Object>, view: &View, plan: &mut Plan) {
        for set in self.all() {
            let Some(object) = &set.object else {
                plan.push(create(deployment, view, set));
                continue;
            };
            if set.delete {
                plan.push(Op::delete(&REPLICA_SETS, object));
            } else if let Some(change) = set.change() {
                let op = Op::update(&REPLICA_SETS, object, change);
                let (old, new) = (set.was.0, set.replicas);
                let direction = if old < new { "up" } else { "down" };
                let message = format!("Scaled {direction} replica set {} from {old} to {new}", set.name);
                let scaled = Event::normal(deployment, "ScalingReplicaSet", message);
                plan.push(if old == new { op } else { op.on_done(scaled) });
            }
        }
    }
}

fn create(deployment: &Object, view: &View, set: &Set) -> Op {
    let mut template = view.spec.template.clone();
    template["metadata"]["labels"][HASH_LABEL] = json!(set.hash);
    let mut selector = view.spec.selector.clone();
    selector["matchLabels"][HASH_LABEL] = json!(set.hash);
    let body = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": set.name,
            "namespace": deployment.head.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": set.annotations,
            "ownerReferences": [DEPLOYMENTS.controller_reference(deployment)],
        },
        "spec": {
            "replicas": set.replicas,
            "minReadySeconds": set.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    });
    let failed = format!("Failed to create new replica set \"{}\": {{error}}", set.name);
    let op = Op::create(&REPLICA_SETS, &deployment.head.namespace, body).on_failure(Event::warning(
        deployment,
        "ReplicaSetCreateError",
        failed,
    ));
    let message = format!("Scaled up replica set {} from 0 to {}", set.name, set.replicas);
    if set.replicas > 0 { op.on_done(Event::normal(deployment, "ScalingReplicaSet", message)) } else { op }
}

/// `<deployment>-<hash>`, cut to the length of a name.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - 1 - hash.len();
    format!("{}-{hash}", &deployment[..deployment.len().min(room)])
}
