//! Kubernetes' protobuf form of objects: what typed Go clients send and ask for.
//!
//! ```text
//! "k8s\0"  Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw message, 3: content encoding, 4: content type }
//! ```
//! The field numbers are data (`data/protobuf.json`: per type, number -> JSON name). `=Type` marks a message whose fields stand in
//! the outer object in JSON. Go sends zeros of what is no pointer; which of them are values is the table's knowledge ([`crate::Zero`]).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use crate::types::{Opaque, Scalar, Struct, Table, Type};

mod discovery;
mod encode;
mod text;

pub use discovery::encode_discovery;
pub(crate) use encode::varint;
pub use encode::{encode, encode_list, encode_metadata, list_envelope, seal, watch_frame};
pub use text::{put_item, put_metadata_item, transcode};

const NUMBERS: &str = include_str!("../data/protobuf.json");
const MAGIC: &[u8] = b"k8s\0";
/// The type that free-form parts of a schema refer to.
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// Nesting deeper than this is refused.
const MOST_DEPTH: usize = 64;

static FIELDS: LazyLock<BTreeMap<String, BTreeMap<u32, String>>> = LazyLock::new(|| {
    serde_json::from_str(NUMBERS).expect("data/protobuf.json is part of the source and covered by a test")
});

/// Bytes that are no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope's magic bytes are missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// Cut short, or a field has the wrong wire type.
    #[error("proto: illegal wireType or unexpected EOF in {0}")]
    Malformed(String),
    /// No type of that name has a protobuf form here.
    #[error("no protobuf form of {0:?} is known")]
    UnknownType(String),
}

/// A field's name, and whether it is a list that has a message of its own around it (`[verbs`).
fn boxed(name: &str) -> (&str, bool) {
    name.strip_prefix('[').map_or((name, false), |name| (name, true))
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// An envelope, opened: what it says it holds, and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The message.
    pub raw: &'a [u8],
}

/// True when the type has a protobuf form.
pub fn is_known(name: &str) -> bool {
    FIELDS.contains_key(name)
}

/// Opens the envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    for field in Fields::new(rest, "Unknown") {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields::new(meta, "TypeMeta") {
                    match field? {
                        (1, Wire::Bytes(text)) => envelope.api_version = string(text),
                        (2, Wire::Bytes(text)) => envelope.kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => envelope.raw = raw,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Reads a message of the type `name` into the tree that its JSON would be.
pub fn decode(table: &Table, name: &str, raw: &[u8]) -> Result<Value> {
    message(table, name, raw, 0).map(Value::Object)
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
    Fixed32(u32),
}

/// The fields of a message, in order.
struct Fields<'a> {
    rest: &'a [u8],
    name: &'a str,
}

