//! From etcd into memory: everything once, then every event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protos::etcd::{self as wire, EventType};

use super::grpc::{Answers, CallError};
use super::{OBJECTS, OBJECTS_END, READ_ATTEMPT, Shared, number, range, revision_of};
use crate::backend::{Event, EventKind, StoreError, Versioned};
use crate::transform::Closed;

/// Keys per question of the first load.
const PAGE: i64 = 1000;

/// A revision, the objects at it, and the values that cannot be read.
type Loaded = (u64, Vec<Versioned>, BTreeMap<Arc<str>, Closed>);

/// An event of an object.
struct Parsed {
    key: Arc<str>,
    kind: EventKind,
    value: Option<Versioned>,
    /// The value, if it cannot be read: for readers the object is gone.
    closed: Option<Closed>,
    revision: u64,
}

fn closed_row(kv: &wire::KeyValue, why: String) -> Closed {
    Closed { stored: kv.value.clone(), mod_revision: u64::try_from(kv.mod_revision).unwrap_or(0), why }
}

/// Why the feed begins anew.
enum Interrupted {
    /// From where it was.
    Resume(String),
    /// From the present state: what came between is lost.
    Reload(String),
}

impl From<CallError> for Interrupted {
    fn from(error: CallError) -> Self {
        Self::Resume(error.to_string())
    }
}

impl Shared {
    /// Everything as of one revision.
    pub(super) async fn load(&self) -> Result<Loaded, StoreError> {
        let mut objects = Vec::new();
        let mut closed = BTreeMap::new();
        let mut request = wire::RangeRequest { limit: PAGE, ..range(OBJECTS, OBJECTS_END) };
        loop {
            let page = self.range(&request).await?;
            if request.revision == 0 {
                request.revision = number(revision_of(page.header.as_ref()));
            }
            for kv in &page.kvs {
                match self.object(kv) {
                    Ok(object) => objects.push(object),
                    Err(StoreError::Unreadable { key, why }) => drop(closed.insert(key, closed_row(kv, why))),
                    Err(error) => return Err(error),
                }
            }
            match page.kvs.last().filter(|_| page.more) {
                // The first key after this one.
                Some(last) => request.key = [&last.key[..], &[0]].concat().into(),
                None => return Ok((u64::try_from(request.revision).unwrap_or(0), objects, closed)),
            }
        }
    }

