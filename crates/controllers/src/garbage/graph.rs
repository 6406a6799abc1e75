//! The graph of owners and dependents, by uid. A node that only its dependents know of is *virtual*.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use object::{Gvr, Object, OwnerReference};

use super::verdict::Owner;
use crate::discovery::ApiResource;

/// The finalizer of a deletion that waits for the dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that leaves the dependents.
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Known for what was observed; a virtual node has only its kind.
    pub gvr: Option<Gvr>,
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Identity {
    fn of(resource: &ApiResource, object: &Object) -> Self {
        Self {
            gvr: Some(resource.gvr.clone()),
            api_version: resource.gvr.api_version(),
            kind: resource.kind.clone(),
            namespace: object.head.namespace.clone(),
            name: object.head.name.clone(),
        }
    }
}

/// What is known of an object. There is one node for each object of the cluster, so it shares what it can.
enum Known {
    /// It was observed.
    Seen(Arc<ApiResource>, Arc<Object>),
    /// Only its dependents know of it.
    Virtual,
}

struct Node {
    known: Known,
    dependents: BTreeSet<Uid>,
}

type Uid = Arc<str>;

impl Node {
    const VIRTUAL: Self = Self { known: Known::Virtual, dependents: BTreeSet::new() };

    fn object(&self) -> Option<&Arc<Object>> {
        match &self.known {
            Known::Seen(_, object) => Some(object),
            Known::Virtual => None,
        }
    }

    fn owners(&self) -> &[OwnerReference] {
        self.object().map_or(&[], |object| &object.head.owners)
    }

    /// Its deletion waits for its dependents.
    fn is_waiting(&self) -> bool {
        self.object().is_some_and(|object| waits_for_dependents(object))
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
}

/// True when an object's deletion waits for its dependents.
pub(super) fn waits_for_dependents(object: &Object) -> bool {
    object.head.is_terminating() && object.head.finalizers.iter().any(|f| f == FOREGROUND)
}

impl Graph {
    /// Takes in the present state of an object; the uids that are to be looked at.
    pub fn observe(&mut self, resource: &Arc<ApiResource>, object: &Arc<Object>) -> Vec<String> {
        let mut due = Vec::new();
        if object.head.uid.is_empty() {
            return due;
        }
        let uid: Uid = match self.nodes.get_key_value(&*object.head.uid) {
            Some((uid, _)) => uid.clone(),
            None => object.head.uid.as_str().into(),
        };
        let node = self.nodes.entry(uid.clone()).or_insert(Node::VIRTUAL);
        let (known, was_waiting) = (node.object().is_some(), node.is_waiting());
        let before = std::mem::replace(&mut node.known, Known::Seen(resource.clone(), object.clone()));
        let orphan = object.head.is_terminating() && object.head.finalizers.iter().any(|f| f == ORPHAN);
        if node.is_waiting() && !was_waiting {
            due.extend(node.dependents.iter().map(|uid| uid.to_string()));
            due.push(uid.to_string());
        }
        let old: &[OwnerReference] = match &before {
            Known::Seen(_, before) => &before.head.owners,
            Known::Virtual => &[],
        };
        for owner in old {
            let kept = object.head.owners.iter().find(|o| o.uid == owner.uid);
            if kept.is_none() {
                self.unlink(&owner.uid, &uid);
            }
            // An owner that waits is told when this one no longer blocks it.
            if owner.block_owner_deletion && kept.is_none_or(|o| !o.block_owner_deletion) {
                due.push(owner.uid.to_string());
            }
        }
        for owner in &object.head.owners {
            due.extend(self.link(owner, &uid).then(|| uid.to_string()));
        }
        if !known || old != object.head.owners {
            due.extend((!object.head.owners.is_empty()).then(|| uid.to_string()));
        }
        if orphan {
            due.push(uid.to_string());
        }
        // It goes: an owner that waits for it looks again when it is gone (see `forget`).
        due.sort();
        due.dedup();
        due
    }

    /// An object is gone; its dependents, and its owners that wait, are to be looked at.
    pub fn forget(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut due: Vec<String> = node.dependents.iter().map(|uid| uid.to_string()).collect();
        for owner in node.owners() {
            self.unlink(&owner.uid, uid);
            if self.nodes.get(&*owner.uid).is_some_and(Node::is_waiting) {
                due.push(owner.uid.to_string());
            }
        }
        due
    }

    /// Files a dependent with its owner. True when a virtual node was made for an owner that was not seen yet: the dependent is looked
    /// at, and with it, live, this owner.
    fn link(&mut self, owner: &OwnerReference, dependent: &Uid) -> bool {
        if let Some(node) = self.nodes.get_mut(&*owner.uid) {
            node.dependents.insert(dependent.clone());
            return false;
        }
        let node = Node { dependents: BTreeSet::from([dependent.clone()]), ..Node::VIRTUAL };
        self.nodes.insert((&*owner.uid).into(), node);
        true
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(dependent);
        if node.object().is_none() && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// Where the object with this uid is; `None` when it is not in the graph or only its dependents know of it.
    pub fn identity(&self, uid: &str) -> Option<Identity> {
        match &self.nodes.get(uid)?.known {
            Known::Seen(resource, object) => Some(Identity::of(resource, object)),
            Known::Virtual => None,
        }
    }

    /// What is known of an owner without asking the server. An owner in another namespace is none.
    pub fn owner(&self, reference: &OwnerReference, namespace: &str) -> Option<Owner> {
        let Known::Seen(resource, object) = &self.nodes.get(&*reference.uid)?.known else { return None };
        let fits = object.head.namespace.is_empty() || object.head.namespace == namespace;
        let same = reference.kind == resource.kind && reference.name == object.head.name;
        if !fits || !same {
            return None;
        }
        Some(if waits_for_dependents(object) { Owner::Waiting } else { Owner::Solid })
    }

    /// The dependents that were observed.
    pub fn dependents(&self, uid: &str) -> Vec<(Identity, String)> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|uid| self.identity(uid).map(|identity| (identity, uid.to_string()))).collect()
    }

    /// The dependents that block a foreground deletion.
    pub fn blocking(&self, uid: &str) -> Vec<String> {
        let blocks = |dependent: &&Uid| {
            let node = self.nodes.get(*dependent);
            node.is_some_and(|n| n.owners().iter().any(|o| o.uid == *uid && o.block_owner_deletion))
        };
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter(blocks).map(|uid| uid.to_string()).collect()
    }

    /// True when a dependent waits for its own dependents: perhaps in a circle.
    pub fn has_waiting_dependents(&self, uid: &str) -> bool {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|uid| self.nodes.get(uid)).any(Node::is_waiting)
    }

    /// True when something depends on it.
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| !node.dependents.is_empty())
    }
}
