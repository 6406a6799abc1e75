//! Objects as bytes with a head, and drafts that become objects when a revision is assigned.
//!
//! ```text
//! tree (serde_json::Value) --Draft::new--> Draft: bytes with a hole for resourceVersion
//!                          --Draft::seal(revision)--> Object: head + final bytes
//! ```
//! The hole exists because the store assigns the revision at commit, after the pipeline has encoded the object; sealing
//! is one copy of the bytes, not an encoding.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::texts::{SharedText, Texts};

/// The parsed part of an object: what routing, selecting, owning and versioning need without looking at the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `v1`, `apps/v1`.
    pub api_version: SharedText,
    /// `Pod`.
    pub kind: SharedText,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion` as a store revision; 0 when absent.
    pub resource_version: u64,
    /// `metadata.generation`; 0 when absent.
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: Texts,
    /// `metadata.ownerReferences`.
    pub owners: Vec<OwnerReference>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp`, RFC 3339.
    pub deletion_timestamp: Option<SharedText>,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub creation_timestamp: Option<SharedText>,
    /// Values of the kind's selectable fields besides `metadata.name` and `metadata.namespace`
    /// (`spec.nodeName` -> `n1`), filled by the API server from the table of kinds. Those without a value may be missing.
    pub fields: Texts,
}

impl Head {
    /// True once deletion was requested.
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
    /// The owner reference with `controller: true`.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|o| o.controller)
    }
    /// `namespace/name`, or `name` for cluster-scoped objects: the key of caches and queues.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }
}

/// `metadata.ownerReferences[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `apps/v1`.
    pub api_version: SharedText,
    /// `ReplicaSet`.
    pub kind: SharedText,
    /// The owner's name, in the same namespace or cluster-scoped.
    pub name: SharedText,
    /// The owner's uid.
    pub uid: SharedText,
    /// True for the managing controller.
    pub controller: bool,
    /// Foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// Bytes that are not an API object.
#[derive(Debug, thiserror::Error)]
#[error("not an API object: {0}")]
pub struct MalformedObject(#[from] serde_json::Error);

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HeadView {
    api_version: SharedText,
    kind: SharedText,
    metadata: MetadataView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MetadataView {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    generation: i64,
    labels: Option<Texts>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<SharedText>,
    creation_timestamp: Option<SharedText>,
}

impl From<HeadView> for Head {
    fn from(view: HeadView) -> Self {
        let m = view.metadata;
        Head {
            api_version: view.api_version,
            kind: view.kind,
            name: m.name,
            namespace: m.namespace,
            uid: m.uid,
            resource_version: m.resource_version.parse().unwrap_or(0),
            generation: m.generation,
            labels: m.labels.unwrap_or_default(),
            owners: m.owner_references.unwrap_or_default(),
            finalizers: m.finalizers.unwrap_or_default(),
            deletion_timestamp: m.deletion_timestamp,
            creation_timestamp: m.creation_timestamp,
            fields: Texts::default(),
        }
    }
}

/// An API object: canonical JSON bytes and their head. Immutable; shared behind `Arc`.
#[derive(Clone, Debug)]
pub struct Object {
    /// The parsed part.
    pub head: Head,
    /// Canonical JSON, `metadata.resourceVersion` included.
    pub body: Bytes,
}

impl Object {
    /// Parses the head out of canonical JSON. `head.fields` stays empty.
    pub fn from_bytes(body: Bytes) -> Result<Self, MalformedObject> {
        let head: HeadView = serde_json::from_slice(&body)?;
        Ok(Self { head: head.into(), body })
    }

    /// Encodes a tree. `head.fields` stays empty.
    pub fn from_value(value: &Value) -> Result<Self, MalformedObject> {
        // Without the room that the encoder left.
        let body = serde_json::to_vec(value)?.into_boxed_slice();
        Self::from_bytes(body.into())
    }

    /// A narrow typed view of the object: a small `Deserialize` struct that names the fields that its room reads.
    pub fn view<T: DeserializeOwned>(&self) -> Result<T, MalformedObject> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The whole object as a tree. For the write path; readers take a view.
    pub fn value(&self) -> Result<Value, MalformedObject> {
        self.view()
    }

    /// The object as a tree, but for its managed fields, which are a third of most and in no column of any table.
    pub fn value_to_show(&self) -> Result<Value, MalformedObject> {
        Ok(self.view::<Shown>()?.0)
    }

    /// The text of `metadata`; `None` when it does not stand as [`Draft`] writes it.
    pub fn metadata_text(&self) -> Option<&[u8]> {
        let start = metadata_start(&self.body)?;
        let (mut depth, mut at) = (0_usize, start);
        loop {
            match *self.body.get(at)? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(&self.body[start..=at]);
                    }
                }
                b'"' => at = string_end(&self.body, at)?,
                _ if depth == 0 => return None,
                _ => {}
            }
            at += 1;
        }
    }

    /// The pieces of the body around `apiVersion` and `kind`, which lists of built-in kinds leave out; the whole body where those do
    /// not stand as [`Draft`] writes them.
    pub fn without_kind(&self) -> [Bytes; 3] {
        match said(&self.body) {
            Some([first, second]) => [
                self.body.slice(..first.start),
                self.body.slice(first.end..second.start),
                self.body.slice(second.end..),
            ],
            None => [self.body.clone(), Bytes::new(), Bytes::new()],
        }
    }

    /// The same object under another revision (a watch's DELETED event carries the revision of the deletion).
    pub fn with_revision(&self, revision: u64) -> Result<Self, MalformedObject> {
        if let Some(hole) = hole(&self.body) {
            let digits = revision.to_string();
            let body = [&self.body[..hole.start], digits.as_bytes(), &self.body[hole.end..]].concat();
            return Ok(Self { head: Head { resource_version: revision, ..self.head.clone() }, body: body.into() });
        }
        let mut value = self.value()?;
        let mut draft = Draft::new(&mut value)?;
        draft.head.fields = self.head.fields.clone();
        Ok(draft.seal(revision))
    }
}

