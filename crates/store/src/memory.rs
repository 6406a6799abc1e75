//! What reads see: the newest objects, and a window of what happened, per resource.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use object::Object;
use tokio::sync::watch;

use crate::backend::{Event, EventKind, Page, StoreError, Versioned};
use crate::tally::{Tallies, Tally};
use crate::transform::{Closed, ClosedRow};

/// Events kept per resource.
pub const WINDOW_EVENTS: usize = 20_000;
/// Bytes of objects kept per resource by its window alone.
const WINDOW_BYTES: usize = 64 << 20;

/// `/registry/pods/` of `/registry/pods/default/web`.
pub(crate) fn resource_of(key: &str) -> &str {
    let end = key.char_indices().filter(|(_, c)| *c == '/').nth(2).map_or(key.len(), |(at, _)| at + 1);
    &key[..end]
}

/// An object in its place; its revision is in its head.
struct Stored {
    key: Arc<str>,
    object: Arc<Object>,
}

impl Stored {
    fn versioned(&self) -> Versioned {
        Versioned {
            key: self.key.clone(),
            mod_revision: self.object.head.resource_version,
            object: self.object.clone(),
        }
    }
}

impl From<Versioned> for Stored {
    fn from(value: Versioned) -> Self {
        Self { key: value.key, object: value.object }
    }
}

impl Borrow<str> for Stored {
    fn borrow(&self) -> &str {
        &self.key
    }
}

impl Ord for Stored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl PartialOrd for Stored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Stored {}

/// What some keys were at a revision; `None`: not there.
type Past = BTreeMap<Arc<str>, Option<Versioned>>;

/// The recent past of one resource.
struct History {
    events: VecDeque<Event>,
    bytes: usize,
    /// Revisions up to this one can no longer be told apart.
    forgotten: u64,
    /// The revision of the newest event: wakes watchers of this resource only.
    newest: watch::Sender<u64>,
}

impl History {
    fn new(forgotten: u64) -> Self {
        Self { events: VecDeque::new(), bytes: 0, forgotten, newest: watch::Sender::new(forgotten) }
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.object.body.len();
        self.events.push_back(event);
        while self.events.len() > WINDOW_EVENTS || (self.bytes > WINDOW_BYTES && self.events.len() > 1) {
            let Some(old) = self.events.pop_front() else { break };
            self.bytes -= old.object.body.len();
            self.forgotten = old.revision;
        }
    }

    /// Index of the first event after `revision`.
    fn after(&self, revision: u64) -> usize {
        self.events.partition_point(|e| e.revision <= revision)
    }
}

/// The visible state.
pub(crate) struct Memory {
    pub(crate) revision: u64,
    objects: BTreeSet<Stored>,
    tallies: Tallies,
    /// Values that are there and cannot be read.
    pub(crate) closed: BTreeMap<Arc<str>, Closed>,
    histories: HashMap<String, History>,
    /// No event before this revision is known (the state at start).
    start: u64,
}

impl Memory {
    pub(crate) fn new(revision: u64, objects: impl IntoIterator<Item = Versioned>) -> Self {
        let objects = objects.into_iter().map(Stored::from).collect();
        let tallies = Tallies::default();
        Self { revision, objects, tallies, closed: BTreeMap::new(), histories: HashMap::new(), start: revision }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Versioned> {
        self.objects.get(key).map(Stored::versioned)
    }

    /// The revision, all objects at it, and the values that are none.
    pub(crate) fn everything(&self) -> (u64, Vec<Versioned>, Vec<ClosedRow>) {
        let closed = self.closed.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        (self.revision, self.objects.iter().map(Stored::versioned).collect(), closed)
    }

    /// Another present, after a past that nobody has seen. Watchers hear that they are too old; if the store has gone back
    /// in time, they end.
    #[must_use]
    pub(crate) fn reset(
        &mut self,
        revision: u64,
        objects: impl IntoIterator<Item = Versioned>,
    ) -> Vec<watch::Sender<u64>> {
        if revision < self.revision {
            self.histories.clear();
        }
        self.objects = objects.into_iter().map(Stored::from).collect();
        self.tallies.forget();
        (self.revision, self.start) = (revision, revision);
        for history in self.histories.values_mut() {
            history.events.clear();
            (history.bytes, history.forgotten) = (0, revision);
        }
        self.histories.values().map(|h| h.newest.clone()).collect()
    }

    fn under<'a>(&'a self, prefix: &'a str, after: Option<&str>) -> impl Iterator<Item = &'a Stored> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.objects.range::<str, _>((from, Bound::Unbounded)).take_while(move |v| v.key.starts_with(prefix))
    }

    /// What is under the prefix; of one that is no resource's it takes a walk.
    pub(crate) fn tally(&self, prefix: &str) -> Tally {
        let all = self.objects.iter().map(|stored| (&stored.key, &stored.object));
        self.tallies.get(prefix, all).unwrap_or_else(|| {
            self.under(prefix, None).fold(Tally::default(), |tally, stored| Tally {
                objects: tally.objects + 1,
                bytes: tally.bytes + stored.object.body.len(),
                ..tally
            })
        })
    }

