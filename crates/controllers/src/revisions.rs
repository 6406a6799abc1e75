//! ControllerRevisions: the templates that a daemon set or stateful set had.

use std::sync::Arc;

use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hash;
use crate::kinds::{CONTROLLER_REVISIONS, Kind};
use crate::plan::Op;
use crate::world::World;

/// The label of a revision with the hash of its template.
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// The label of a pod with its revision.
pub(crate) const POD_LABEL: &str = "controller-revision-hash";

/// A revision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// Its name.
    pub name: String,
    /// The hash in the name.
    pub hash: String,
    /// Its number; the newest has the highest.
    pub number: i64,
    /// The pod template.
    pub template: Value,
    object: Option<Arc<Object>>,
}

/// The revisions of an owner, the one of the present template last.
#[derive(Debug)]
pub(crate) struct Revisions {
    /// Older ones, in order.
    pub old: Vec<Revision>,
    /// The present one.
    pub present: Revision,
    /// Makes or renumbers the present one.
    pub ops: Vec<Op>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    revision: i64,
    data: Value,
}

/// The revisions of `owner`, whose template is now `template`.
pub(crate) fn of(
    owner_kind: &Kind,
    owner: &Object,
    template: &Value,
    collisions: Option<i64>,
    world: &World,
) -> Revisions {
    let mut known: Vec<Revision> = world.owned(&CONTROLLER_REVISIONS, &owner.head.uid).into_iter().map(read).collect();
    known.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    let next = known.last().map_or(1, |last| last.number + 1);
    if let Some(at) = known.iter().rposition(|revision| revision.template == *template) {
        let mut present = known.remove(at);
        let mut ops = Vec::new();
        // Rolled back to: it becomes the newest again.
        if at < known.len()
            && let Some(object) = &present.object
        {
            present.number = next;
            ops.push(Op::update(&CONTROLLER_REVISIONS, object, json!({"revision": next})));
        }
        return Revisions { old: known, present, ops };
    }
    let hash = hash::label(template, collisions);
    let name = format!("{}-{hash}", owner.head.name);
    let mut labels = template["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels[HASH_LABEL] = json!(hash);
    labels[POD_LABEL] = json!(hash);
    let mut data = template.clone();
    data["$patch"] = json!("replace");
    let body = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": name, "namespace": owner.head.namespace, "labels": labels,
            "ownerReferences": [owner_kind.controller_reference(owner)]},
        "data": {"spec": {"template": data}}, "revision": next,
    });
    let op = Op::create(&CONTROLLER_REVISIONS, &owner.head.namespace, body);
    let present = Revision { name, hash, number: next, template: template.clone(), object: None };
    Revisions { old: known, present, ops: vec![op] }
}

fn read(object: Arc<Object>) -> Revision {
    let view: View = object.view().unwrap_or_default();
    let mut template = view.data["spec"]["template"].clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    let hash =
        object.head.labels.get(HASH_LABEL).or_else(|| object.head.labels.get(POD_LABEL)).unwrap_or_default().to_owned();
    Revision { name: object.head.name.clone(), hash, number: view.revision, template, object: Some(object) }
}

impl Revisions {
    /// Deletes the oldest beyond `limit` that no pod has.
    pub fn clean_up(&self, limit: i64, is_used: impl Fn(&Revision) -> bool) -> Vec<Op> {
        let unused: Vec<&Revision> = self.old.iter().filter(|revision| !is_used(revision)).collect();
        let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let objects = unused.into_iter().take(surplus).filter_map(|revision| revision.object.as_ref());
        objects.map(|object| Op::delete(&CONTROLLER_REVISIONS, object)).collect()
    }

    /// The revision of that name, old or present.
    pub fn named(&self, name: &str) -> Option<&Revision> {
        self.old.iter().chain([&self.present]).find(|revision| revision.name == name)
    }
}
