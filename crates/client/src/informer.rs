//! Informers: a cache of a collection that follows the server, and a stream of what changed.
//!
//! List, then watch from the list's revision; when the watch ends, watch again from the last revision seen; when that
//! is too old (410), list again and tell subscribers the difference. In process, the cache shares the server's objects.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use futures::StreamExt;
use object::Object;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{Client, ListOptions, Resource, WatchEvent};

/// What happened to an object of the collection.
#[derive(Clone, Debug)]
pub enum Change {
    /// New or changed; `old` is what the cache held before.
    Applied {
        /// The state before.
        old: Option<Arc<Object>>,
        /// The state now.
        new: Arc<Object>,
    },
    /// Gone (or left the selection): its last known state.
    Deleted(Arc<Object>),
}

impl Change {
    /// The object that changed, in its newest known state.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Change::Applied { new, .. } => new,
            Change::Deleted(last) => last,
        }
    }
}

/// Reads an informer's cache. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lister {
    objects: Arc<RwLock<BTreeMap<String, Arc<Object>>>>,
}

impl Lister {
    /// The object under `namespace/name` (or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.objects.read().get(key).cloned()
    }
    /// All objects, in key order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.objects.read().values().cloned().collect()
    }
    /// The objects of a namespace, in key order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let from = format!("{namespace}/");
        let objects = self.objects.read();
        objects.range(from.clone()..).take_while(|(key, _)| key.starts_with(&from)).map(|(_, o)| o.clone()).collect()
    }
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.read().len()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<Arc<Object>> for Lister {
    /// A cache of these objects that no informer fills: for tests of what reads caches.
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let lister = Self::default();
        lister.objects.write().extend(objects.into_iter().map(|o| (o.head.key(), o)));
        lister
    }
}

/// Follows one collection. Subscribe and take listers first, then [`Informer::run`] it in a task.
pub struct Informer {
    client: Client,
    at: Resource,
    options: ListOptions,
    lister: Lister,
    subscribers: Vec<mpsc::Sender<Change>>,
    synced: watch::Sender<bool>,
}

/// How many changes a subscriber may lag behind before the informer waits for it.
const SUBSCRIBER_QUEUE: usize = 1024;

impl Informer {
    /// An informer of the collection `at`, narrowed by the selectors of `options`.
    pub fn new(client: Client, at: Resource, options: ListOptions) -> Self {
        let (synced, _) = watch::channel(false);
        Self { client, at, options, lister: Lister::default(), subscribers: Vec::new(), synced }
    }

    /// The cache.
    pub fn lister(&self) -> Lister {
        self.lister.clone()
    }

    /// Changes from now on, the first list included. A dropped receiver unsubscribes.
    pub fn subscribe(&mut self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_QUEUE);
        self.subscribers.push(sender);
        receiver
    }

    /// Becomes true when the first list is in the cache (and was sent to the subscribers).
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Follows the collection until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let follow = self.follow();
        tokio::select! {
            () = token.cancelled() => {}
            () = follow => {}
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
        let mut revision = None;
        loop {
            let outcome = match revision {
                None => self.relist().await,
                Some(after) => self.watch_from(after, &mut backoff).await,
            };
            match outcome {
                Ok(seen) => revision = Some(seen),
                Err(status) => {
                    if status.is_expired() {
                        revision = None;
                    } else {
                        tracing::debug!(resource = %self.at.gvr, error = %status, "informer tries again");
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn relist(&mut self) -> crate::Result<u64> {
        let list = self.client.list(&self.at, &self.options).await?;
        let fresh: HashSet<String> = list.items.iter().map(|o| o.head.key()).collect();
        let gone: Vec<String> = self.lister.objects.read().keys().filter(|k| !fresh.contains(*k)).cloned().collect();
        for key in gone {
            self.remove(&key, None).await;
        }
        for object in list.items {
            self.apply(object).await;
        }
        self.synced.send_replace(true);
        Ok(list.revision)
    }

    /// Watches until the stream ends; the last revision seen.
    async fn watch_from(&mut self, after: u64, backoff: &mut Backoff) -> crate::Result<u64> {
        let options = ListOptions { resource_version: Some(after), ..self.options.clone() };
        let mut events = self.client.watch(&self.at, &options).await?;
        let mut seen = after;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    seen = object.head.resource_version.max(seen);
                    self.apply(object).await;
                }
                WatchEvent::Deleted(object) => {
                    seen = object.head.resource_version.max(seen);
                    self.remove(&object.head.key(), Some(object.clone())).await;
                }
                WatchEvent::Bookmark(revision) => seen = revision.max(seen),
            }
            backoff.reset();
        }
        Ok(seen)
    }

    async fn apply(&mut self, new: Arc<Object>) {
        let old = self.lister.objects.write().insert(new.head.key(), new.clone());
        if old
            .as_ref()
            .is_some_and(|o| o.head.resource_version == new.head.resource_version && o.head.uid == new.head.uid)
        {
            return;
        }
        self.publish(Change::Applied { old, new }).await;
    }

    async fn remove(&mut self, key: &str, last: Option<Arc<Object>>) {
        let removed = self.lister.objects.write().remove(key);
        if let Some(object) = last.or(removed) {
            self.publish(Change::Deleted(object)).await;
        }
    }

    async fn publish(&mut self, change: Change) {
        for subscriber in &self.subscribers {
            // A closed receiver is an unsubscription; it is swept below.
            let _ = subscriber.send(change.clone()).await;
        }
        self.subscribers.retain(|s| !s.is_closed());
    }
}