impl<'a> Fields<'a> {
    fn new(rest: &'a [u8], name: &'a str) -> Self {
        Self { rest, name }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn read(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk::<8>()?;
                self.rest = rest;
                Wire::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
                self.rest = rest;
                Wire::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => return None,
        };
        Some((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>)>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read().ok_or_else(|| ProtobufError::Malformed(self.name.into()));
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn message(table: &Table, name: &str, raw: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let declared = table.get(name).ok_or_else(|| ProtobufError::UnknownType(name.into()))?;
    let mut object = Map::new();
    fields_into(table, declared, name, raw, depth, &mut object)?;
    Ok(object)
}

/// Reads a message whose fields are numbered as in `numbering` into an object of the type `declared`.
fn fields_into(
    table: &Table,
    declared: &Struct,
    numbering: &str,
    raw: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<()> {
    if depth > MOST_DEPTH {
        return Err(ProtobufError::Malformed(format!("{numbering}: nested too deep")));
    }
    let numbers = FIELDS.get(numbering).ok_or_else(|| ProtobufError::UnknownType(numbering.into()))?;
    for field in Fields::new(raw, numbering) {
        let (number, wire) = field?;
        let Some(name) = numbers.get(&number) else { continue };
        if let Some(inner) = name.strip_prefix('=') {
            let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed(numbering.into())) };
            fields_into(table, declared, inner, bytes, depth + 1, object)?;
            continue;
        }
        let (name, boxed) = boxed(name);
        let Some(field) = declared.fields.get(name) else { continue };
        match &field.kind {
            Type::List(element) if !boxed => {
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let (Value::Array(items), Some(item)) =
                    (list, value(table, element, field.opaque, wire, depth, name)?)
                {
                    items.push(item);
                }
            }
            Type::Map(element) => {
                let Wire::Bytes(entry) = wire else { return Err(ProtobufError::Malformed(name.into())) };
                let (mut key, mut item) = (String::new(), None);
                for part in Fields::new(entry, name) {
                    match part? {
                        (1, Wire::Bytes(text)) => key = string(text),
                        (2, wire) => item = value(table, element, field.opaque, wire, depth, name)?,
                        _ => {}
                    }
                }
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = map {
                    entries.insert(key, item.unwrap_or_else(|| zero(element)));
                }
            }
            kind => {
                let Some(value) = value(table, kind, field.opaque, wire, depth, name)? else { continue };
                let no_bytes = *kind == Type::Scalar(Scalar::Bytes) && value == "";
                if !no_bytes && !field.is_left_out(&value) {
                    object.insert(name.into(), value);
                }
            }
        }
    }
    Ok(())
}

fn value(table: &Table, kind: &Type, opaque: Opaque, wire: Wire<'_>, depth: usize, at: &str) -> Result<Option<Value>> {
    let malformed = || ProtobufError::Malformed(at.into());
    Ok(Some(match (kind, wire) {
        // A list within a map or list has a message of its own around it: `items`, field 1.
        (Type::List(element), Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            for field in Fields::new(bytes, at) {
                if let (1, wire) = field? {
                    items.extend(value(table, element, opaque, wire, depth + 1, at)?);
                }
            }
            Value::Array(items)
        }
        (Type::Struct(name), Wire::Bytes(bytes)) => Value::Object(message(table, name, bytes, depth + 1)?),
        // RawExtension, JSON and FieldsV1 are JSON text in field 1; parts of a schema have messages of their own.
        (Type::Any, Wire::Bytes(bytes)) => return encode::read_free_form(table, opaque, bytes, depth),
        (Type::Scalar(scalar), wire) => match (scalar, wire) {
            (Scalar::String, Wire::Bytes(bytes)) => string(bytes).into(),
            (Scalar::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Scalar::Bool, Wire::Number(n)) => (n != 0).into(),
            (Scalar::Int32 | Scalar::Int64, Wire::Number(n)) => n.cast_signed().into(),
            (Scalar::Double, Wire::Fixed64(bits)) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            (Scalar::Double, Wire::Fixed32(bits)) => {
                Number::from_f64(f64::from(f32::from_bits(bits))).map_or(Value::Null, Value::Number)
            }
            (Scalar::Quantity, Wire::Bytes(bytes)) => {
                let mut text = String::new();
                for field in Fields::new(bytes, at) {
                    if let (1, Wire::Bytes(bytes)) = field? {
                        text = string(bytes);
                    }
                }
                if text.is_empty() { "0".into() } else { text.into() }
            }
            (Scalar::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes, at)?,
            (Scalar::Time, Wire::Bytes(bytes)) => return time(bytes, at, false),
            (Scalar::MicroTime, Wire::Bytes(bytes)) => return time(bytes, at, true),
            (Scalar::Duration, Wire::Bytes(bytes)) => {
                let mut nanos = 0;
                for field in Fields::new(bytes, at) {
                    if let (1, Wire::Number(n)) = field? {
                        nanos = n.cast_signed();
                    }
                }
                format!("{}s", Number::from_f64(nanos as f64 / 1e9).unwrap_or_else(|| 0.into())).into()
            }
            _ => return Err(malformed()),
        },
        _ => return Err(malformed()),
    }))
}

/// What an entry of a map is whose value is not sent.
fn zero(kind: &Type) -> Value {
    match kind {
        Type::Scalar(Scalar::Bool) => false.into(),
        Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => 0.into(),
        Type::Scalar(Scalar::Quantity) => "0".into(),
        Type::Scalar(_) => "".into(),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) | Type::Struct(_) => Value::Object(Map::new()),
        Type::Any => Value::Null,
    }
}

fn int_or_string(bytes: &[u8], at: &str) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields::new(bytes, at) {
        match field? {
            (1, Wire::Number(n)) => is_text = n == 1,
            (2, Wire::Number(n)) => number = n.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = string(bytes),
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// `None` for the zero time, which Go sends as an empty message.
fn time(bytes: &[u8], at: &str, micros: bool) -> Result<Option<Value>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes, at) {
        match field? {
            (1, Wire::Number(n)) => seconds = n.cast_signed(),
            (2, Wire::Number(n)) => nanos = i32::try_from(n.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    let stamp = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed(at.into()))?;
    Ok(Some(if micros { format!("{stamp:.6}").into() } else { format!("{stamp:.0}").into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;
    use serde_json::json;

    /// A field of bytes.
    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = value.len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(value);
        out
    }

    #[test]
    fn every_number_names_a_field() {
        for (name, numbers) in FIELDS.iter() {
            for field in numbers.values() {
                match field.strip_prefix('=') {
                    Some(inner) => assert!(FIELDS.contains_key(inner), "{name}: {inner}"),
                    None => {
                        let (field, _) = boxed(field);
                        assert!(table().get(name).is_none_or(|s| s.fields.contains_key(field)), "{name}.{field}");
                    }
                }
            }
        }
    }

    #[test]
    fn verbs_have_a_message_of_their_own() {
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResource";
        let raw = [bytes(1, b"pods"), bytes(4, &[bytes(1, b"get"), bytes(1, b"list")].concat())].concat();
        let value = serde_json::json!({"name": "pods", "verbs": ["get", "list"]});
        let read = decode(table(), name, &raw).unwrap();
        assert_eq!((&read["name"], &read["verbs"]), (&value["name"], &value["verbs"]));
        let written = encode(table(), name, &value).unwrap();
        assert_eq!(written, raw);
        let mut out = Vec::new();
        transcode(name, value.to_string().as_bytes(), &mut out).unwrap();
        assert_eq!(out, raw);
    }

    #[test]
    fn a_config_map_as_kubectl_sends_it() {
        let metadata = [bytes(1, b"x"), bytes(3, b""), bytes(8, b""), vec![7 << 3, 0]].concat();
        let entry = [bytes(1, b"a"), bytes(2, b"b")].concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry), vec![4 << 3, 0]].concat();
        let meta = [bytes(1, b"v1"), bytes(2, b"ConfigMap")].concat();
        let whole = [MAGIC.to_vec(), bytes(1, &meta), bytes(2, &raw)].concat();
        let envelope = open(&whole).unwrap();
        assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "ConfigMap"));
        let value = decode(table(), "io.k8s.api.core.v1.ConfigMap", envelope.raw).unwrap();
        assert_eq!(
            value,
            json!({"metadata": {"name": "x"}, "data": {"a": "b"}, "immutable": false}),
            "a pointer to false is kept"
        );
        assert_eq!(open(b"{}").unwrap_err(), ProtobufError::NoMagic);
        assert!(decode(table(), "io.k8s.api.core.v1.ConfigMap", &raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn zeros_are_kept_where_json_keeps_them() {
        let read = |name: &str, raw: &[u8]| decode(table(), &format!("io.k8s.api.core.v1.{name}"), raw).unwrap();
        let no_class = bytes(5, b"");
        assert_eq!(read("PersistentVolumeClaimSpec", &no_class), json!({"storageClassName": ""}), "a pointer");
        let status = [bytes(1, b"c"), vec![4 << 3, 0, 5 << 3, 0], bytes(6, b"")].concat();
        assert_eq!(
            read("ContainerStatus", &status),
            json!({"name": "c", "ready": false, "restartCount": 0, "image": ""})
        );
        let raw = [bytes(5, b"object"), vec![0xb8, 0x02, 0, 0xc0, 0x02, 0]].concat();
        assert_eq!(decode(table(), SCHEMA, &raw).unwrap(), json!({"type": "object"}), "39 and 40: no pointers");
    }

    #[test]
    fn entries_without_a_value_have_their_zero() {
        let hard = bytes(1, &bytes(1, b"cpu"));
        let value = decode(table(), "io.k8s.api.core.v1.ResourceQuotaSpec", &hard).unwrap();
        assert_eq!(value, json!({"hard": {"cpu": "0"}}));
    }

    #[test]
    fn embedded_messages_are_flat() {
        let source = bytes(1, &bytes(1, b"/data"));
        let volume = [bytes(1, b"v"), bytes(2, &source)].concat();
        let value = decode(table(), "io.k8s.api.core.v1.Volume", &volume).unwrap();
        assert_eq!(value, json!({"name": "v", "hostPath": {"path": "/data"}}));
    }
}
