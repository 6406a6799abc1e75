//! The graph of owners and dependents, by uid. A node that only its dependents know of is *virtual*.

use std::collections::{BTreeSet, HashMap};

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
    pub fn of(resource: &ApiResource, object: &Object) -> Self {
        Self {
            gvr: Some(resource.gvr.clone()),
            api_version: resource.gvr.api_version(),
            kind: resource.kind.clone(),
            namespace: object.head.namespace.clone(),
            name: object.head.name.clone(),
        }
    }
}

struct Node {
    identity: Identity,
    owners: Vec<OwnerReference>,
    dependents: BTreeSet<String>,
    is_virtual: bool,
    /// Its deletion waits for its dependents.
    foreground: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
}

/// True when an object's deletion waits for its dependents.
pub(super) fn waits_for_dependents(object: &Object) -> bool {
    object.head.is_terminating() && object.head.finalizers.iter().any(|f| f == FOREGROUND)
}

impl Graph {
    /// Takes in the present state of an object; the uids that are to be looked at.
    pub fn observe(&mut self, identity: Identity, object: &Object) -> Vec<String> {
        let uid = &object.head.uid;
        let mut due = Vec::new();
        if uid.is_empty() {
            return due;
        }
        let (old, known) = match self.nodes.get(uid) {
            Some(node) => (node.owners.clone(), !node.is_virtual),
            None => (Vec::new(), false),
        };
        let foreground = waits_for_dependents(object);
        let orphan = object.head.is_terminating() && object.head.finalizers.iter().any(|f| f == ORPHAN);
        let was_foreground = self.nodes.get(uid).is_some_and(|node| node.foreground);
        let node = self.nodes.entry(uid.clone()).or_insert_with(|| Node {
            identity: identity.clone(),
            owners: Vec::new(),
            dependents: BTreeSet::new(),
            is_virtual: true,
            foreground: false,
        });
        node.identity = identity;
        node.is_virtual = false;
        node.foreground = foreground;
        node.owners.clone_from(&object.head.owners);
        let (namespace, dependents) = (object.head.namespace.clone(), node.dependents.clone());
        for owner in &old {
            let kept = object.head.owners.iter().find(|o| o.uid == owner.uid);
            if kept.is_none() {
                self.unlink(&owner.uid, uid);
            }
            // An owner that waits is told when this one no longer blocks it.
            if owner.block_owner_deletion && kept.is_none_or(|o| !o.block_owner_deletion) {
                due.push(owner.uid.clone());
            }
        }
        for owner in &object.head.owners {
            due.extend(self.link(owner, uid, &namespace));
        }
        if !known || old.len() > object.head.owners.len() || old != object.head.owners {
            due.extend((!object.head.owners.is_empty()).then(|| uid.clone()));
        }
        if orphan {
            due.push(uid.clone());
        }
        if foreground && !was_foreground {
            due.extend(dependents);
            due.push(uid.clone());
        }
        // It goes: an owner that waits for it looks again when it is gone (see `forget`).
        due.sort();
        due.dedup();
        due
    }

    /// An object is gone; its dependents, and its owners that wait, are to be looked at.
    pub fn forget(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut due: Vec<String> = node.dependents.iter().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.nodes.get(&owner.uid).is_some_and(|owner| owner.foreground) {
                due.push(owner.uid.clone());
            }
        }
        due
    }

    /// Files a dependent with its owner; a virtual node is made, and looked at, for an owner that was not seen yet.
    fn link(&mut self, owner: &OwnerReference, dependent: &str, namespace: &str) -> Option<String> {
        if let Some(node) = self.nodes.get_mut(&owner.uid) {
            node.dependents.insert(dependent.to_owned());
            return None;
        }
        let identity = Identity {
            gvr: None,
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
        };
        let node = Node {
            identity,
            owners: Vec::new(),
            dependents: BTreeSet::from([dependent.to_owned()]),
            is_virtual: true,
            foreground: false,
        };
        self.nodes.insert(owner.uid.clone(), node);
        // The dependent itself is looked at, and with it, live, this owner.
        Some(dependent.to_owned())
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(dependent);
        if node.is_virtual && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// Where the object with this uid is; `None` when it is not in the graph or only its dependents know of it.
    pub fn identity(&self, uid: &str) -> Option<Identity> {
        self.nodes.get(uid).filter(|node| !node.is_virtual).map(|node| node.identity.clone())
    }

    /// What is known of an owner without asking the server. An owner in another namespace is none.
    pub fn owner(&self, reference: &OwnerReference, namespace: &str) -> Option<Owner> {
        let node = self.nodes.get(&reference.uid).filter(|node| !node.is_virtual)?;
        let fits = node.identity.namespace.is_empty() || node.identity.namespace == namespace;
        let same = node.identity.kind == reference.kind && node.identity.name == reference.name;
        if !fits || !same {
            return None;
        }
        Some(if node.foreground { Owner::Waiting } else { Owner::Solid })
    }

    /// The dependents that were observed.
    pub fn dependents(&self, uid: &str) -> Vec<(Identity, String)> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|uid| self.identity(uid).map(|identity| (identity, uid.clone()))).collect()
    }

    /// The dependents that block a foreground deletion.
    pub fn blocking(&self, uid: &str) -> Vec<String> {
        let blocks = |dependent: &&String| {
            let node = self.nodes.get(*dependent);
            node.is_some_and(|n| n.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion))
        };
        self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents).filter(blocks).cloned().collect()
    }

    /// True when a dependent waits for its own dependents: perhaps in a circle.
    pub fn has_waiting_dependents(&self, uid: &str) -> bool {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|uid| self.nodes.get(uid)).any(|node| node.foreground)
    }

    /// True when something depends on it.
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| !node.dependents.is_empty())
    }
}