/// Where the value of the object's own `metadata` begins in its body.
fn metadata_start(body: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"metadata\":";
    Some(own_field(body, 0, KEY)? + KEY.len())
}

/// Where the object says what it is: `"kind":"Pod",` and `"apiVersion":"v1",`, in either order: what was written before kinds came first
/// is by the alphabet.
fn said(body: &[u8]) -> Option<[Range<usize>; 2]> {
    const KIND: &[u8] = b"\"kind\":\"";
    const VERSION: &[u8] = b"\"apiVersion\":\"";
    let entry = |from: usize, key: &[u8]| {
        let start = own_field(body, from, key)?;
        let end = string_end(body, start + key.len() - 1)? + 1;
        (body.get(end) == Some(&b',')).then_some(start..end + 1)
    };
    let (first, second) = if body.get(1..)?.starts_with(KIND) { (KIND, VERSION) } else { (VERSION, KIND) };
    let first = entry(0, first)?;
    let second = entry(first.end, second)?;
    Some([first, second])
}

/// Where a field of the object itself begins; `from` is 0, or behind one of them. `key` begins with its quote.
fn own_field(body: &[u8], from: usize, key: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (usize::from(from > 0), from);
    while at < body.len() {
        match body[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' if depth == 1 && body[at..].starts_with(key) => return Some(at),
            b'"' => at = string_end(body, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `at` has its closing quote.
fn string_end(body: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        match body[at] {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}

/// Where the revision stands in a body that [`Draft::seal`] made: the first field of the metadata of the object itself, not of one
/// within it.
fn hole(body: &[u8]) -> Option<Range<usize>> {
    const FIRST: &[u8] = b"{\"resourceVersion\":\"";
    let metadata = metadata_start(body)?;
    let start = metadata + FIRST.len();
    let digits = body.get(start..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let sealed = body[metadata..].starts_with(FIRST) && body.get(start + digits) == Some(&b'"');
    sealed.then_some(start..start + digits)
}

/// A tree without `metadata.managedFields`.
struct Shown(Value);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields {
            of_metadata: bool,
        }
        impl<'de> DeserializeSeed<'de> for Fields {
            type Value = Map<String, Value>;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_map(self)
            }
        }
        impl<'de> Visitor<'de> for Fields {
            type Value = Map<String, Value>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an API object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if self.of_metadata && key == "managedFields" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = match !self.of_metadata && key == "metadata" {
                        true => Value::Object(map.next_value_seed(Fields { of_metadata: true })?),
                        false => map.next_value()?,
                    };
                    found.insert(key, value);
                }
                Ok(found)
            }
        }
        Fields { of_metadata: false }.deserialize(deserializer).map(|fields| Self(Value::Object(fields)))
    }
}

/// The fields that come before the others.
const FIRST: [&str; 2] = ["kind", "apiVersion"];

/// What stands before the revision.
const HOLE: &str = "\"resourceVersion\":";

/// An encoded object that waits for its revision. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The head; `resource_version` is 0.
    pub head: Head,
    before: Bytes,
    after: Bytes,
}

