//! Lists in protobuf as they go over the wire.
//!
//! The length of the whole stands at its beginning, so a list is encoded before any of it is sent. What was encoded is kept, up to a
//! budget of each list and one of all; the rest is encoded again when its turn comes. So a list of a gigabyte costs its sender some
//! megabytes, ten of them not ten times as many, and nearly all lists are encoded once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kinds::Kind;
use object::{Object, Status};
use schema::protobuf;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::splice::{Item, PIECE_BYTES};
use crate::read::Listing;

/// What is kept of a list between the two passes, and of all lists together.
const BUDGET: usize = 16 << 20;
static ROOM: Semaphore = Semaphore::const_new(3 * BUDGET);

/// A piece that was kept, and the room that it takes.
type Kept = (Bytes, SemaphorePermit<'static>);

/// The body of a list.
pub(super) struct Sealed {
    kind: Arc<Kind>,
    item: Item,
    head: Option<Bytes>,
    kept: VecDeque<Kept>,
    /// Those that are not in `kept`.
    items: std::vec::IntoIter<Arc<Object>>,
    tail: Option<Bytes>,
    left: usize,
    /// A piece went out; others of this thread have their turn before the next.
    pause: bool,
}

impl Sealed {
    /// Encodes the list. Others of this thread have their turn meanwhile.
    pub(super) async fn new(kind: &Arc<Kind>, item: Item, listing: Listing) -> Result<Self, Status> {
        Self::within(BUDGET, &ROOM, kind, item, listing).await
    }

    async fn within(
        budget: usize,
        room: &'static Semaphore,
        kind: &Arc<Kind>,
        item: Item,
        mut listing: Listing,
    ) -> Result<Self, Status> {
        let (mut at, mut size, mut kept, mut kept_to) = (0, 0, VecDeque::new(), 0);
        while at < listing.items.len() {
            let (piece, count) = piece(kind, item, &listing.items[at..])?;
            let follows = kept_to == at;
            (at, size) = (at + count, size + piece.len());
            let taken = u32::try_from(piece.len()).ok().filter(|_| follows && size <= budget);
            if let Some(Ok(room)) = taken.map(|bytes| room.try_acquire_many(bytes)) {
                kept.push_back((piece, room));
                kept_to = at;
            }
            tokio::task::yield_now().await;
        }
        let (version, list) = match item {
            Item::Metadata { version } => (format!("meta.k8s.io/{version}"), "PartialObjectMetadataList".into()),
            _ => (kind.api_version(), kind.list_kind()),
        };
        let (head, tail) =
            protobuf::list_envelope(&version, &list, &listing.metadata(), size).map_err(Status::internal)?;
        let left = head.len() + size + tail.len();
        let items = listing.items.split_off(kept_to).into_iter();
        let (head, tail) = (Some(head.into()), Some(tail.into()));
        Ok(Self { kind: kind.clone(), item, head, kept, items, tail, left, pause: false })
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

/// Some of the items as fields of the list, and how many.
fn piece(kind: &Kind, item: Item, items: &[Arc<Object>]) -> Result<(Bytes, usize), Status> {
    let name = kind.schema.as_deref().unwrap_or("");
    let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
    let mut count = 0;
    for object in items {
        let put = match item {
            Item::Metadata { .. } => protobuf::put_metadata_item(&metadata(object), &mut piece),
            _ => protobuf::put_item(name, &object.body, &mut piece),
        };
        put.map_err(Status::internal)?;
        count += 1;
        if piece.len() >= PIECE_BYTES {
            break;
        }
    }
    // What waits for its turn has no room to spare.
    piece.shrink_to_fit();
    Ok((piece.into(), count))
}

/// The text of an object's metadata.
fn metadata(object: &Object) -> Cow<'_, [u8]> {
    match object.metadata_text() {
        Some(text) => text.into(),
        None => object.value().unwrap_or_default()["metadata"].to_string().into_bytes().into(),
    }
}

impl Iterator for Sealed {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let kept = self.head.take().or_else(|| self.kept.pop_front().map(|(piece, _)| piece));
        let next = kept.or_else(|| {
            // It was encoded once: it is again.
            let (piece, count) =
                piece(&self.kind, self.item, self.items.as_slice()).ok().filter(|(_, count)| *count > 0)?;
            self.items.by_ref().take(count).for_each(drop);
            Some(piece)
        });
        let next = next.or_else(|| self.tail.take())?;
        self.left = self.left.saturating_sub(next.len());
        Some(next)
    }
}

impl Body for Sealed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.pause, true) {
            self.pause = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use object::Gvr;
    use serde_json::json;

