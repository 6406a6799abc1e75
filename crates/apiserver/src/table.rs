//! Other shapes of objects: tables and partial metadata, made on demand from the stored bytes.

use kinds::Kind;
use object::{Object, Status};
use serde_json::{Value, json};

use crate::read::Listing;

/// The shape that a client asks for by its `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Whole,
    /// `as=Table`: rows as `kubectl get` prints them.
    Table,
    /// `as=PartialObjectMetadata`, or `...List` for collections.
    Metadata,
}

/// What a table's rows carry of their objects (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// The shape of the first acceptable media type; 406 when there is none.
pub(crate) fn negotiate(accept: &str) -> Result<Shape, Status> {
    if accept.is_empty() {
        return Ok(Shape::Whole);
    }
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        if !matches!(media, "application/json" | "*/*" | "application/*" | "application/yaml") {
            continue;
        }
        let parameter = |name: &str| {
            let mut all = range.split(';').map(str::trim).filter_map(|p| p.split_once('='));
            all.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let group = parameter("g").unwrap_or("meta.k8s.io");
        match parameter("as") {
            None => return Ok(Shape::Whole),
            Some("Table") if group == "meta.k8s.io" => return Ok(Shape::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if group == "meta.k8s.io" => {
                return Ok(Shape::Metadata);
            }
            Some(_) => {}
        }
    }
    let text = "only the following media types are accepted: application/json, application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io";
    Err(Status::new(object::Reason::NotAcceptable, text))
}

fn metadata_only(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]})
}

fn row(kind: &Kind, value: Value, include: Include, now: i64) -> Value {
    let cells = kind.row(&value, now);
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => metadata_only(&value),
        Include::Object => value,
    };
    json!({"cells": cells, "object": object})
}

fn columns(kind: &Kind) -> Value {
    let column = |c: &kinds::Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    kind.columns.iter().map(column).collect()
}

fn table(kind: &Kind, metadata: Value, rows: Vec<Value>, with_columns: bool) -> Value {
    let columns = if with_columns { columns(kind) } else { Value::Null };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

/// One object in the shape. `first` is false for watch events after the first, whose tables leave the columns out.
pub(crate) fn one(kind: &Kind, object: &Object, shape: Shape, include: Include, first: bool) -> Result<Value, Status> {
    let value = object.value().map_err(Status::internal)?;
    Ok(match shape {
        Shape::Whole => value,
        Shape::Metadata => metadata_only(&value),
        Shape::Table => {
            let metadata = json!({"resourceVersion": object.head.resource_version.to_string()});
            table(kind, metadata, vec![row(kind, value, include, base::time::now_seconds())], first)
        }
    })
}

/// A list in a shape other than [`Shape::Whole`].
pub(crate) fn many(kind: &Kind, listing: &Listing, shape: Shape, include: Include) -> Result<Value, Status> {
    let mut metadata = json!({"resourceVersion": listing.revision.to_string()});
    if let Some(token) = &listing.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = listing.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let now = base::time::now_seconds();
    let values = listing.items.iter().map(|o| o.value().map_err(Status::internal));
    if shape == Shape::Table {
        let rows = values.map(|v| Ok(row(kind, v?, include, now))).collect::<Result<Vec<_>, Status>>()?;
        return Ok(table(kind, metadata, rows, true));
    }
    let items = values.map(|v| Ok(metadata_only(&v?))).collect::<Result<Vec<_>, Status>>()?;
    Ok(
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}),
    )
}
