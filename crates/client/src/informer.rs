//! Informers: a cache of a collection that follows the server, and a stream of what changed.
//!
//! List, then watch from the list's revision; when the watch ends, watch again from the last revision seen; when that
//! is too old (410), list again and tell subscribers the difference. In process, the cache shares the server's objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use futures::StreamExt;
use object::Object;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use crate::lister::Lister;
use crate::{Client, IndexFn, ListOptions, Resource, WatchEvent};

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

    /// The state before, if the cache knew one.
    pub fn old(&self) -> Option<&Arc<Object>> {
        match self {
            Change::Applied { old, .. } => old.as_ref(),
            Change::Deleted(last) => Some(last),
        }
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
/// The shortest and the longest wait between attempts to list or watch.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// A failure is worth a warning when it lasts this many attempts.
const PATIENCE: u32 = 5;

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

    /// Adds an index to the cache; read it by [`Lister::by_index`].
    pub fn add_index(&mut self, name: &'static str, values: IndexFn) {
        self.lister.add_index(name, values);
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
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut revision = None;
        let mut failures = 0;
        loop {
            let heard = match revision {
                None => self.relist().await.map(|listed| (listed, true)),
                Some(after) => self.watch_from(after, &mut revision).await.map(|seen| (seen, seen > after)),
            };
            match heard {
                // A list or a watch that told something: go on at once. A watch that ended without a word is tried
                // again after a pause, or a server that ends each watch at once would be asked in a busy loop.
                Ok((seen, told)) => {
                    revision = Some(seen);
                    failures = 0;
                    if told {
                        backoff.reset();
                        continue;
                    }
                }
                Err(status) if status.is_expired() => revision = None,
                Err(status) => {
                    failures += 1;
                    if failures == PATIENCE {
                        tracing::warn!(resource = %self.at.gvr, error = %status, "informer keeps trying");
                    } else {
                        tracing::debug!(resource = %self.at.gvr, error = %status, "informer tries again");
                    }
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Lists everything and publishes how it differs from the cache.
    async fn relist(&mut self) -> crate::Result<u64> {
        let options = ListOptions { resource_version: None, ..self.options.clone() };
        let list = self.client.list(&self.at, &options).await?;
        let fresh: HashMap<String, &str> = list.items.iter().map(|o| (o.head.key(), o.head.uid.as_str())).collect();
        let gone: Vec<String> = self.lister.keys().into_iter().filter(|key| !fresh.contains_key(key)).collect();
        for key in gone {
            self.remove(&key, None, 0).await;
        }
        for object in list.items {
            self.apply(object, 0).await;
        }
        self.lister.reached(list.revision);
        self.synced.send_replace(true);
        Ok(list.revision)
    }

    /// Watches until the stream ends; the last revision seen, which `progress` keeps when it ends with an error.
    async fn watch_from(&mut self, after: u64, progress: &mut Option<u64>) -> crate::Result<u64> {
        let options = ListOptions { resource_version: Some(after), ..self.options.clone() };
        let mut events = self.client.watch(&self.at, &options).await?;
        let mut seen = after;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    seen = object.head.resource_version.max(seen);
                    self.apply(object, seen).await;
                }
                WatchEvent::Deleted(object) => {
                    seen = object.head.resource_version.max(seen);
                    self.remove(&object.head.key(), Some(object.clone()), seen).await;
                }
                WatchEvent::Bookmark(revision) => seen = revision.max(seen),
            }
            self.lister.reached(seen);
            *progress = Some(seen);
        }
        Ok(seen)
    }

    /// Takes an object in; everything up to the revision `reached` is then in the cache.
    async fn apply(&mut self, new: Arc<Object>, reached: u64) {
        let key = new.head.key();
        // Deleted and made anew while nobody watched: two changes.
        if self.lister.get(&key).is_some_and(|old| old.head.uid != new.head.uid) {
            self.remove(&key, None, 0).await;
        }
        let old = self.lister.insert(new.clone());
        self.lister.reached(reached);
        if old.as_ref().is_some_and(|o| o.head.resource_version == new.head.resource_version) {
            return;
        }
        self.publish(Change::Applied { old, new }).await;
    }

    async fn remove(&mut self, key: &str, last: Option<Arc<Object>>, reached: u64) {
        let removed = self.lister.remove(key);
        self.lister.reached(reached);
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

#[cfg(test)]
mod tests;
