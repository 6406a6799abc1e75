//! Lists as they go over the wire: the envelope around the stored objects' bytes, put together piece by piece while it is sent.
//!
//! The whole is never in memory: a list of a gigabyte costs its sender a few pieces, however slowly its client reads. Rows of tables
//! and partial metadata are made the same way, out of one object at a time.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Frame, SizeHint};
use kinds::Kind;
use object::Object;
use serde_json::Value;

use crate::read::Listing;
use crate::table::{self, Include};

/// A few TLS records; small enough for a core's cache.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Pieces after which others of this thread have their turn.
pub(super) const PIECES_AT_ONCE: usize = 4;
const END: &[u8] = b"]}\n";

/// What of each object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// All of it.
    Whole,
    /// The row of a table.
    Row {
        include: Include,
        /// Of `meta.k8s.io`.
        version: &'static str,
        /// For ages.
        now: i64,
    },
    /// Its metadata.
    Metadata {
        /// Of `meta.k8s.io`.
        version: &'static str,
    },
}

/// The body of a list.
pub(super) struct Splice {
    kind: Arc<Kind>,
    item: Item,
    /// The envelope up to the first item.
    head: Option<Bytes>,
    items: std::vec::IntoIter<Arc<Object>>,
    /// The next item is not the first.
    follows: bool,
    /// An object in pieces of its own, which come next, the last of them first.
    large: Vec<Bytes>,
    ended: bool,
    /// Bytes that are still to come, where that is known beforehand.
    left: Option<usize>,
    pieces: usize,
}

impl Splice {
    pub(super) fn new(kind: &Arc<Kind>, item: Item, listing: Listing) -> Self {
        let metadata = listing.metadata();
        let head = match item {
            Item::Whole => {
                let (kind, version) = (kind.list_kind(), kind.api_version());
                format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
            }
            Item::Row { version, .. } => {
                let columns = table::columns(kind);
                format!(
                    "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":["
                )
            }
            Item::Metadata { version } => format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata},\"items\":["
            ),
        };
        let length = |object: &Arc<Object>| match item {
            Item::Whole if kind.custom.is_none() => object.without_kind().iter().map(Bytes::len).sum(),
            _ => object.body.len(),
        };
        let items: usize = listing.items.iter().map(length).sum();
        let whole = head.len() + items + listing.items.len().saturating_sub(1) + END.len();
        Self {
            kind: kind.clone(),
            item,
            head: Some(head.into()),
            items: listing.items.into_iter(),
            follows: false,
            large: Vec::new(),
            ended: false,
            left: (item == Item::Whole).then_some(whole),
            pieces: 0,
        }
    }

    /// True when the whole is worth compressing.
    pub(super) fn is_large(&self, from: usize) -> bool {
        let items = self.items.as_slice().iter().map(|o| o.body.len());
        self.left.unwrap_or_else(|| items.sum()) >= from
    }

    /// The whole body, if its length is not known beforehand and it is no more than a piece: then its length is known now.
    pub(super) fn short(&mut self) -> Option<Bytes> {
        if self.left.is_some() {
            return None;
        }
        let first = self.next()?;
        if self.ended {
            return Some(first);
        }
        self.large.push(first);
        None
    }

    /// What of an object stands in a list: those of built-in kinds need not say what they are, as upstream's.
    fn pieces(&self, object: &Object) -> [Bytes; 3] {
        if self.kind.custom.is_some() {
            [object.body.clone(), Bytes::new(), Bytes::new()]
        } else {
            object.without_kind()
        }
    }

    fn put(&self, object: &Object, piece: &mut BytesMut) {
        match self.item {
            Item::Whole => self.pieces(object).iter().for_each(|part| piece.put_slice(part)),
            Item::Metadata { version } => table::put_metadata(object, version, piece),
            Item::Row { include, version, now } => table::put_row(&self.kind, object, include, version, now, piece),
        }
    }
}

impl Iterator for Splice {
    type Item = Bytes;

    /// The next piece.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.large.pop() {
            self.left = self.left.map(|left| left.saturating_sub(large.len()));
            return Some(large);
        }
        // A little more than a piece, for the object that fills it.
        let most = PIECE_BYTES + PIECE_BYTES / 8;
        let mut piece = BytesMut::with_capacity(self.left.map_or(most, |left| left.min(most)));
        if let Some(head) = self.head.take() {
            piece.put_slice(&head);
        }
        while piece.len() < PIECE_BYTES && !self.ended {
            let Some(object) = self.items.next() else {
                piece.put_slice(END);
                self.ended = true;
                break;
            };
            if std::mem::replace(&mut self.follows, true) {
                piece.put_u8(b',');
            }
            if self.item == Item::Whole && object.body.len() > PIECE_BYTES {
                self.large = self.pieces(&object).into_iter().rev().filter(|part| !part.is_empty()).collect();
                break;
            }
            self.put(&object, &mut piece);
        }
        self.left = self.left.map(|left| left.saturating_sub(piece.len()));
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

impl http_body::Body for Splice {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.pieces == PIECES_AT_ONCE {
            self.pieces = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // A piece of bytes is copied, one of rows is made: that takes much longer.
        self.pieces += if self.item == Item::Whole { 1 } else { PIECES_AT_ONCE };
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.large.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left as u64))
    }
}

