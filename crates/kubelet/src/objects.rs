//! ConfigMaps and Secrets that pods of this node refer to: each is watched by name for as long as a pod needs it, and
//! pods are woken when one changes. Never a list of all objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Change, Client, Informer, ListOptions, Lister, Resource};
use object::{FieldSelector, Gvr, Object};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the first read of an object may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds that pods refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    /// `ConfigMap`, `Secret`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
    fn singular(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
    fn gvr(self) -> Gvr {
        match self {
            Self::ConfigMap => Gvr::new("", "v1", "configmaps"),
            Self::Secret => Gvr::new("", "v1", "secrets"),
        }
    }
}

/// Why an object cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ObjectsError {
    /// There is none.
    #[error("{singular} {name:?} not found")]
    NotFound { singular: &'static str, name: String },
    /// The API server did not answer in time, or refuses.
    #[error("failed to sync {singular} cache: timed out waiting for the condition")]
    NotSynced { singular: &'static str },
}

impl ObjectsError {
    /// True when the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

type Key = (ObjectKind, String, String);

struct Watched {
    lister: Lister,
    synced: watch::Receiver<bool>,
    stop: CancellationToken,
    /// By pod uid.
    users: HashMap<String, Arc<Notify>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The watched objects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    watched: Mutex<HashMap<Key, Watched>>,
    /// One task per watched object.
    tasks: Mutex<JoinSet<()>>,
}

impl Objects {
    /// An empty set.
    pub(crate) fn new(client: Client) -> Self {
        Self { inner: Arc::new(Inner { client, watched: Mutex::default(), tasks: Mutex::default() }) }
    }

    /// From now on the pod `uid` needs exactly `wanted`; `wake` is notified when one of them changes.
    pub(crate) fn register(&self, uid: &str, namespace: &str, wanted: &[(ObjectKind, String)], wake: &Arc<Notify>) {
        let mut watched = self.inner.watched.lock();
        for (kind, name) in wanted {
            let key = (*kind, namespace.to_owned(), name.clone());
            let entry = watched.entry(key.clone()).or_insert_with(|| self.start(key));
            entry.users.insert(uid.to_owned(), wake.clone());
        }
        watched.retain(|(kind, ns, name), entry| {
            if !(ns == namespace && wanted.iter().any(|(k, n)| k == kind && n == name)) {
                entry.users.remove(uid);
            }
            !entry.users.is_empty()
        });
    }

    /// The pod `uid` is gone.
    pub(crate) fn release(&self, uid: &str) {
        self.inner.watched.lock().retain(|_, entry| {
            entry.users.remove(uid);
            !entry.users.is_empty()
        });
    }

    fn start(&self, key: Key) -> Watched {
        let (kind, namespace, name) = key.clone();
        let at = Resource::collection(&kind.gvr(), Some(&namespace));
        let fields = FieldSelector { terms: vec![("metadata.name".into(), true, name)] };
        let options = ListOptions { fields, ..ListOptions::default() };
        let mut informer = Informer::new(self.inner.client.clone(), at, options);
        let mut changes = informer.subscribe();
        let stop = CancellationToken::new();
        let entry =
            Watched { lister: informer.lister(), synced: informer.synced(), stop: stop.clone(), users: HashMap::new() };
        let inner = Arc::downgrade(&self.inner);
        let mut tasks = self.inner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let follow = informer.run(stop);
            let tell = async move {
                while let Some(change) = changes.recv().await {
                    let Some(inner) = inner.upgrade() else { return };
                    // The first list is read by whoever waits for it.
                    let is_news = !matches!(change, Change::Applied { old: None, .. }) || inner.has_synced(&key);
                    if is_news {
                        inner.wake(&key);
                    }
                }
            };
            futures::future::join(follow, tell).await;
        });
        entry
    }

    /// The object, waiting for the first read of it. It must have been registered; else it is read from the server.
    pub(crate) async fn get(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Arc<Object>, ObjectsError> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let found = self.inner.watched.lock().get(&key).map(|w| (w.lister.clone(), w.synced.clone()));
        let absent = || ObjectsError::NotFound { singular: kind.singular(), name: name.to_owned() };
        let Some((lister, mut synced)) = found else {
            let at = Resource::object(&kind.gvr(), Some(namespace), name);
            return self.inner.client.get(&at).await.map_err(|status| match status.is_not_found() {
                true => absent(),
                false => ObjectsError::NotSynced { singular: kind.singular() },
            });
        };
        let waited = tokio::time::timeout(PATIENCE, synced.wait_for(|s| *s)).await.is_ok_and(|r| r.is_ok());
        if !waited {
            return Err(ObjectsError::NotSynced { singular: kind.singular() });
        }
        lister.get(&format!("{namespace}/{name}")).ok_or_else(absent)
    }
}

impl Inner {
    fn has_synced(&self, key: &Key) -> bool {
        self.watched.lock().get(key).is_some_and(|w| *w.synced.borrow())
    }
    fn wake(&self, key: &Key) {
        if let Some(entry) = self.watched.lock().get(key) {
            entry.users.values().for_each(|wake| wake.notify_one());
        }
    }
}

/// The objects that a pod refers to: in its environment, its volumes and for its pulls.
pub(crate) fn referenced(pod: &crate::api::Pod) -> Vec<(ObjectKind, String)> {
    let mut out = Vec::new();
    let mut add = |kind: ObjectKind, name: &str| {
        if !name.is_empty() && !out.iter().any(|(k, n): &(ObjectKind, String)| *k == kind && n == name) {
            out.push((kind, name.to_owned()));
        }
    };
    for (_, container) in pod.all_containers() {
        for from in &container.env_from {
            from.config_map_ref.iter().for_each(|r| add(ObjectKind::ConfigMap, &r.name));
            from.secret_ref.iter().for_each(|r| add(ObjectKind::Secret, &r.name));
        }
        for source in container.env.iter().filter_map(|e| e.value_from.as_ref()) {
            source.config_map_key_ref.iter().for_each(|r| add(ObjectKind::ConfigMap, &r.name));
            source.secret_key_ref.iter().for_each(|r| add(ObjectKind::Secret, &r.name));
        }
    }
    for volume in &pod.spec.volumes {
        volume.config_map.iter().for_each(|v| add(ObjectKind::ConfigMap, &v.name));
        volume.secret.iter().for_each(|v| add(ObjectKind::Secret, &v.secret_name));
        for source in volume.projected.iter().flat_map(|p| &p.sources) {
            source.config_map.iter().for_each(|v| add(ObjectKind::ConfigMap, &v.name));
            source.secret.iter().for_each(|v| add(ObjectKind::Secret, &v.secret_name));
        }
    }
    pod.spec.image_pull_secrets.iter().for_each(|s| add(ObjectKind::Secret, &s.name));
    out
}
