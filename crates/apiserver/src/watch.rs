//! WATCH: the store's events as a client sees them through its selectors.

mod converted;

use std::sync::Arc;
use std::time::Duration;

use client::{Resource, WatchEvent};
use futures::stream::{self, BoxStream, StreamExt};
use kinds::Kind;
use object::Status;
use store::{Backend, Event, EventKind};
use tokio::time::Instant;

use crate::api::{Api, namespace_of, prefix, served, store_status};
use crate::metrics::lists;
use crate::read::ListQuery;

/// Upstream sends a bookmark about every minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// A watch's query.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchQuery {
    pub(crate) list: ListQuery,
    pub(crate) bookmarks: bool,
    /// `sendInitialEvents`: the present state first, ended by a marked bookmark (KEP-3157).
    pub(crate) initial: Option<bool>,
}

impl WatchQuery {
    /// The revision that the watch's beginning needs; `None`: the newest.
    pub(crate) fn needs(&self) -> Option<u64> {
        match self.list.resource_version {
            // It begins after that revision, whenever it comes.
            Some(_) if self.initial != Some(true) => Some(0),
            revision => revision,
        }
    }
}

/// An event, and whether it is the bookmark that ends the initial state.
pub(crate) struct Delivered {
    pub(crate) event: WatchEvent,
    pub(crate) initial_end: bool,
}

/// Events until the client goes away, or an error (410 when it fell behind the window).
pub(crate) type Events = BoxStream<'static, Result<Delivered, Status>>;

fn plain(event: WatchEvent) -> Result<Delivered, Status> {
    Ok(Delivered { event, initial_end: false })
}

/// What the event is to a watcher with these selectors; `None` when it does not see it.
fn seen(kind: &Kind, query: &ListQuery, event: &Event) -> Option<WatchEvent> {
    let is = event.kind == EventKind::Put && query.selects(kind, &event.object);
    let was = event.previous.as_ref().is_some_and(|p| query.selects(kind, p));
    match (was, is) {
        (false, true) => Some(WatchEvent::Added(event.object.clone())),
        (true, true) => Some(WatchEvent::Modified(event.object.clone())),
        (true, false) if event.kind == EventKind::Delete => Some(WatchEvent::Deleted(event.object.clone())),
        // It left the selection: its last selected state, at the revision of the change.
        (true, false) => {
            let previous = event.previous.as_ref()?;
            let last = previous.with_revision(event.revision).map_or_else(|_| previous.clone(), Arc::new);
            Some(WatchEvent::Deleted(last))
        }
        (false, false) => None,
    }
}

/// The event with its object in the version that the kind serves.
fn in_version(kind: &Kind, event: WatchEvent) -> WatchEvent {
    match event {
        WatchEvent::Added(object) => WatchEvent::Added(served(kind, object)),
        WatchEvent::Modified(object) => WatchEvent::Modified(served(kind, object)),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(served(kind, object)),
        other => other,
    }
}

impl Api {
    /// Begins a watch.
    pub(crate) async fn watch(&self, at: &Resource, query: &WatchQuery) -> Result<Events, Status> {
        let began = Instant::now();
        let kind = &self.stored_kind_of(&at.gvr)?;
        query.list.check_fields(kind)?;
        let prefix = prefix(kind, namespace_of(kind, at)?);
        let (mut first, mut end) = (Vec::new(), None);
        let given = query.list.resource_version;
        let wants_state = query.initial.unwrap_or(matches!(given, None | Some(0)));
        let after = if wants_state {
            let state = self.list_as(at, &ListQuery { limit: 0, version_match: None, ..query.list.clone() }).await?;
            first = state.items;
            lists::begins(kind, first.len());
            if query.initial == Some(true) && query.bookmarks {
                end = Some(Ok(Delivered { event: WatchEvent::Bookmark(state.revision), initial_end: true }));
            }
            state.revision
        } else {
            given.filter(|rv| *rv > 0).unwrap_or_else(|| self.store.revision())
        };
        let changes = self.store.watch(&prefix, after).map_err(|e| store_status(&e))?;
        let (selection, kind, life) = (query.list.clone(), kind.clone(), self.registry.life(kind));
        let bookmarks = query.bookmarks.then(|| self.store.clone());
        let live = if kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some()) {
            converted::follow(changes, self.conversions.clone(), kind, selection, bookmarks)
        } else {
            let seen = changes.flat_map(move |batch| {
                let delivered: Vec<Result<Delivered, Status>> = match batch {
                    Ok(batch) => batch
                        .iter()
                        .filter_map(|e| seen(&kind, &selection, e))
                        .map(|e| plain(in_version(&kind, e)))
                        .collect(),
                    Err(error) => vec![Err(store_status(&error))],
                };
                stream::iter(delivered)
            });
            match bookmarks {
                Some(store) => with_bookmarks(seen.boxed(), store, |revision| plain(WatchEvent::Bookmark(revision))),
                None => seen.boxed(),
            }
        };
        let scope = match (&at.name, &at.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        let of = self.stored_kind_of(&at.gvr)?;
        let end = end.into_iter().inspect(move |_| lists::began(&of, scope, began.elapsed()));
        // Of what waits for a client that reads slowly there is a pointer each.
        let first = first.into_iter().map(|object| plain(WatchEvent::Added(object)));
        let events = stream::iter(first.chain(end)).chain(live);
        Ok(match life {
            // The watch of a custom resource ends with its definition, and begins anew when that changes.
            Some(life) => events.take_until(life.cancelled_owned()).boxed(),
            None => events.boxed(),
        })
    }
}

/// Tells the watcher now and then how far it has seen everything.
fn with_bookmarks<T: Send + 'static>(
    events: BoxStream<'static, T>,
    store: Arc<dyn Backend>,
    bookmark: fn(u64) -> T,
) -> BoxStream<'static, T> {
    stream::unfold((events, store), move |(mut events, store)| async move {
        // Read before the wait: whatever is not in the stream by then is newer.
        let revision = store.revision();
        match tokio::time::timeout(BOOKMARK_EVERY, events.next()).await {
            Ok(event) => Some((event?, (events, store))),
            Err(_) => Some((bookmark(revision), (events, store))),
        }
    })
    .boxed()
}