    use super::*;
    use crate::http::accept;

    fn listing(count: usize) -> Listing {
        let object = |index: usize| {
            let mut value = json!({"metadata": {"name": format!("o{index}")}, "data": {"x": "x".repeat(3000)}});
            Arc::new(object::Draft::new(&mut value).unwrap().seal(7))
        };
        Listing {
            revision: 7,
            items: (0..count).map(object).collect(),
            continue_token: Some("next".into()),
            remaining: Some(3),
        }
    }

    #[tokio::test]
    async fn pieces_make_the_list_that_was_promised() {
        let kind = kinds::table().by_gvr(&Gvr::new("", "v1", "configmaps")).unwrap();
        static LITTLE: Semaphore = Semaphore::const_new(100_000);
        let cases = [(0, 100), (1, 0), (100, 0), (100, 150_000), (100, BUDGET)];
        for ((count, budget), room) in cases.into_iter().flat_map(|case| [(case, &ROOM), (case, &LITTLE)]) {
            let sealed = Sealed::within(budget, room, kind, Item::Whole, listing(count)).await.unwrap();
            let promised = sealed.left();
            let whole = sealed.collect::<Vec<_>>().concat();
            assert_eq!(whole.len(), promised, "{count} items, {budget} bytes kept");
            let items: Vec<_> = listing(count).items.iter().map(|o| o.value().unwrap()).collect();
            let value =
                json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": listing(0).metadata(), "items": items});
            // The order of an item's fields is another.
            let list = |bytes: &[u8]| {
                let envelope = protobuf::open(bytes).unwrap();
                let name = "io.k8s.api.core.v1.ConfigMapList";
                (envelope.kind, protobuf::decode(schema::table(), name, envelope.raw).unwrap())
            };
            let by_tree = accept::sealed(&value).unwrap();
            assert!(whole.len() == by_tree.len() && list(&whole) == list(&by_tree), "{count} items, {budget} kept");
        }
        assert_eq!(LITTLE.available_permits(), 100_000, "what was sent takes no room");
    }

    #[tokio::test]
    async fn metadata_alone_is_what_single_objects_have() {
        let kind = kinds::table().by_gvr(&Gvr::new("", "v1", "configmaps")).unwrap();
        let item = Item::Metadata { version: "v1" };
        let whole = Sealed::new(kind, item, listing(2)).await.unwrap().collect::<Vec<_>>().concat();
        let metadata = |o: &Arc<Object>| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o.value().unwrap()["metadata"]});
        let items: Vec<_> = listing(2).items.iter().map(metadata).collect();
        let value = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": listing(0).metadata(), "items": items});
        let (by_tree, envelope) = (accept::sealed(&value).unwrap(), protobuf::open(&whole).unwrap());
        assert_eq!((envelope.kind, whole.len()), ("PartialObjectMetadataList".into(), by_tree.len()));
        // Of both, the metadata is the first field; that of an item has its fields in another order.
        let list = |bytes: &[u8]| {
            let raw = protobuf::open(bytes).unwrap().raw.to_vec();
            protobuf::decode(schema::table(), "io.k8s.api.core.v1.ConfigMapList", &raw).unwrap()
        };
        assert_eq!(list(&whole), list(&by_tree));
    }
}
