//! Trees into protobuf: what Go clients that ask for it are answered with.
//!
//! Absent fields are left out: Go reads them as the zero values that it would have sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{FIELDS, MAGIC, MOST_DEPTH, ProtobufError, Result, SCHEMA, boxed};
use crate::types::{Opaque, Scalar, Struct, Table, Type, table};

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The message of an object of the type `name`.
pub fn encode(table: &Table, name: &str, value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append(table, name, value, &mut out)?;
    Ok(out)
}

pub(super) fn append(table: &Table, name: &str, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    message(table, name, value, 0, out)
}

/// The message of a list: any kind's list has these two fields.
pub fn encode_list(table: &Table, metadata: &Value, items: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(items.iter().map(|i| i.len() + 6).sum::<usize>() + 64);
    bytes(1, &encode(table, LIST_META, metadata)?, &mut out);
    for item in items {
        bytes(2, item, &mut out);
    }
    Ok(out)
}

/// What stands before the items of a list, and after them; `size` is theirs, as [`super::put_item`] writes them.
pub fn list_envelope(api_version: &str, kind: &str, metadata: &Value, size: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut list = Vec::new();
    bytes(1, &encode(table(), LIST_META, metadata)?, &mut list);
    let mut head = MAGIC.to_vec();
    bytes(1, &type_meta(api_version, kind), &mut head);
    tag(2, 2, &mut head);
    varint((list.len() + size) as u64, &mut head);
    head.extend_from_slice(&list);
    let mut tail = Vec::new();
    bytes(3, b"", &mut tail);
    bytes(4, b"", &mut tail);
    Ok((head, tail))
}

fn type_meta(api_version: &str, kind: &str) -> Vec<u8> {
    let mut meta = Vec::new();
    bytes(1, api_version.as_bytes(), &mut meta);
    bytes(2, kind.as_bytes(), &mut meta);
    meta
}

/// The message of an object of which only the metadata is shown.
pub fn encode_metadata(table: &Table, value: &Value) -> Result<Vec<u8>> {
    let metadata = encode(table, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", &value["metadata"])?;
    let mut out = Vec::with_capacity(metadata.len() + 6);
    bytes(1, &metadata, &mut out);
    Ok(out)
}

/// Puts a message into its envelope.
pub fn seal(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = type_meta(api_version, kind);
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 16);
    out.extend_from_slice(MAGIC);
    bytes(1, &meta, &mut out);
    bytes(2, raw, &mut out);
    bytes(3, b"", &mut out);
    bytes(4, b"", &mut out);
    out
}

/// A frame of a watch: length, then an event that holds an enveloped object.
pub fn watch_frame(event: &str, sealed: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(sealed.len() + 6);
    bytes(1, sealed, &mut raw);
    let mut body = Vec::with_capacity(raw.len() + event.len() + 12);
    bytes(1, event.as_bytes(), &mut body);
    bytes(2, &raw, &mut body);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(body.len() + 4);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body);
    out
}

pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn tag(number: u32, wire: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire, out);
}

pub(super) fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

pub(super) fn number(at: u32, value: i64, out: &mut Vec<u8>) {
    tag(at, 0, out);
    varint(value.cast_unsigned(), out);
}

fn message(table: &Table, name: &str, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    let declared = table.get(name).ok_or_else(|| ProtobufError::UnknownType(name.into()))?;
    match value.as_object() {
        Some(object) => fields(table, declared, name, object, depth, out),
        None => Ok(()),
    }
}

