//! An API server in memory, for the tests of everything that stands on [`Client`].
//!
//! Simple but honest: resource versions and conflicts, uids, generations, finalizers and grace, the `status`, `finalize`,
//! `binding`, `eviction` and `scale`-less subresources, selectors, watches that resume and expire, all patch types (the
//! strategic one and apply merge lists by their usual keys). No defaulting, no validation, no authorization.
//!
//! ```ignore
//! let server = FakeServer::new();
//! server.seed(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}));
//! let client = server.client("scheduler");
//! server.until(|| server.get(&pods, "ns", "p").is_some()).await;
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use object::{Draft, Gvr, Object, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Client, Resource, Result, WatchEvent};

mod discovery;
mod patch;
mod transport;

pub use patch::strategic_merge;

/// A request as an injected fault sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// Where it goes.
    pub at: Resource,
    /// Who sends it.
    pub user: String,
}

type Fault = Box<dyn FnMut(&Request) -> Option<Status> + Send>;

/// See the module. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct FakeServer {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    fault: Mutex<Option<Fault>>,
    requests: AtomicU64,
    broken_watches: AtomicBool,
}

/// Group and plural resource: versions of one resource share its objects.
type Table = (String, String);
type Event = (u64, Table, WatchEvent);

#[derive(Default)]
struct State {
    revision: u64,
    uids: u64,
    objects: BTreeMap<Table, BTreeMap<String, Arc<Object>>>,
    history: VecDeque<Event>,
    /// Watches from before this revision are too old.
    compacted: u64,
}

fn table(gvr: &Gvr) -> Table {
    (gvr.group.clone(), gvr.resource.clone())
}

fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl State {
    /// Seals a tree under the next revision, with the fields that can be selected on.
    fn seal(&mut self, mut value: Value) -> Result<Object> {
        self.revision += 1;
        let mut draft = Draft::new(&mut value).map_err(|e| Status::bad_request(e.to_string()))?;
        let selectable = [
            "spec.nodeName",
            "status.phase",
            "spec.schedulerName",
            "involvedObject.name",
            "involvedObject.uid",
            "type",
            "reason",
        ];
        let text = |path: &str| value.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
        draft.head.fields = selectable.iter().filter_map(|path| Some((path, text(path)?))).collect();
        Ok(draft.seal(self.revision))
    }

    fn put(&mut self, table: &Table, value: Value) -> Result<Arc<Object>> {
        let object = Arc::new(self.seal(value)?);
        let old = self.objects.entry(table.clone()).or_default().insert(object.head.key(), object.clone());
        let event =
            if old.is_some() { WatchEvent::Modified(object.clone()) } else { WatchEvent::Added(object.clone()) };
        self.history.push_back((self.revision, table.clone(), event));
        Ok(object)
    }

    fn take(&mut self, table: &Table, key: &str) -> Option<Arc<Object>> {
        let old = self.objects.get_mut(table)?.remove(key)?;
        self.revision += 1;
        let last = Arc::new(old.with_revision(self.revision).ok()?);
        self.history.push_back((self.revision, table.clone(), WatchEvent::Deleted(last)));
        Some(old)
    }

    fn find(&self, at: &Resource) -> Result<Arc<Object>> {
        let name = at.name.as_deref().unwrap_or_default();
        let key = key(at.namespace.as_deref().unwrap_or_default(), name);
        let found = self.objects.get(&table(&at.gvr)).and_then(|objects| objects.get(&key)).cloned();
        found.ok_or_else(|| Status::not_found(&at.gvr.group, &at.gvr.resource, name))
    }

    /// What the server assigns to a new object.
    fn stamp(&mut self, value: &mut Value) {
        self.uids += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.uids);
        let Some(metadata) = value["metadata"].as_object_mut() else { return };
        metadata.entry("uid").or_insert_with(|| json!(uid));
        metadata.entry("creationTimestamp").or_insert_with(|| json!(base::time::now()));
        metadata.entry("generation").or_insert(json!(1));
    }
}