impl Draft {
    /// Encodes a tree, with a hole where `metadata.resourceVersion` goes; the field is removed from `value`.
    pub fn new(value: &mut Value) -> Result<Self, MalformedObject> {
        let head: Head = HeadView::deserialize(&*value)?.into();
        let Some(top) = value.as_object_mut() else {
            return Err(<serde_json::Error as serde::de::Error>::custom("the object is not a map").into());
        };
        if !top.get("metadata").is_some_and(Value::is_object) {
            top.insert("metadata".into(), Value::Object(Map::new()));
        }
        let mut before = Vec::with_capacity(1024);
        // Nearly all of it: the status follows the metadata, and the specification.
        let mut after = Vec::with_capacity(4096);
        // What it is comes first, as upstream has it: a reader knows the type before the data.
        for key in FIRST {
            if let Some(field) = top.get(key) {
                before.push(if before.is_empty() { b'{' } else { b',' });
                serde_json::to_writer(&mut before, key)?;
                before.push(b':');
                serde_json::to_writer(&mut before, field)?;
            }
        }
        for (key, field) in top.iter_mut().filter(|(key, _)| !FIRST.contains(&key.as_str())) {
            let out = if after.is_empty() { &mut before } else { &mut after };
            out.push(if out.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut *out, key)?;
            out.push(b':');
            match field {
                Value::Object(metadata) if key == "metadata" => {
                    metadata.remove("resourceVersion");
                    out.push(b'{');
                    out.extend_from_slice(HOLE.as_bytes());
                    if metadata.is_empty() {
                        after.push(b'}');
                    } else {
                        serde_json::to_writer(&mut after, metadata)?;
                        after[0] = b',';
                    }
                }
                field => serde_json::to_writer(out, field)?,
            }
        }
        after.push(b'}');
        let head = Head { resource_version: 0, ..head };
        Ok(Self { head, before: before.into(), after: after.into() })
    }