/// Writes the fields of `object`, of the type `declared`, that are numbered in `numbering`.
fn fields(
    table: &Table,
    declared: &Struct,
    numbering: &str,
    object: &Map<String, Value>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    if depth > MOST_DEPTH {
        return Err(ProtobufError::Malformed(format!("{numbering}: nested too deep")));
    }
    let numbers = FIELDS.get(numbering).ok_or_else(|| ProtobufError::UnknownType(numbering.into()))?;
    for (at, name) in numbers {
        if let Some(inner) = name.strip_prefix('=') {
            let mut part = Vec::new();
            fields(table, declared, inner, object, depth + 1, &mut part)?;
            bytes(*at, &part, out);
            continue;
        }
        let (name, boxed) = boxed(name);
        let Some(value) = object.get(name).filter(|v| !v.is_null()) else { continue };
        let Some(field) = declared.fields.get(name) else { continue };
        match (&field.kind, value) {
            (Type::List(element), Value::Array(items)) if !boxed => {
                for item in items {
                    one(table, element, field.opaque, *at, item, depth, out)?;
                }
            }
            (Type::Map(element), Value::Object(entries)) => {
                for (key, item) in entries {
                    let mut entry = Vec::new();
                    bytes(1, key.as_bytes(), &mut entry);
                    one(table, element, field.opaque, 2, item, depth, &mut entry)?;
                    bytes(*at, &entry, out);
                }
            }
            (kind, value) => one(table, kind, field.opaque, *at, value, depth, out)?,
        }
    }
    Ok(())
}

pub(super) fn one(
    table: &Table,
    kind: &Type,
    opaque: Opaque,
    at: u32,
    value: &Value,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut part = Vec::new();
    match kind {
        Type::Struct(name) => message(table, name, value, depth + 1, &mut part)?,
        // A list within a map or list has a message of its own around it.
        Type::List(element) => {
            for item in value.as_array().into_iter().flatten() {
                one(table, element, opaque, 1, item, depth + 1, &mut part)?;
            }
        }
        Type::Map(_) => return Err(ProtobufError::Malformed(format!("field {at}: a map within a list or map"))),
        Type::Any => free_form(table, opaque, value, depth, &mut part)?,
        Type::Scalar(kind) => return scalar(*kind, at, value, out),
    }
    bytes(at, &part, out);
    Ok(())
}

fn free_form(table: &Table, opaque: Opaque, value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match (opaque, value) {
        (Opaque::SchemaOrList, Value::Array(all)) => {
            for item in all {
                one(table, &Type::Struct(SCHEMA.into()), Opaque::Json, 2, item, depth + 1, out)?;
            }
        }
        (Opaque::SchemaOrBool, Value::Bool(allows)) => number(1, i64::from(*allows), out),
        (Opaque::SchemaOrBool, schema) => {
            number(1, 1, out);
            one(table, &Type::Struct(SCHEMA.into()), Opaque::Json, 2, schema, depth + 1, out)?;
        }
        (Opaque::SchemaOrStrings, Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).for_each(|text| bytes(2, text.as_bytes(), out));
        }
        (Opaque::SchemaOrList | Opaque::SchemaOrStrings, schema) => {
            one(table, &Type::Struct(SCHEMA.into()), Opaque::Json, 1, schema, depth + 1, out)?;
        }
        (_, value) => bytes(1, value.to_string().as_bytes(), out),
    }
    Ok(())
}

fn scalar(kind: Scalar, at: u32, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let malformed = || ProtobufError::Malformed(format!("{kind:?} {value}"));
    let text = || value.as_str().ok_or_else(malformed);
    let whole = || value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).ok_or_else(malformed);
    let mut part = Vec::new();
    match kind {
        Scalar::String => {
            bytes(at, text()?.as_bytes(), out);
            return Ok(());
        }
        Scalar::Bytes => {
            bytes(at, &STANDARD.decode(text()?).map_err(|_| malformed())?, out);
            return Ok(());
        }
        Scalar::Bool => {
            number(at, i64::from(value.as_bool().ok_or_else(malformed)?), out);
            return Ok(());
        }
        Scalar::Int32 | Scalar::Int64 => {
            number(at, whole()?, out);
            return Ok(());
        }
        Scalar::Double => {
            tag(at, 1, out);
            out.extend_from_slice(&value.as_f64().ok_or_else(malformed)?.to_le_bytes());
            return Ok(());
        }
        Scalar::Quantity => {
            let shown = value.as_str().map_or_else(|| value.to_string(), Into::into);
            bytes(1, shown.as_bytes(), &mut part);
        }
        Scalar::IntOrString => match value.as_str() {
            Some(text) => {
                number(1, 1, &mut part);
                bytes(3, text.as_bytes(), &mut part);
            }
            None => number(2, whole()?, &mut part),
        },
        Scalar::Time | Scalar::MicroTime => {
            let stamp: jiff::Timestamp = text()?.parse().map_err(|_| malformed())?;
            number(1, stamp.as_second(), &mut part);
            number(2, i64::from(stamp.subsec_nanosecond()), &mut part);
        }
        Scalar::Duration => {
            let seconds = text()?.strip_suffix('s').and_then(|s| s.parse::<f64>().ok()).ok_or_else(malformed)?;
            number(1, (seconds * 1e9) as i64, &mut part);
        }
    }
    bytes(at, &part, out);
    Ok(())
}

