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
use object::{Object, Status};
use serde_json::{Value, json};

use super::accept::{Encoding, encoded};
use crate::read::Listing;
use crate::table::{self, Include};

/// A few TLS records; small enough for a core's cache.
pub(super) const PIECE_BYTES: usize = 64 << 10;
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

/// How a list is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// JSON without a space.
    Plain,
    /// JSON for people.
    Pretty,
    Yaml,
}

/// The body of a list.
pub(super) struct Splice {
    kind: Arc<Kind>,
    item: Item,
    style: Style,
    /// The envelope up to the first item.
    head: Option<Bytes>,
    items: std::vec::IntoIter<Arc<Object>>,
    /// What stands before an item's first line, where it is laid out; what its others are moved in by is as wide.
    bullet: String,
    /// The rest of the envelope.
    tail: Bytes,
    /// The next item is not the first.
    follows: bool,
    /// An object in pieces of its own, which come next, the last of them first.
    large: Vec<Bytes>,
    ended: bool,
    /// Bytes that are still to come, where that is known beforehand.
    left: Option<usize>,
    /// A piece went out; others of this thread have their turn before the next.
    pause: bool,
}

/// Stands for the items in an envelope that is laid out as a whole.
const ITEMS: &str = "the items stand here";

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
            style: Style::Plain,
            head: Some(head.into()),
            items: listing.items.into_iter(),
            bullet: String::new(),
            tail: Bytes::from_static(END),
            follows: false,
            large: Vec::new(),
            ended: false,
            left: (item == Item::Whole).then_some(whole),
            pause: false,
        }
    }

    /// The same list, laid out otherwise.
    pub(super) fn styled(mut self, style: Style) -> Result<Self, Status> {
        if style == Style::Plain {
            return Ok(self);
        }
        let head = self.head.take().unwrap_or_default();
        let is_empty = self.items.len() == 0;
        let marked = if is_empty { String::new() } else { json!(ITEMS).to_string() };
        let envelope = [&*head, marked.as_bytes(), END].concat();
        let envelope = laid_out(&serde_json::from_slice(&envelope).map_err(Status::internal)?, style)?;
        // What follows the items has no spaces of anybody's: neither tokens nor revisions have.
        let at = envelope.rfind(ITEMS).filter(|_| !is_empty);
        (self.style, self.left) = (style, None);
        let Some(at) = at else {
            // Nothing is in it.
            (self.head, self.tail) = (Some(envelope.into()), Bytes::new());
            return Ok(self);
        };
        let line = envelope[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = envelope[at..].find('\n').map_or(envelope.len(), |end| at + end);
        self.head = Some(envelope[..line].to_owned().into());
        self.tail = envelope[end..].to_owned().into();
        // In JSON the mark is a string: its quote is no part of what stands before the item.
        self.bullet = envelope[line..at].trim_end_matches(['"', '\'']).to_owned();
        Ok(self)
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
        if self.style != Style::Plain {
            let mut text = BytesMut::with_capacity(object.body.len());
            self.put_plain(object, &mut text);
            // What is stored can be read, and written again.
            let value = serde_json::from_slice(&text).unwrap_or_default();
            return self.put_lines(&laid_out(&value, self.style).unwrap_or_default(), piece);
        }
        self.put_plain(object, piece);
    }

    fn put_plain(&self, object: &Object, piece: &mut BytesMut) {
        match self.item {
            Item::Whole => self.pieces(object).iter().for_each(|part| piece.put_slice(part)),
            Item::Metadata { version } => table::put_metadata(object, version, piece),
            Item::Row { include, version, now } => table::put_row(&self.kind, object, include, version, now, piece),
        }
    }

    /// An item that is laid out, moved in to where its list stands.
    fn put_lines(&self, text: &str, piece: &mut BytesMut) {
        for (index, line) in text.trim_end_matches('\n').split('\n').enumerate() {
            match index {
                0 => piece.put_slice(self.bullet.as_bytes()),
                _ => {
                    piece.put_u8(b'\n');
                    // An empty line of a text within stays one.
                    piece.put_bytes(b' ', if line.is_empty() { 0 } else { self.bullet.len() });
                }
            }
            piece.put_slice(line.as_bytes());
        }
    }

    /// What stands between two items.
    fn separator(&self) -> &'static [u8] {
        match self.style {
            Style::Plain => b",",
            Style::Pretty => b",\n",
            Style::Yaml => b"\n",
        }
    }

    /// Bytes after which a piece is one: of copied bytes more than of what takes time to make.
    fn most(&self) -> usize {
        if self.style == Style::Plain && self.item == Item::Whole { PIECE_BYTES } else { PIECE_BYTES / 4 }
    }
}

