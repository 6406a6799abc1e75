//! Watches of custom resources that a webhook converts: what a watcher selects by is in the version that it asked for.

use std::sync::Arc;

use client::WatchEvent;
use futures::stream::{self, StreamExt};
use kinds::Kind;
use object::Status;
use store::{Backend, Event, Watch};

use super::{Events, plain, seen, with_bookmarks};
use crate::api::{served, store_status};
use crate::conversion::Conversions;
use crate::read::ListQuery;

/// What happens, before it is known to whom it matters.
enum Change {
    Event(Event),
    Bookmark(u64),
    Failed(Status),
}

/// Follows `changes`; with `bookmarks`, it is told now and then how far that is.
pub(super) fn follow(
    changes: Watch,
    conversions: Arc<Conversions>,
    kind: Arc<Kind>,
    selection: ListQuery,
    bookmarks: Option<Arc<dyn Backend>>,
) -> Events {
    let changes = changes.flat_map(|batch| {
        let changes: Vec<Change> = match batch {
            Ok(batch) => batch.iter().cloned().map(Change::Event).collect(),
            Err(error) => vec![Change::Failed(store_status(&error))],
        };
        stream::iter(changes)
    });
    // Bookmarks keep their place between the events, however long a conversion takes.
    let changes = match bookmarks {
        Some(store) => with_bookmarks(changes.boxed(), store, Change::Bookmark),
        None => changes.boxed(),
    };
    let (late, selection) = (selection.selects_late(&kind), Arc::new(selection));
    let delivered = changes.then(move |change| {
        let (conversions, kind, selection) = (conversions.clone(), kind.clone(), selection.clone());
        async move {
            match change {
                Change::Bookmark(revision) => Some(plain(WatchEvent::Bookmark(revision))),
                Change::Failed(status) => Some(Err(status)),
                Change::Event(event) => match view(&conversions, &kind, &selection, event, late).await {
                    Ok(event) => event.map(plain),
                    Err(status) => Some(Err(status)),
                },
            }
        }
    });
    delivered.filter_map(std::future::ready).boxed()
}

/// The event as a watcher with this selection sees it.
async fn view(
    conversions: &Conversions,
    kind: &Kind,
    selection: &ListQuery,
    event: Event,
    late: bool,
) -> Result<Option<WatchEvent>, Status> {
    if !late {
        return Ok(match seen(kind, selection, &event) {
            Some(WatchEvent::Added(o)) => Some(WatchEvent::Added(conversions.one(kind, served(kind, o)).await?)),
            Some(WatchEvent::Modified(o)) => Some(WatchEvent::Modified(conversions.one(kind, served(kind, o)).await?)),
            Some(WatchEvent::Deleted(o)) => Some(WatchEvent::Deleted(conversions.one(kind, served(kind, o)).await?)),
            other => other,
        });
    }
    // Both states in one call.
    let both: Vec<_> = [Some(event.object.clone()), event.previous.clone()].into_iter().flatten().collect();
    let both = both.into_iter().map(|object| served(kind, object)).collect();
    let mut both = conversions.converted(kind, both).await?.into_iter();
    let object = both.next().unwrap_or_else(|| event.object.clone());
    let converted = Event { object, previous: both.next(), ..event };
    Ok(seen(kind, selection, &converted))
}