    /// The draft of stored bytes, which [`Draft::unsealed`] made: JSON without `metadata.resourceVersion`. `head.fields` stays empty.
    pub fn from_bytes(body: &[u8]) -> Result<Self, MalformedObject> {
        #[derive(Deserialize)]
        struct Top<'a> {
            #[serde(borrow)]
            metadata: &'a RawValue,
        }
        let view: HeadView = serde_json::from_slice(body)?;
        let metadata = match serde_json::from_slice::<Top<'_>>(body) {
            Ok(top) if view.metadata.resource_version.is_empty() => top.metadata.get(),
            // Somebody else's way of writing: it is written anew.
            _ => return Self::new(&mut serde_json::from_slice(body)?),
        };
        let start = metadata.as_ptr().addr() - body.as_ptr().addr();
        let (before, after) = (&body[..=start], &body[start + 1..]);
        let comma = if metadata[1..].trim_start().starts_with('}') { "" } else { "," };
        Ok(Self {
            head: Head { resource_version: 0, ..view.into() },
            before: [before, HOLE.as_bytes()].concat().into(),
            after: [comma.as_bytes(), after].concat().into(),
        })
    }

    /// The bytes without `metadata.resourceVersion`: for a store that keeps the revision beside the value.
    pub fn unsealed(&self) -> Bytes {
        let before = self.before.strip_suffix(HOLE.as_bytes()).unwrap_or(&self.before);
        let after = self.after.strip_prefix(b",").unwrap_or(&self.after);
        [before, after].concat().into()
    }

    /// The object at `revision`.
    pub fn seal(self, revision: u64) -> Object {
        let digits = revision.to_string();
        // To the byte: what is left over of a body's allocation would stay for the object's life.
        let mut body = Vec::with_capacity(self.before.len() + digits.len() + 2 + self.after.len());
        for part in [&*self.before, b"\"", digits.as_bytes(), b"\"", &self.after] {
            body.extend_from_slice(part);
        }
        Object { head: Head { resource_version: revision, ..self.head }, body: body.into() }
    }

    /// Bytes that the sealed object will have, within a few.
    pub fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Never true: an encoded object has at least its braces.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_leave_out_what_their_objects_are() {
        let check = |value: Value, wanted: &str| {
            let object = Draft::new(&mut value.clone()).unwrap().seal(1);
            assert_eq!(object.without_kind().concat(), wanted.as_bytes(), "{value}");
        };
        check(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}), r#"{"metadata":{"resourceVersion":"1"}}"#);
        check(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "\"kind\":\"ConfigMap\",", "kind": "y"}, "metadata": {}}),
            r#"{"data":{"kind":"y","x":"\"kind\":\"ConfigMap\","},"metadata":{"resourceVersion":"1"}}"#,
        );
        check(
            json!({"addressType": "IPv4", "apiVersion": "a/v1", "endpoints": [{"kind": "z"}], "kind": "E", "metadata": {}}),
            r#"{"addressType":"IPv4","endpoints":[{"kind":"z"}],"metadata":{"resourceVersion":"1"}}"#,
        );
        check(json!({"kind": "Odd", "metadata": {}}), r#"{"kind":"Odd","metadata":{"resourceVersion":"1"}}"#);
    }

    #[test]
    fn what_it_is_comes_first() {
        let mut value = json!({"apiVersion": "v1", "data": {"a": "b"}, "kind": "ConfigMap", "metadata": {"name": "a"}});
        let sealed = Draft::new(&mut value).unwrap().seal(1);
        let wanted =
            r#"{"kind":"ConfigMap","apiVersion":"v1","data":{"a":"b"},"metadata":{"resourceVersion":"1","name":"a"}}"#;
        assert_eq!(sealed.body, wanted);
        // Stores have objects of before.
        let before = r#"{"apiVersion":"v1","data":{"a":"b"},"kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let object = Draft::from_bytes(before.as_bytes()).unwrap().seal(1);
        assert_eq!(object.without_kind().concat(), sealed.without_kind().concat());
    }

    #[test]
    fn sealing_fills_the_hole_and_nothing_else() {
        let mut value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}},
            "data": {"resourceVersion": "5"}});
        let draft = Draft::new(&mut value).unwrap();
        let object = draft.seal(42);
        assert_eq!(object.head.resource_version, 42);
        assert_eq!(object.value().unwrap()["metadata"]["resourceVersion"], "42");
        assert_eq!(object.value().unwrap()["data"]["resourceVersion"], "5");
        assert!(value["metadata"].get("resourceVersion").is_none());
        assert_eq!(Object::from_bytes(object.body.clone()).unwrap().head, object.head);
    }

    #[test]
    fn stored_bytes_become_drafts_again() {
        let check = |text: &str| {
            let mut value: Value = serde_json::from_str(text).unwrap();
            let draft = Draft::new(&mut value).unwrap();
            let stored = draft.unsealed();
            assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), value, "{text}");
            let again = Draft::from_bytes(&stored).unwrap();
            assert_eq!(again.head, draft.head, "{text}");
            assert_eq!(again.seal(7).body, draft.seal(7).body, "{text}");
        };
        check(r#"{"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "resourceVersion": "3", "uid": "u"}}"#);
        check(r#"{"a": {"metadata": {"resourceVersion": ""}}, "metadata": {}, "z": "\"metadata\":{"}"#);
        check("{}");
        let foreign = Draft::from_bytes(br#"{ "metadata" : { "resourceVersion": "9" , "name": "a" } , "kind": "X" }"#);
        assert_eq!(foreign.unwrap().seal(4).value().unwrap()["metadata"], json!({"name": "a", "resourceVersion": "4"}));
        let spaced = Draft::from_bytes(br#"{"metadata": { }, "kind": "X"}"#).unwrap().seal(4);
        assert_eq!(spaced.value().unwrap()["metadata"], json!({"resourceVersion": "4"}));
        for bad in ["", "[]", "null", "7", "k8s\0"] {
            assert!(Draft::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_revision_keeps_the_rest() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "7"}});
        let object = Object::from_value(&value).unwrap();
        let moved = object.with_revision(9).unwrap();
        assert_eq!((moved.head.resource_version, moved.head.name.as_str()), (9, "p"));
    }

    #[test]
    fn another_revision_of_a_sealed_object_is_found_where_it_stands() {
        let inner = json!({"metadata": {"resourceVersion": "7"}});
        let mut value = json!({"apiVersion": "v1", "kind": "X", "a": inner, "b": "\"metadata\":{\"resourceVersion\":\"7\\",
            "metadata": {"name": "p", "labels": {"a": "b"}}, "spec": inner});
        let sealed = Draft::new(&mut value).unwrap().seal(7);
        let moved = sealed.with_revision(1234).unwrap();
        assert_eq!(moved.body, Draft::new(&mut value).unwrap().seal(1234).body);
        assert_eq!(moved.head, Object::from_bytes(moved.body.clone()).unwrap().head);
        let mut metadata = value["metadata"].clone();
        metadata["resourceVersion"] = "1234".into();
        assert_eq!(serde_json::from_slice::<Value>(moved.metadata_text().unwrap()).unwrap(), metadata);
    }

    #[test]
    fn what_is_shown_lacks_managed_fields_and_nothing_else() {
        let spec = json!({"template": {"metadata": {"managedFields": [1]}}});
        let mut value = json!({"kind": "X", "metadata": {"name": "p", "managedFields": [{"a": "b"}]}, "spec": spec});
        let object = Object::from_value(&value).unwrap();
        value["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(object.value_to_show().unwrap(), value);
        assert!(Object { head: Head::default(), body: Bytes::from_static(b"[]") }.value_to_show().is_err());
    }
}
