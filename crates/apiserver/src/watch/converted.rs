//! Watches of custom resources that a webhook converts: what a watcher selects by is in the version that it asked for.

use std::sync::Arc;

use client::WatchEvent;
use futures::stream::{self, StreamExt};
use kinds::Kind;
use object::{Object, Status};
use store::{Backend, Event, Watch};

use super::{Events, plain, seen, with_bookmarks};
use crate::api::{served, store_status};
use crate::conversion::Conversions;
use crate::read::ListQuery;

/// What happens, before it is known to whom it matters.
enum Change {
    Events(Vec<Event>),
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
    let changes = changes.map(|batch| match batch {
        Ok(batch) => Change::Events(batch),
        Err(error) => Change::Failed(store_status(&error)),
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
                Change::Bookmark(revision) => vec![plain(WatchEvent::Bookmark(revision))],
                Change::Failed(status) => vec![Err(status)],
                Change::Events(events) => match views(&conversions, &kind, &selection, events, late).await {
                    Ok(events) => events.into_iter().map(plain).collect(),
                    Err(status) => vec![Err(status)],
                },
            }
        }
    });
    delivered.flat_map(stream::iter).boxed()
}

/// The events as a watcher with this selection sees them, after one call of the webhook.
async fn views(
    conversions: &Conversions,
    kind: &Kind,
    selection: &ListQuery,
    events: Vec<Event>,
    late: bool,
) -> Result<Vec<WatchEvent>, Status> {
    if late {
        let both = events.iter().flat_map(|event| [Some(&event.object), event.previous.as_ref()]).flatten();
        let both = both.map(|object| served(kind, object.clone())).collect();
        let mut both = conversions.converted(kind, both).await?.into_iter();
        let converted = events.into_iter().filter_map(|event| {
            let object = both.next()?;
            let previous = event.previous.as_ref().and_then(|_| both.next());
            seen(kind, selection, &Event { object, previous, ..event })
        });
        return Ok(converted.collect());
    }
    let mut seen: Vec<WatchEvent> = events.iter().filter_map(|event| seen(kind, selection, event)).collect();
    let objects: Vec<&mut Arc<Object>> = seen.iter_mut().filter_map(object_of).collect();
    let plain = objects.iter().map(|object| served(kind, (**object).clone())).collect();
    let converted = conversions.converted(kind, plain).await?;
    for (object, converted) in objects.into_iter().zip(converted) {
        *object = converted;
    }
    Ok(seen)
}

fn object_of(event: &mut WatchEvent) -> Option<&mut Arc<Object>> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => Some(object),
        _ => None,
    }
}