    /// Makes events visible, in order; all of one revision are in one call. The senders are to be told the revision
    /// once the state is unlocked: waking thousands of watchers takes a while.
    #[must_use]
    pub(crate) fn publish(&mut self, events: Vec<Event>) -> Vec<watch::Sender<u64>> {
        let mut touched: Vec<String> = Vec::new();
        for event in events {
            self.revision = self.revision.max(event.revision);
            if event.kind == EventKind::Put {
                self.closed.remove(&event.key);
            }
            let before = match event.kind {
                EventKind::Put => self.objects.replace(Stored { key: event.key.clone(), object: event.object.clone() }),
                EventKind::Delete => self.objects.take(&*event.key),
            };
            let after = (event.kind == EventKind::Put).then(|| event.object.body.len());
            self.tallies.change(&event.key, before.map(|stored| stored.object.body.len()), after);
            let resource = resource_of(&event.key);
            if !self.histories.contains_key(resource) {
                self.histories.insert(resource.to_owned(), History::new(self.start));
            }
            if let Some(history) = self.histories.get_mut(resource) {
                if touched.last().is_none_or(|t| t != resource) {
                    touched.push(resource.to_owned());
                }
                history.push(event);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched.iter().filter_map(|resource| self.histories.get(resource)).map(|h| h.newest.clone()).collect()
    }

    /// See [`crate::Backend::unreadable`].
    pub(crate) fn unreadable(&self, key: &str) -> Option<(Arc<str>, String)> {
        let (found, closed) = self.closed.range::<str, _>((Bound::Included(key), Bound::Unbounded)).next()?;
        let is_meant = if key.ends_with('/') { found.starts_with(key) } else { &**found == key };
        is_meant.then(|| (found.clone(), closed.why.clone()))
    }

    /// Takes in what could not be read before. No event tells of it.
    pub(crate) fn take_in(&mut self, opened: Vec<Versioned>) {
        for value in opened {
            // What has been written meanwhile is newer.
            if self.closed.remove(&value.key).is_some() {
                self.tallies.change(&value.key, None, Some(value.object.body.len()));
                self.objects.replace(Stored::from(value));
            }
        }
    }

    /// Makes watchers of these keys' resources begin anew, from the next revision on; the senders are to be told.
    #[must_use]
    pub(crate) fn restart(&mut self, keys: &[Arc<str>]) -> Vec<watch::Sender<u64>> {
        let mut touched = Vec::new();
        for key in keys {
            if let Some(history) = self.histories.get_mut(resource_of(key)) {
                history.events.clear();
                (history.bytes, history.forgotten) = (0, self.revision + 1);
                touched.push(history.newest.clone());
            }
        }
        touched
    }

    /// Ends all watches and forgets the past; the present stays readable.
    pub(crate) fn close(&mut self) {
        self.histories.clear();
        self.start = self.revision;
    }

    /// Moves the revision on without events (a transaction that changed nothing).
    pub(crate) fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// See [`crate::Backend::range`].
    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: u64,
    ) -> Result<Page, StoreError> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        if revision == 0 || revision == self.revision {
            let mut found = self.under(prefix, after);
            let items: Vec<Versioned> = found.by_ref().take(limit).map(Stored::versioned).collect();
            let remaining = found.count();
            return Ok(Page { revision: self.revision, items, more: remaining > 0, remaining });
        }
        if revision > self.revision {
            return Err(StoreError::Future { wanted: revision, newest: self.revision });
        }
        // The present without the keys that changed since, merged with what those were.
        let past = self.undone(prefix, after, revision)?;
        let mut same =
            self.under(prefix, after).filter(|v| !past.contains_key(&v.key)).map(Stored::versioned).peekable();
        let mut changed = past.values().flatten().cloned().peekable();
        let mut then = std::iter::from_fn(|| match (same.peek(), changed.peek()) {
            (Some(s), Some(c)) if c.key < s.key => changed.next(),
            (None, _) => changed.next(),
            _ => same.next(),
        });
        let items: Vec<Versioned> = then.by_ref().take(limit).collect();
        let remaining = then.count();
        Ok(Page { revision, items, more: remaining > 0, remaining })
    }

    /// What keys under `prefix` and greater than `after` that have changed since `revision` were then.
    fn undone(&self, prefix: &str, after: Option<&str>, revision: u64) -> Result<Past, StoreError> {
        let Some(history) = self.history_since(prefix, revision)? else { return Ok(Past::new()) };
        let mut then = Past::new();
        let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|a| key > a);
        for event in history.events.range(history.after(revision)..).filter(|e| wanted(&e.key)) {
            then.entry(event.key.clone()).or_insert_with(|| {
                event.previous.clone().map(|object| Versioned {
                    key: event.key.clone(),
                    mod_revision: object.head.resource_version,
                    object,
                })
            });
        }
        Ok(then)
    }

    /// The history that covers `prefix` from `revision` on; `None` when nothing ever happened to the resource.
    fn history_since(&self, prefix: &str, revision: u64) -> Result<Option<&History>, StoreError> {
        let history = self.histories.get(resource_of(prefix));
        let oldest = history.map_or(self.start, |h| h.forgotten);
        if revision < oldest {
            return Err(StoreError::Compacted { wanted: revision, oldest });
        }
        Ok(history)
    }

    /// A receiver that changes when the resource does.
    pub(crate) fn subscribe(&mut self, prefix: &str) -> watch::Receiver<u64> {
        let start = self.start;
        self.histories.entry(resource_of(prefix).to_owned()).or_insert_with(|| History::new(start)).newest.subscribe()
    }

    /// At most `most` events under `prefix` after `revision`, and how far they reach: every event up to that revision is among them.
    pub(crate) fn events(&self, prefix: &str, revision: u64, most: usize) -> Result<(Vec<Event>, u64), StoreError> {
        let Some(history) = self.history_since(prefix, revision)? else { return Ok((Vec::new(), self.revision)) };
        let mut found: Vec<Event> = Vec::new();
        for event in history.events.range(history.after(revision)..) {
            // A revision is delivered whole.
            if found.len() >= most && found.last().is_some_and(|last| last.revision != event.revision) {
                let reached = found.last().map_or(revision, |last| last.revision);
                return Ok((found, reached));
            }
            if event.key.starts_with(prefix) {
                found.push(event.clone());
            }
        }
        Ok((found, self.revision))
    }
}