    /// Follows etcd until the task is dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut backoff = base::Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut lost = false;
        loop {
            let before = *self.visible.borrow();
            let outcome = if lost { self.reload().await.map(|()| lost = false) } else { Ok(()) };
            let interrupted = match outcome {
                Ok(()) => self.watch_all().await,
                Err(error) => Interrupted::Resume(base::Chain(&error).to_string()),
            };
            match interrupted {
                Interrupted::Resume(why) => tracing::warn!(why, "the watch of etcd is interrupted"),
                Interrupted::Reload(why) => {
                    tracing::warn!(why, "the watch of etcd has lost events: everything is read again");
                    lost = true;
                }
            }
            if *self.visible.borrow() > before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Reads everything again. Watchers begin anew (410), as nobody can tell them what came between.
    async fn reload(&self) -> Result<(), StoreError> {
        let (revision, objects, closed) = self.load().await?;
        let watchers = {
            let mut memory = self.memory.write();
            memory.closed = closed;
            memory.reset(revision, objects)
        };
        for watcher in watchers {
            watcher.send_replace(revision);
        }
        self.visible.send_replace(revision);
        Ok(())
    }

    /// Follows one watch until it ends.
    async fn watch_all(&self) -> Interrupted {
        match self.watched().await {
            Ok(never) => match never {},
            Err(interrupted) => interrupted,
        }
    }

    async fn watched(&self) -> Result<std::convert::Infallible, Interrupted> {
        let channel = self.members.connect().await?;
        let seen = self.memory.read().revision;
        let everything = bytes::Bytes::from_static(&[0]);
        let request = wire::WatchRequest {
            create_request: Some(wire::WatchCreateRequest {
                key: everything.clone(),
                range_end: everything,
                start_revision: number(seen + 1),
            }),
        };
        let mut answers: Answers<wire::WatchResponse> =
            channel.stream("/etcdserverpb.Watch/Watch", &request, READ_ATTEMPT).await?;
        // An etcd that was restored from a snapshot has gone back in time.
        let newest = self.newest().await.map_err(|e| Interrupted::Resume(base::Chain(&e).to_string()))?;
        if newest < seen {
            return Err(Interrupted::Reload(format!("etcd is at revision {newest}, and was at {seen}")));
        }
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer?,
                () = self.stuck.notified() => return Err(Interrupted::Resume("nothing comes any more".into())),
            };
            if answer.compact_revision > 0 {
                return Err(Interrupted::Reload(format!("etcd begins at revision {}", answer.compact_revision)));
            }
            if answer.canceled {
                return Err(Interrupted::Resume(format!("etcd has ended it: {}", answer.cancel_reason)));
            }
            self.publish(&answer.events)?;
        }
    }

    /// Makes events visible. They are whole revisions, without a gap.
    fn publish(&self, events: &[wire::Event]) -> Result<(), Interrupted> {
        let Some(last) = events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.mod_revision).max() else {
            return Ok(());
        };
        let last = u64::try_from(last).unwrap_or(0);
        let parsed: Vec<Parsed> = events.iter().filter_map(|e| self.parse(e)).collect();
        let watchers = {
            let mut memory = self.memory.write();
            let first = events.first().and_then(|e| e.kv.as_ref()).and_then(|kv| u64::try_from(kv.mod_revision).ok());
            if first.is_some_and(|first| first != memory.revision + 1) {
                let text = format!("after revision {} comes {}", memory.revision, first.unwrap_or(0));
                return Err(Interrupted::Reload(text));
            }
            let mut watchers = Vec::new();
            for Parsed { key, kind, value, closed, revision } in parsed {
                match closed {
                    Some(row) => drop(memory.closed.insert(key.clone(), row)),
                    None => drop(memory.closed.remove(&key)),
                }
                let previous = memory.get(&key).map(|v| v.object);
                let object = match (value, &previous) {
                    (Some(value), _) => value.object,
                    (None, Some(previous)) => {
                        previous.with_revision(revision).map_or_else(|_| previous.clone(), Arc::new)
                    }
                    // Nobody has seen it.
                    (None, None) => continue,
                };
                watchers.extend(memory.publish(vec![Event { revision, kind, key, object, previous }]));
            }
            memory.advance(last);
            watchers
        };
        for watcher in watchers {
            watcher.send_replace(last);
        }
        self.visible.send_replace(last);
        Ok(())
    }

    /// Tries the values again that could not be read.
    pub(super) fn reopen(&self) {
        let (_, _, closed) = self.memory.read().everything();
        let read = |(key, row): (Arc<str>, Closed)| {
            let kv = wire::KeyValue {
                key: super::key_bytes(&key),
                value: row.stored,
                mod_revision: number(row.mod_revision),
                ..Default::default()
            };
            self.object(&kv).ok()
        };
        let opened: Vec<Versioned> = closed.into_iter().filter_map(read).collect();
        let keys: Vec<Arc<str>> = opened.iter().map(|v| v.key.clone()).collect();
        let watchers = {
            let mut memory = self.memory.write();
            memory.take_in(opened);
            memory.restart(&keys)
        };
        for watcher in watchers {
            watcher.send_modify(|_| {});
        }
    }

    /// The event, if it is of an object.
    fn parse(&self, event: &wire::Event) -> Option<Parsed> {
        let kv = event.kv.as_ref().filter(|kv| kv.key.starts_with(OBJECTS.as_bytes()))?;
        let revision = u64::try_from(kv.mod_revision).unwrap_or(0);
        let key: Arc<str> = String::from_utf8_lossy(&kv.key).into();
        if event.r#type == EventType::Delete as i32 {
            self.sealing.forget(&key);
            return Some(Parsed { key, kind: EventKind::Delete, value: None, closed: None, revision });
        }
        match self.object(kv) {
            Ok(value) => Some(Parsed { key, kind: EventKind::Put, value: Some(value), closed: None, revision }),
            // Nothing that is readable is there from now on.
            Err(error) => {
                tracing::error!(error = %base::Chain(&error), "an object cannot be read");
                let closed = match error {
                    StoreError::Unreadable { why, .. } => Some(closed_row(kv, why)),
                    _ => None,
                };
                Some(Parsed { key, kind: EventKind::Delete, value: None, closed, revision })
            }
        }
    }
}