/// What stands in field 1 of a free-form message, or what its other fields say.
pub(super) fn read_free_form(table: &Table, opaque: Opaque, raw: &[u8], depth: usize) -> Result<Option<Value>> {
    let schema = |raw: &[u8]| super::message(table, SCHEMA, raw, depth + 1).map(Value::Object);
    let (mut first, mut list, mut strings, mut allows) = (None, Vec::new(), Vec::new(), None);
    for field in super::Fields::new(raw, "free-form value") {
        match (opaque, field?) {
            (Opaque::SchemaOrBool, (1, super::Wire::Number(n))) => allows = Some(n != 0),
            (Opaque::SchemaOrBool, (2, super::Wire::Bytes(raw))) => first = Some(schema(raw)?),
            (Opaque::SchemaOrList | Opaque::SchemaOrStrings, (1, super::Wire::Bytes(raw))) => {
                first = Some(schema(raw)?)
            }
            (Opaque::SchemaOrList, (2, super::Wire::Bytes(raw))) => list.push(schema(raw)?),
            (Opaque::SchemaOrStrings, (2, super::Wire::Bytes(raw))) => strings.push(json!(super::string(raw))),
            (_, (1, super::Wire::Bytes(text))) => first = serde_json::from_slice(text).ok(),
            _ => {}
        }
    }
    let rest = if list.is_empty() { strings } else { list };
    Ok(first.or(allows.map(Value::Bool)).or((!rest.is_empty()).then_some(Value::Array(rest))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::{decode, open};

    fn round(name: &str, value: Value) {
        let raw = encode(table(), name, &value).unwrap();
        assert_eq!(decode(table(), name, &raw).unwrap(), value);
    }

    #[test]
    fn what_is_written_is_read() {
        round(
            "io.k8s.api.core.v1.Pod",
            json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-25T18:00:00Z", "labels": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}]},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "100m"}}, "livenessProbe": {"httpGet": {"port": "web", "path": "/"}},
                    "readinessProbe": {"tcpSocket": {"port": 80}, "initialDelaySeconds": 5}}],
                    "volumes": [{"name": "v", "configMap": {"name": "x", "defaultMode": 420}}]}}),
        );
        round("io.k8s.api.core.v1.Secret", json!({"data": {"a": "AAEC"}, "immutable": false}));
        round("io.k8s.api.coordination.v1.Lease", json!({"spec": {"renewTime": "2026-11-25T18:00:00.123456Z"}}));
        round("io.k8s.api.authentication.v1.UserInfo", json!({"extra": {"a": ["b", "c"]}}));
        round(
            SCHEMA,
            json!({"type": "object", "additionalProperties": {"type": "string"}, "items": {"type": "string"},
                "dependencies": {"a": ["b"]}, "default": {"x": 1}, "minimum": 1.5, "enum": ["a", 2]}),
        );
        round(SCHEMA, json!({"additionalProperties": false, "items": [{"type": "string"}, {"type": "integer"}]}));
    }

    #[test]
    fn lists_envelopes_and_frames() {
        let item = encode(table(), "io.k8s.api.core.v1.ConfigMap", &json!({"data": {"a": "b"}})).unwrap();
        let list = encode_list(table(), &json!({"resourceVersion": "7"}), std::slice::from_ref(&item)).unwrap();
        assert_eq!(&list[..7], [1 << 3 | 2, 3, 2 << 3 | 2, 1, b'7', 2 << 3 | 2, item.len() as u8]);
        let sealed = seal("v1", "ConfigMapList", &list);
        let opened = open(&sealed).unwrap();
        assert_eq!((opened.api_version.as_str(), opened.kind.as_str(), opened.raw), ("v1", "ConfigMapList", &list[..]));
        let frame = watch_frame("ADDED", &sealed);
        assert_eq!(frame.len(), 4 + u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize);
        assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    }
}
