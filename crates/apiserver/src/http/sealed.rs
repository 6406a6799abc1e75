//! Lists in protobuf as they go over the wire.
//!
//! The length of the whole stands at its beginning, so a list is encoded before any of it is sent. What was encoded is kept, up to a
//! budget; of a larger list the rest is encoded again when its turn comes. So a list of a gigabyte costs its sender some megabytes, and
//! nearly all lists are encoded once.

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

use super::splice::{PIECE_BYTES, PIECES_AT_ONCE};
use crate::read::Listing;

/// What is kept of a list between the two passes.
const BUDGET: usize = 16 << 20;

/// The body of a list.
pub(super) struct Sealed {
    kind: Arc<Kind>,
    head: Option<Bytes>,
    kept: VecDeque<Bytes>,
    /// Those that are not in `kept`.
    items: std::vec::IntoIter<Arc<Object>>,
    tail: Option<Bytes>,
    left: usize,
    pieces: usize,
}

impl Sealed {
    /// Encodes the list. Others of this thread have their turn meanwhile.
    pub(super) async fn new(kind: &Arc<Kind>, listing: Listing) -> Result<Self, Status> {
        Self::within(BUDGET, kind, listing).await
    }

    async fn within(budget: usize, kind: &Arc<Kind>, mut listing: Listing) -> Result<Self, Status> {
        let (mut at, mut size, mut kept, mut kept_to) = (0, 0, VecDeque::new(), 0);
        while at < listing.items.len() {
            let (piece, count) = piece(kind, &listing.items[at..])?;
            (at, size) = (at + count, size + piece.len());
            if size <= budget {
                kept.push_back(piece);
                kept_to = at;
            }
            tokio::task::yield_now().await;
        }
        let (head, tail) = protobuf::list_envelope(&kind.api_version(), &kind.list_kind(), &listing.metadata(), size)
            .map_err(Status::internal)?;
        let left = head.len() + size + tail.len();
        let items = listing.items.split_off(kept_to).into_iter();
        let (head, tail) = (Some(head.into()), Some(tail.into()));
        Ok(Self { kind: kind.clone(), head, kept, items, tail, left, pieces: 0 })
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

/// Some of the items as fields of the list, and how many.
fn piece(kind: &Kind, items: &[Arc<Object>]) -> Result<(Bytes, usize), Status> {
    let name = kind.schema.as_deref().unwrap_or("");
    let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
    let mut count = 0;
    for object in items {
        protobuf::put_item(name, &object.body, &mut piece).map_err(Status::internal)?;
        count += 1;
        if piece.len() >= PIECE_BYTES {
            break;
        }
    }
    // What waits for its turn has no room to spare.
    piece.shrink_to_fit();
    Ok((piece.into(), count))
}

impl Iterator for Sealed {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let kept = self.head.take().or_else(|| self.kept.pop_front());
        let next = kept.or_else(|| {
            // It was encoded once: it is again.
            let (piece, count) = piece(&self.kind, self.items.as_slice()).ok().filter(|(_, count)| *count > 0)?;
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
        if self.pieces >= PIECES_AT_ONCE {
            self.pieces = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pieces += if self.kept.is_empty() { PIECES_AT_ONCE } else { 1 };
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
        for (count, budget) in [(0, 100), (1, 0), (100, 0), (100, 150_000), (100, BUDGET)] {
            let sealed = Sealed::within(budget, kind, listing(count)).await.unwrap();
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
    }
}
