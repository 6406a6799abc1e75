//! Other shapes of objects: tables and partial metadata, made on demand from the stored bytes.

use bytes::{BufMut, BytesMut};
use kinds::Kind;
use object::{Object, Status};
use serde_json::{Value, json};

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

pub(crate) fn columns(kind: &Kind) -> Value {
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

/// An object's partial metadata, in `version` of `meta.k8s.io`, as text.
pub(crate) fn put_metadata(object: &Object, version: &str, out: &mut BytesMut) {
    out.put_slice(b"{\"apiVersion\":\"meta.k8s.io/");
    out.put_slice(version.as_bytes());
    out.put_slice(b"\",\"kind\":\"PartialObjectMetadata\",\"metadata\":");
    match object.metadata_text() {
        Some(text) => out.put_slice(text),
        None => out.put_slice(object.value().unwrap_or_default()["metadata"].to_string().as_bytes()),
    }
    out.put_u8(b'}');
}

/// An object's row, as text.
pub(crate) fn put_row(kind: &Kind, object: &Object, include: Include, version: &str, now: i64, out: &mut BytesMut) {
    // A definition's columns may look anywhere.
    let value = if kind.custom.is_some() { object.value() } else { object.value_to_show() };
    // What is stored can be read; a row without cells is the harmless fallback.
    let cells = kind.row(&value.unwrap_or_default(), now);
    out.put_slice(b"{\"cells\":");
    out.put_slice(json!(cells).to_string().as_bytes());
    out.put_slice(b",\"object\":");
    match include {
        Include::None => out.put_slice(b"null"),
        Include::Metadata => put_metadata(object, version, out),
        Include::Object => out.put_slice(&object.body),
    }
    out.put_u8(b'}');
}

/// The table of a `Scale`.
pub(crate) fn scale(value: Value, include: Include) -> Value {
    let column = |name: &str, kind: &str, format: &str, words: &str| json!({"name": name, "type": kind, "format": format, "description": words, "priority": 0});
    let age = kinds::age::since(&value["metadata"]["creationTimestamp"], base::time::now_seconds());
    let cells = json!([value["metadata"]["name"], value["spec"]["replicas"], value["status"]["replicas"], age]);
    let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => metadata_only(&value),
        Include::Object => value,
    };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": [
        column("Name", "string", "name", kinds::custom::NAME), column("Desired", "integer", "", "Number of desired replicas"),
        column("Available", "integer", "", "Number of actual replicas"), column("Age", "date", "", kinds::custom::CREATED)], "rows": [{"cells": cells, "object": object}]})
}