impl Default for FakeServer {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeServer {
    /// An empty server.
    pub fn new() -> Self {
        let (revision, _) = watch::channel(1);
        let state = State { revision: 1, ..State::default() };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                revision,
                fault: Mutex::new(None),
                requests: AtomicU64::new(0),
                broken_watches: AtomicBool::new(false),
            }),
        }
    }

    /// A client whose requests carry the name `user` and whose writes are recorded under it.
    pub fn client(&self, user: &str) -> Client {
        Client::new(Arc::new(transport::FakeTransport { server: self.clone(), user: user.into() }), user)
    }

    /// Stores an object as it is given, status included; uid, creation time and generation are made up where they are
    /// missing. The resource follows from the kind.
    pub fn seed(&self, mut value: Value) -> Arc<Object> {
        let kind = value["kind"].as_str().unwrap_or_default();
        let api_version = value["apiVersion"].as_str().unwrap_or_default();
        let (group, _) = object::names::split_api_version(api_version);
        let table = (group.to_owned(), discovery::plural(kind));
        let object = {
            let mut state = self.inner.state.lock();
            state.stamp(&mut value);
            state.put(&table, value).unwrap_or_else(|status| panic!("the object to seed is malformed: {status}"))
        };
        self.announce();
        object
    }

    /// Removes an object at once, finalizers or not.
    pub fn remove(&self, gvr: &Gvr, namespace: &str, name: &str) {
        self.inner.state.lock().take(&table(gvr), &key(namespace, name));
        self.announce();
    }

    /// Changes an object in place, as another client would.
    pub fn modify(&self, gvr: &Gvr, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        {
            let mut state = self.inner.state.lock();
            let found = state.objects.get(&table(gvr)).and_then(|objects| objects.get(&key(namespace, name))).cloned();
            let Some(mut value) = found.and_then(|object| object.value().ok()) else { return };
            change(&mut value);
            state
                .put(&table(gvr), value)
                .unwrap_or_else(|status| panic!("the change makes a malformed object: {status}"));
        }
        self.announce();
    }

    /// An object.
    pub fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.inner.state.lock().objects.get(&table(gvr))?.get(&key(namespace, name)).cloned()
    }

    /// An object as a tree; `Null` when there is none.
    pub fn value(&self, gvr: &Gvr, namespace: &str, name: &str) -> Value {
        self.get(gvr, namespace, name).and_then(|object| object.value().ok()).unwrap_or_default()
    }

    /// All objects of a resource, in key order.
    pub fn list(&self, gvr: &Gvr) -> Vec<Arc<Object>> {
        self.inner
            .state
            .lock()
            .objects
            .get(&table(gvr))
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.inner.state.lock().revision
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Waits until `done` says so, asking again after each write.
    ///
    /// # Panics
    /// After a minute without.
    pub async fn until(&self, done: impl Fn() -> bool) {
        let mut revision = self.inner.revision.subscribe();
        let wait = async {
            while !done() {
                // The sender lives in `self`.
                let _ = revision.changed().await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(ended.is_ok(), "the server did not come to the expected state");
    }

    /// From now on `fault` sees each request and may answer it with an error.
    pub fn inject(&self, fault: impl FnMut(&Request) -> Option<Status> + Send + 'static) {
        *self.inner.fault.lock() = Some(Box::new(fault));
    }

    /// No more faults.
    pub fn heal(&self) {
        *self.inner.fault.lock() = None;
    }

    /// While `broken`, watches end at once, running ones too.
    pub fn break_watches(&self, broken: bool) {
        self.inner.broken_watches.store(broken, Ordering::SeqCst);
        self.announce();
    }

    /// Forgets the history: watches from before now are too old (410).
    pub fn expire_history(&self) {
        let mut state = self.inner.state.lock();
        state.history.clear();
        state.compacted = state.revision;
    }

    fn announce(&self) {
        let revision = self.revision();
        self.inner.revision.send_replace(revision);
    }

    fn admit(&self, request: Request) -> Result<()> {
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.inner.fault.lock().as_mut().and_then(|fault| fault(&request));
        answer.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
