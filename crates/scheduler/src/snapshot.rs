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
    pub(crate) generation: i64,
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
            generation: object.head.generation,
            labels: object.head.labels.to_map(),
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

/// A pod for which a node was, or is being, cleared of others.
#[derive(Clone, Debug)]
struct Nomination {
    pod: Arc<Pod>,
    node: String,
    /// Uids of the pods that have to go.
    victims: Vec<String>,
}

/// All nodes. Pods are counted on a node from the moment when a decision assumes them there.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    nodes: BTreeMap<String, Node>,
    /// Pod uid -> node name.
    places: HashMap<String, String>,
    /// By pod uid.
    nominations: HashMap<String, Nomination>,
    /// Labels by name.
    namespaces: HashMap<String, BTreeMap<String, String>>,
}

impl Snapshot {
    /// The nodes that exist.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|n| n.known)
    }

    /// A node by its name.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).filter(|n| n.known)
    }

    /// A namespace was added or changed.
    pub(crate) fn set_namespace(&mut self, object: &Object) {
        self.namespaces.insert(object.head.name.clone(), object.head.labels.to_map());
    }

    /// A namespace is gone.
    pub(crate) fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// The labels of a namespace.
    pub(crate) fn namespace_labels(&self, name: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.namespaces.get(name).unwrap_or(&NONE)
    }

    /// The node is kept for the pod, which runs there once the victims (uids) are gone.
    pub(crate) fn nominate(&mut self, pod: Arc<Pod>, node: &str, victims: Vec<String>) {
        self.nominations.insert(pod.uid.clone(), Nomination { pod, node: node.into(), victims });
    }

    /// Nothing is kept for the pod any more.
    pub(crate) fn forget_nomination(&mut self, uid: &str) {
        self.nominations.remove(uid);
    }

    /// The node that is kept for a pod.
    pub(crate) fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominations.get(uid).map(|n| n.node.as_str())
    }

    /// Pods of less priority that hope for this node.
    pub(crate) fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<Pod>> {
        let all = self.nominations.values().filter(|n| n.node == node && n.pod.view.spec.priority < priority);
        all.map(|n| n.pod.clone()).collect()
    }

    /// True while pods on the pod's nominated node are going for its sake.
    pub(crate) fn is_being_cleared(&self, pod: &Pod) -> bool {
        let Some(nomination) = self.nominations.get(&pod.uid) else { return false };
        let Some(node) = self.node(&nomination.node) else { return false };
        nomination.victims.iter().any(|uid| node.pods.contains_key(uid))
            || node.pods.values().any(|p| p.terminating && p.view.spec.priority < pod.view.spec.priority)
    }

    /// Counts the pods of the same or more priority on the nodes that are kept for them while `work` decides about `pod`.
    pub(crate) fn with_nominated<T>(&mut self, pod: &Pod, work: impl FnOnce(&mut Self) -> T) -> T {
        let others = self.nominations.values().filter(|n| {
            n.pod.uid != pod.uid
                && n.pod.view.spec.priority >= pod.view.spec.priority
                && !self.places.contains_key(&n.pod.uid)
        });
        let others: Vec<Nomination> = others.cloned().collect();
        for nomination in &others {
            self.place(nomination.pod.clone(), &nomination.node);
        }
        let outcome = work(self);
        for nomination in &others {
            self.remove_pod(&nomination.pod.uid);
        }
        outcome
    }

    /// A node was added or changed.
    pub(crate) fn set_node(&mut self, object: &Object) {
        let Ok(view) = object.view::<NodeView>() else { return };
        let node = self.nodes.entry(object.head.name.clone()).or_default();
        node.name = object.head.name.clone();
        node.labels = object.head.labels.to_map();
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
