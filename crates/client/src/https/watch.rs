//! A watch's reply: one JSON event per line, in chunks that end anywhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use object::{Object, Status};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{Result, WatchEvent, WatchStream};

/// The events of a reply's body. Ends when the server ends it, with `Err` when it breaks off, and in any case at
/// `longest`: a connection that died silently must not look like a quiet collection.
pub(super) fn events(body: Incoming, longest: Duration) -> WatchStream {
    let reader = Reader { body, lines: Lines::default(), until: Instant::now() + longest, ended: false };
    futures::stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (event, reader)) })
        .boxed()
}

struct Reader {
    body: Incoming,
    lines: Lines,
    until: Instant,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<WatchEvent>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(line) = self.lines.next() {
                let event = parse(&line);
                self.ended = event.is_err();
                return Some(event);
            }
            match tokio::time::timeout_at(self.until, self.body.frame()).await {
                Err(_) | Ok(None) => return None,
                Ok(Some(Err(error))) => {
                    self.ended = true;
                    return Some(Err(super::unavailable(format!("the watch broke off: {}", base::Chain(&error)))));
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                }
            }
        }
    }
}

/// Cuts chunks into lines.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// Up to here there is no line end.
    searched: usize,
}

impl Lines {
    fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(found) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn parse(line: &[u8]) -> Result<WatchEvent> {
    let broken = |e: &dyn std::fmt::Display| Status::internal(format!("the server sent a broken watch event: {e}"));
    let event: Event = serde_json::from_slice(line).map_err(|e| broken(&e))?;
    let raw = event.object.get();
    if event.r#type == "ERROR" {
        let value: Value = serde_json::from_str(raw).map_err(|e| broken(&e))?;
        return Err(Status::from_value(&value).unwrap_or_else(|| Status::internal(raw)));
    }
    let object = Object::from_bytes(Bytes::copy_from_slice(raw.as_bytes())).map_err(|e| broken(&e))?;
    match event.r#type.as_str() {
        "ADDED" => Ok(WatchEvent::Added(Arc::new(object))),
        "MODIFIED" => Ok(WatchEvent::Modified(Arc::new(object))),
        "DELETED" => Ok(WatchEvent::Deleted(Arc::new(object))),
        "BOOKMARK" => Ok(WatchEvent::Bookmark(object.head.resource_version)),
        other => Err(broken(&format!("unknown type {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_anywhere_in_chunks() {
        let mut lines = Lines::default();
        lines.push(b"ab");
        assert_eq!(lines.next(), None);
        lines.push(b"c\n\nde");
        assert_eq!(lines.next().unwrap(), "abc");
        assert_eq!(lines.next(), None);
        lines.push(b"f\n");
        assert_eq!(lines.next().unwrap(), "def");
    }

    #[test]
    fn events_and_errors() {
        let added = parse(br#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a","resourceVersion":"5"}}}"#);
        assert!(matches!(added.unwrap(), WatchEvent::Added(o) if o.head.name == "a" && o.head.resource_version == 5));
        let mark = parse(br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"8"}}}"#);
        assert!(matches!(mark.unwrap(), WatchEvent::Bookmark(8)));
        let gone = parse(br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#);
        assert!(gone.unwrap_err().is_expired());
        assert_eq!(parse(b"{").unwrap_err().code, 500);
    }
}
