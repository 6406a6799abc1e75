//! What was read, in the shape and the encoding that were asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Resource, WatchEvent};
use futures::StreamExt;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kinds::Kind;
use object::Status;
use serde_json::{Value, json};

use super::Handled;
use super::accept::{self, Accepted, Encoding, encoded};
use super::reply::{self, Body, Extent, ok_json};
use super::sealed::Sealed;
use super::splice::{Item, Splice, Style};
use crate::metrics::WatchEvents;
use crate::read::Listing;
use crate::table::{self, Include, Shape};
use crate::watch::Events;
use crate::write::Written;

/// How reads are shown.
#[derive(Clone, Copy)]
pub(super) struct Reads<'k> {
    pub(super) kind: &'k Arc<Kind>,
    pub(super) accepted: Accepted,
    pub(super) include: Include,
    pub(super) pretty: bool,
}

impl Reads<'_> {
    pub(super) fn object(self, object: &object::Object, code: StatusCode, warnings: &[String]) -> Handled {
        let body = match self.accepted {
            Accepted { shape: Shape::Whole, encoding: Encoding::Json, .. } if !self.pretty => object.body.clone(),
            Accepted { shape: Shape::Whole, encoding: Encoding::Protobuf, .. } => self.sealed(object)?.into(),
            accepted => encoded(&self.shown(object, true)?, accepted.encoding, self.pretty)?,
        };
        let mut response = reply::bytes(code, body, self.accepted.content_type(false));
        reply::warn(&mut response, warnings.iter().map(String::as_str));
        Ok(response)
    }

    /// An object as an enveloped protobuf message. Subresources show objects of other kinds than theirs.
    fn sealed(self, object: &object::Object) -> Result<Vec<u8>, Status> {
        match self.kind.kind == *object.head.kind {
            true => accept::sealed_object(self.kind, object),
            false => accept::sealed(&self.shown(object, true)?),
        }
    }

    /// An object in the shape that was asked for.
    fn shown(self, object: &object::Object, first: bool) -> Result<Value, Status> {
        let mut value = table::one(self.kind, object, self.accepted.shape, self.include, first)?;
        self.dated(&mut value);
        Ok(value)
    }

    /// Tables and partial metadata say the version that was asked for.
    fn dated(self, value: &mut Value) {
        if self.accepted.shape == Shape::Whole || self.accepted.meta_version == "v1" {
            return;
        }
        let version = format!("meta.k8s.io/{}", self.accepted.meta_version);
        value["apiVersion"] = version.as_str().into();
        for row in value.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(object) = row.get_mut("object").filter(|o| o["kind"] == "PartialObjectMetadata") {
                object["apiVersion"] = version.as_str().into();
            }
        }
    }

    /// A `Scale`: a table of it has columns of its own.
    pub(super) fn scale(mut self, object: &object::Object, code: StatusCode, warnings: &[String]) -> Handled {
        if self.accepted.shape != Shape::Table {
            return self.object(object, code, warnings);
        }
        self.accepted.shape = Shape::Whole;
        let value = object.value().map_err(Status::internal)?;
        Ok(ok_json(&table::scale(value, self.include)))
    }

    /// A value that is no stored object: a status, a review.
    pub(super) fn reply(self, value: &Value, code: StatusCode) -> Handled {
        let encoding = self.accepted.encoding;
        Ok(reply::bytes(code, encoded(value, encoding, self.pretty)?, self.accepted.content_type(false)))
    }

    pub(super) fn reply_warned(self, value: &Value, code: u16, warnings: &[String]) -> Handled {
        let mut response = self.reply(value, StatusCode::from_u16(code).unwrap_or(StatusCode::CREATED))?;
        reply::warn(&mut response, warnings.iter().map(String::as_str));
        Ok(response)
    }

    pub(super) async fn list(self, listing: Listing, headers: &HeaderMap) -> Handled {
        let Accepted { shape, encoding, meta_version: version } = self.accepted;
        let item = match shape {
            Shape::Whole => Item::Whole,
            Shape::Table => Item::Row { include: self.include, version, now: base::time::now_seconds() },
            Shape::Metadata => Item::Metadata { version },
        };
        let content_type = self.accepted.content_type(false);
        let style = match encoding {
            Encoding::Protobuf => {
                let sealed = Sealed::new(self.kind, item, listing).await?;
                return Ok(reply::sealed_list(sealed, headers, content_type));
            }
            Encoding::Json if !self.pretty => Style::Plain,
            Encoding::Json => Style::Pretty,
            Encoding::Yaml => Style::Yaml,
        };
        Ok(reply::list(Splice::new(self.kind, item, listing).styled(style)?, headers, content_type))
    }

    pub(super) fn written(self, written: Written) -> Handled {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        self.object(&written.object, code, &written.warnings)
    }

    /// A line per event, until the time is over.
    pub(super) fn stream(self, events: Events, time: Duration) -> Response<Body> {
        let mut first = true;
        let (kind, counted) = (self.kind.clone(), WatchEvents::of(self.kind));
        let Self { accepted, include, pretty, .. } = self;
        let lines = events.map(move |delivered| {
            let reads = Reads { kind: &kind, accepted, include, pretty };
            let line = match delivered {
                Ok(delivered) => reads.line(&delivered, std::mem::take(&mut first)),
                Err(status) => Err(status),
            };
            let line = line.or_else(|status| reads.frame("ERROR", &status.to_value()));
            let line = line.unwrap_or_default();
            counted.sent(line.len());
            Ok::<_, std::convert::Infallible>(Frame::data(line))
        });
        let deadline = tokio::time::sleep(time);
        let body = StreamBody::new(lines.take_until(deadline));
        let mut response = Response::new(Body::new(body));
        let media = header::HeaderValue::from_static(self.accepted.content_type(true));
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        response.extensions_mut().insert(Extent::Lasting);
        response
    }

    /// An event as its stream has it: a line of JSON, or a frame of protobuf.
    fn frame(self, event: &str, object: &Value) -> Result<Bytes, Status> {
        if self.accepted.encoding == Encoding::Protobuf {
            return Ok(schema::protobuf::watch_frame(event, &accept::sealed(object)?).into());
        }
        // In upstream's order.
        Ok(format!("{{\"type\":{},\"object\":{object}}}\n", json!(event)).into())
    }

    fn line(self, delivered: &crate::watch::Delivered, first: bool) -> Result<Bytes, Status> {
        let (name, object) = match &delivered.event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            WatchEvent::Bookmark(revision) => {
                let mut metadata = json!({"resourceVersion": revision.to_string()});
                if delivered.initial_end {
                    metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                let version = format!("meta.k8s.io/{}", self.accepted.meta_version);
                let object = match self.accepted.shape {
                    Shape::Table => {
                        json!({"kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": null, "rows": []})
                    }
                    Shape::Metadata => {
                        json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
                    }
                    Shape::Whole => {
                        json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
                    }
                };
                return self.frame("BOOKMARK", &object);
            }
        };
        if self.accepted.shape == Shape::Whole && self.accepted.encoding == Encoding::Json {
            let head = format!("{{\"type\":\"{name}\",\"object\":");
            return Ok([head.as_bytes(), &object.body, b"}\n"].concat().into());
        }
        if self.accepted.shape == Shape::Whole && self.accepted.encoding == Encoding::Protobuf {
            return Ok(schema::protobuf::watch_frame(name, &self.sealed(object)?).into());
        }
        self.frame(name, &self.shown(object, first)?)
    }
}

/// `kubectl get cs`: made up on the spot, as upstream does.
pub(super) async fn component_statuses(reads: Reads<'_>, at: &Resource, headers: &HeaderMap) -> Handled {
    let one = |name: &str| {
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    };
    let all = ["etcd-0", "controller-manager", "scheduler"];
    let items = all.iter().filter(|n| at.name.as_deref().is_none_or(|wanted| wanted == **n));
    let items: Vec<_> = items.filter_map(|n| object::Object::from_value(&one(n)).ok()).map(Arc::new).collect();
    match &at.name {
        Some(name) => {
            let object = items.first().ok_or_else(|| Status::not_found("", "componentstatuses", name))?;
            reads.object(object, StatusCode::OK, &[])
        }
        None => {
            let listing = Listing { revision: 0, items, continue_token: None, remaining: None };
            reads.list(listing, headers).await
        }
    }
}