/// The same, gzipped on the way.
pub(super) struct Gzipped<P> {
    plain: P,
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// A piece went out; others have their turn before the next.
    pause: bool,
}

impl<P: Iterator<Item = Bytes>> Gzipped<P> {
    pub(super) fn new(plain: P) -> Self {
        Self { plain, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())), pause: false }
    }

    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        for piece in self.plain.by_ref() {
            encoder.write_all(&piece)?;
            if encoder.get_ref().len() >= PIECE_BYTES / 4 {
                return Ok(Some(std::mem::take(encoder.get_mut()).into()));
            }
        }
        let rest = self.encoder.take().map(GzEncoder::finish).transpose()?;
        Ok(rest.map(Into::into))
    }
}

impl<P: Iterator<Item = Bytes> + Unpin> http_body::Body for Gzipped<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pause = true;
        // Writing into memory does not fail; if it did, the stream would end without its checksum.
        Poll::Ready(self.next().unwrap_or_default().map(|piece| Ok(Frame::data(piece))))
    }
}

/// All of a list, for encodings that need the tree.
pub(super) fn whole(kind: &Arc<Kind>, listing: Listing) -> serde_json::Result<Value> {
    serde_json::from_slice(&Splice::new(kind, Item::Whole, listing).collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use object::Gvr;
    use serde_json::json;

    use super::*;

    fn listing(sizes: &[usize]) -> Listing {
        let object = |(index, size): (usize, &usize)| {
            let metadata = json!({"name": format!("o{index}"), "managedFields": [{"manager": "m"}]});
            let mut value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "x".repeat(*size)}});
            Arc::new(object::Draft::new(&mut value).unwrap().seal(7))
        };
        Listing {
            revision: 7,
            items: sizes.iter().enumerate().map(object).collect(),
            continue_token: Some("next".into()),
            remaining: Some(3),
        }
    }

    fn config_map() -> Arc<Kind> {
        kinds::table().by_gvr(&Gvr::new("", "v1", "configmaps")).unwrap().clone()
    }

    #[test]
    fn pieces_make_the_list_that_was_promised() {
        for sizes in [&[][..], &[1], &[200_000], &[10, 200_000, 200_000, 10], &[30_000; 20]] {
            let make = || Splice::new(&config_map(), Item::Whole, listing(sizes));
            let promised = http_body::Body::size_hint(&make()).exact().unwrap() as usize;
            let whole = make().collect::<Vec<_>>().concat();
            assert_eq!(whole.len(), promised, "{sizes:?}");
            let value: Value = serde_json::from_slice(&whole).unwrap();
            assert_eq!((&value["kind"], &value["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
            let metadata = json!({"resourceVersion": "7", "continue": "next", "remainingItemCount": 3});
            assert_eq!(value["metadata"], metadata);
            assert_eq!(value["items"].as_array().unwrap().len(), sizes.len());
            let says = value["items"].as_array().unwrap().iter().any(|item| item.get("kind").is_some());
            assert!(!says, "what a list is of, its kind says");

            let mut gzipped = Gzipped::new(make());
            let mut packed = Vec::new();
            while let Some(piece) = gzipped.next().unwrap() {
                packed.extend_from_slice(&piece);
            }
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == whole, "{sizes:?}");
        }
    }

    #[test]
    fn rows_and_metadata_are_those_of_single_objects() {
        let (kind, now) = (config_map(), base::time::now_seconds());
        for (include, version) in [(Include::None, "v1"), (Include::Metadata, "v1beta1"), (Include::Object, "v1")] {
            let item = Item::Row { include, version, now };
            let mut splice = Splice::new(&kind, item, listing(&[1, 100_000]));
            assert_eq!(splice.short().is_some(), include != Include::Object);
            let text = Splice::new(&kind, item, listing(&[1, 100_000])).collect::<Vec<_>>().concat();
            if include == Include::Object {
                assert!(splice.collect::<Vec<_>>().concat() == text, "what was looked at is not lost");
            }
            let found: Value = serde_json::from_slice(&text).unwrap();
            let object = &listing(&[1]).items[0];
            let mut wanted = table::one(&kind, object, table::Shape::Table, include, true).unwrap();
            if include == Include::Metadata {
                wanted["rows"][0]["object"]["apiVersion"] = "meta.k8s.io/v1beta1".into();
            }
            assert_eq!(found["rows"][0], wanted["rows"][0]);
            assert_eq!(found["columnDefinitions"], wanted["columnDefinitions"]);
            assert_eq!(found["apiVersion"], format!("meta.k8s.io/{version}"));
            assert_eq!(found["rows"].as_array().unwrap().len(), 2);
        }
        let text = Splice::new(&kind, Item::Metadata { version: "v1" }, listing(&[1])).collect::<Vec<_>>().concat();
        let found: Value = serde_json::from_slice(&text).unwrap();
        let object = &listing(&[1]).items[0];
        let wanted = table::one(&kind, object, table::Shape::Metadata, Include::None, true).unwrap();
        assert_eq!((&found["items"][0], &found["kind"]), (&wanted, &json!("PartialObjectMetadataList")));
    }
}
