//! What a controller sees: the caches, the time, and what failed last.

use std::collections::HashMap;
use std::sync::Arc;

use client::Lister;
use object::{LabelSelector, Object, Status};
use parking_lot::RwLock;

use crate::Options;
use crate::kinds::{Kind, PODS};
use crate::views::Pod;

/// The caches of all informers, shared by all controllers.
#[derive(Clone, Default)]
pub struct Caches {
    listers: HashMap<&'static str, Lister>,
    pods: Arc<RwLock<Pods>>,
    seen: Arc<RwLock<HashMap<String, Seen>>>,
}

/// Where a pod is, and its phase. Its head tells, unless it comes from a server that is not ours.
pub(crate) fn node_and_phase(pod: &Object) -> (String, String) {
    let of_head = |field: &str| pod.head.fields.get(field).unwrap_or_default().to_owned();
    match pod.head.fields.is_empty() {
        false => (of_head("spec.nodeName"), of_head("status.phase")),
        true => pod.view::<Pod>().map(|pod| (pod.spec.node_name, pod.status.phase)).unwrap_or_default(),
    }
}

/// A pod's revision, and what it says.
type Decoded = (u64, Arc<Pod>);

/// Pods that were decoded lately, by uid: at most twice [`GENERATION`], however many there are. A decoded pod takes as much memory as a
/// stored one, and few are looked at again and again.
#[derive(Default)]
struct Pods {
    young: HashMap<String, Decoded>,
    /// Those that were young before; who is looked up becomes young again.
    old: HashMap<String, Decoded>,
}

/// See [`Pods`].
const GENERATION: usize = 1024;

impl Pods {
    /// What is known of this very revision.
    fn young(&self, uid: &str, revision: u64) -> Option<Arc<Pod>> {
        self.young.get(uid).filter(|(known, _)| *known == revision).map(|(_, pod)| pod.clone())
    }

    /// The same, of those that were young before.
    fn old(&mut self, uid: &str, revision: u64) -> Option<Arc<Pod>> {
        let (_, pod) = self.old.remove(uid).filter(|(known, _)| *known == revision)?;
        self.insert(uid, revision, pod.clone());
        Some(pod)
    }

    fn insert(&mut self, uid: &str, revision: u64, pod: Arc<Pod>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(uid.to_owned(), (revision, pod));
    }
}
/// A version, and when it was first looked at.
type Seen = (String, i64);

impl Caches {
    /// Adds the cache of a kind.
    pub fn insert(&mut self, kind: &'static Kind, lister: Lister) {
        if kind == &PODS {
            lister.add_index(BY_NODE, |pod| Vec::from_iter(Some(node_and_phase(pod).0).filter(|n| !n.is_empty())));
            lister.add_index(FINISHED, |pod| {
                let finished = matches!(node_and_phase(pod).1.as_str(), "Succeeded" | "Failed");
                Vec::from_iter(finished.then(String::new))
            });
        }
        self.listers.insert(kind.resource, lister);
    }

    /// The cache of a kind, if an informer follows it.
    pub fn lister(&self, kind: &Kind) -> Option<&Lister> {
        self.listers.get(kind.resource)
    }
}

const BY_NODE: &str = "node";
const FINISHED: &str = "finished";

/// An operation that failed when the key was last worked on.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind of the operation.
    pub kind: &'static Kind,
    /// True for a create.
    pub create: bool,
    /// What the server said.
    pub status: Status,
}

/// See the module.
#[derive(Clone)]
pub struct World {
    caches: Caches,
    options: Arc<Options>,
    now: i64,
    failure: Option<Failure>,
}

impl World {
    /// The world at the time `now` (seconds since the epoch).
    pub fn new(caches: Caches, options: Arc<Options>, now: i64) -> Self {
        Self { caches, options, now, failure: None }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &Kind) -> usize {
        self.caches.lister(kind).map_or(0, Lister::len)
    }

    /// The same with the failure of the attempt before.
    pub fn after(self, failure: Option<Failure>) -> Self {
        Self { failure, ..self }
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Now as `metav1.Time` prints it.
    pub fn stamp(&self) -> String {
        base::time::format_seconds(self.now)
    }

    /// What failed when this key was last worked on.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// How the controllers are set up.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The newest revision that the cache of a kind has seen.
    pub fn revision(&self, kind: &Kind) -> u64 {
        self.caches.lister(kind).map_or(0, Lister::revision)
    }

    /// An object by its key.
    pub fn get(&self, kind: &Kind, key: &str) -> Option<Arc<Object>> {
        self.caches.lister(kind)?.get(key)
    }

    /// The objects of a namespace, or all.
    pub fn list(&self, kind: &Kind, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(lister) = self.caches.lister(kind) else { return Vec::new() };
        namespace.map_or_else(|| lister.list(), |ns| lister.list_namespace(ns))
    }

    /// The objects of a namespace that a selector selects.
    pub fn select(&self, kind: &Kind, namespace: &str, selector: &LabelSelector) -> Vec<Arc<Object>> {
        self.caches.lister(kind).map(|lister| lister.select(Some(namespace), selector)).unwrap_or_default()
    }

    /// The objects that name the owner `uid`.
    pub fn owned(&self, kind: &Kind, uid: &str) -> Vec<Arc<Object>> {
        self.caches.lister(kind).map(|lister| lister.by_owner(uid)).unwrap_or_default()
    }

    /// The pods that are bound to a node.
    pub fn pods_on(&self, node: &str) -> Vec<Arc<Object>> {
        self.caches.lister(&PODS).map(|lister| lister.by_index(BY_NODE, node)).unwrap_or_default()
    }

    /// The pods that ended.
    pub fn finished_pods(&self) -> Vec<Arc<Object>> {
        self.caches.lister(&PODS).map(|lister| lister.by_index(FINISHED, "")).unwrap_or_default()
    }

    /// A pod decoded; mostly, each revision once for all controllers.
    pub fn pod(&self, object: &Object) -> Arc<Pod> {
        let (uid, revision) = (&object.head.uid, object.head.resource_version);
        if let Some(pod) = self.caches.pods.read().young(uid, revision) {
            return pod;
        }
        if let Some(pod) = self.caches.pods.write().old(uid, revision) {
            return pod;
        }
        let pod: Arc<Pod> = Arc::new(object.view().unwrap_or_else(|error| {
            tracing::warn!(%error, pod = object.head.key(), "a pod cannot be read");
            Pod::default()
        }));
        self.caches.pods.write().insert(uid, revision, pod.clone());
        pod
    }

    /// When `version` of the thing `what` was first looked at: other machines' clocks are not trusted.
    pub fn first_seen(&self, what: &str, version: &str) -> i64 {
        let mut seen = self.caches.seen.write();
        match seen.get(what) {
            Some((known, at)) if known == version => *at,
            _ => {
                seen.insert(what.into(), (version.into(), self.now));
                self.now
            }
        }
    }

    /// Whether this `version` of the thing `what` was never looked at, nor asked for here.
    pub fn is_new(&self, what: &str, version: &str) -> bool {
        let mut seen = self.caches.seen.write();
        let known = seen.insert(what.into(), (version.into(), self.now));
        known.is_none_or(|(known, _)| known != version)
    }

    /// Forgets what [`World::first_seen`] noted of a thing.
    pub fn forget(&self, what: &str) {
        self.caches.seen.write().remove(what);
    }
}
