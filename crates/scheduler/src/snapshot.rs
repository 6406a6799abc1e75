//! The cluster as one scheduling decision sees it: nodes, and what runs (or is about to) on each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use object::Object;

use crate::views::{Amounts, NodeView, PodView, Port};

/// A pod with what decisions need of it, computed once.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) view: PodView,
    pub(crate) requests: Amounts,
    pub(crate) ports: Vec<Port>,
    /// Deletion was requested.
    pub(crate) terminating: bool,
}

impl Pod {
    /// `None` when the object is no readable pod.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let view: PodView = object.view().ok()?;
        Some(Self {
            namespace: object.head.namespace.clone(),
            name: object.head.name.clone(),
            uid: object.head.uid.clone(),
            labels: object.head.labels.clone(),
            requests: view.spec.requests(),
            ports: view.spec.host_ports(),
            terminating: object.head.is_terminating(),
            view,
        })
    }
}

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) view: NodeView,
    pub(crate) allocatable: Amounts,
    pub(crate) used: Amounts,
    pub(crate) pods: HashMap<String, Arc<Pod>>,
    /// The Node object was seen; pods may be seen before it.
    pub(crate) known: bool,
}

/// All nodes. Pods are counted on a node from the moment when a decision assumes them there.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    nodes: BTreeMap<String, Node>,
    /// Pod uid -> node name.
    places: HashMap<String, String>,
}

impl Snapshot {
    /// The nodes that exist.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|n| n.known)
    }

    /// A node was added or changed.
    pub(crate) fn set_node(&mut self, object: &Object) {
        let Ok(view) = object.view::<NodeView>() else { return };
        let node = self.nodes.entry(object.head.name.clone()).or_default();
        node.name = object.head.name.clone();
        node.labels = object.head.labels.clone();
        node.allocatable = Amounts::of(&view.status.allocatable);
        node.view = view;
        node.known = true;
    }

    /// A node is gone.
    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.known = false;
            if node.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// The pod runs, or will run, on this node.
    pub(crate) fn place(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove_pod(&pod.uid);
        let entry = self.nodes.entry(node.into()).or_default();
        entry.used.add(&pod.requests);
        self.places.insert(pod.uid.clone(), node.into());
        entry.pods.insert(pod.uid.clone(), pod);
    }

    /// The pod is gone, finished, or was not bound after all.
    pub(crate) fn remove_pod(&mut self, uid: &str) {
        let Some(name) = self.places.remove(uid) else { return };
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if let Some(pod) = node.pods.remove(uid) {
            node.used.subtract(&pod.requests);
        }
        if !node.known && node.pods.is_empty() {
            self.nodes.remove(&name);
        }
    }
}