/// A value as people read it.
fn laid_out(value: &Value, style: Style) -> Result<String, Status> {
    let encoding = if style == Style::Yaml { Encoding::Yaml } else { Encoding::Json };
    let text = encoded(value, encoding, true)?;
    String::from_utf8(text.into()).map_err(Status::internal)
}

impl Iterator for Splice {
    type Item = Bytes;

    /// The next piece.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.large.pop() {
            self.left = self.left.map(|left| left.saturating_sub(large.len()));
            return Some(large);
        }
        let full = self.most();
        // A little more than a piece, for the object that fills it.
        let most = full + full / 8;
        let mut piece = BytesMut::with_capacity(self.left.map_or(most, |left| left.min(most)));
        if let Some(head) = self.head.take() {
            piece.put_slice(&head);
        }
        while piece.len() < full && !self.ended {
            let Some(object) = self.items.next() else {
                piece.put_slice(&self.tail);
                self.ended = true;
                break;
            };
            if std::mem::replace(&mut self.follows, true) {
                piece.put_slice(self.separator());
            }
            if self.item == Item::Whole && self.style == Style::Plain && object.body.len() > PIECE_BYTES {
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
        if std::mem::replace(&mut self.pause, true) {
            self.pause = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
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

    /// What one more piece comes to: often nothing yet. `None`: that was all.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        let Some(piece) = self.plain.next() else {
            return Ok(self.encoder.take().map(GzEncoder::finish).transpose()?.map(Into::into));
        };
        encoder.write_all(&piece)?;
        let is_piece = encoder.get_ref().len() >= PIECE_BYTES / 4;
        Ok(Some(if is_piece { std::mem::take(encoder.get_mut()).into() } else { Bytes::new() }))
    }
}

impl<P: Iterator<Item = Bytes> + Unpin> http_body::Body for Gzipped<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !std::mem::take(&mut self.pause) {
            // Writing into memory does not fail; if it did, the stream would end without its checksum.
            match self.next().unwrap_or_default() {
                Some(piece) if piece.is_empty() => {}
                piece => {
                    self.pause = true;
                    return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use object::Gvr;

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

    #[test]
    fn people_read_what_programs_read() {
        let (kind, now) = (config_map(), base::time::now_seconds());
        let awkward = |mut listing: Listing| {
            let mut value = json!({"metadata": {"name": "x"}, "data": {"lines": "a\n\n  b\n", "end": "c\n\n", "empty": "", "n": "1"}});
            listing.items.insert(0, Arc::new(object::Draft::new(&mut value).unwrap().seal(8)));
            listing
        };
        let row = Item::Row { include: Include::Metadata, version: "v1", now };
        for item in [Item::Whole, row, Item::Metadata { version: "v1" }] {
            for sizes in [None, Some(&[][..]), Some(&[1, 50_000, 1])] {
                let listing = || sizes.map_or_else(|| listing(&[]), |sizes| awkward(listing(sizes)));
                let text = |style| {
                    let splice = Splice::new(&kind, item, listing()).styled(style).unwrap();
                    String::from_utf8(splice.collect::<Vec<_>>().concat()).unwrap()
                };
                let plain: Value = serde_json::from_str(&text(Style::Plain)).unwrap();
                assert_eq!(text(Style::Pretty), serde_json::to_string_pretty(&plain).unwrap() + "\n");
                let yaml: Value = serde_saphyr::from_str(&text(Style::Yaml)).unwrap();
                assert_eq!(yaml, plain, "{}", text(Style::Yaml));
            }
        }
    }
}
