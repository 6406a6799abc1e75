//! Objects as bytes with a head, and drafts that become objects when a revision is assigned.
//!
//! ```text
//! tree (serde_json::Value) --Draft::new--> Draft: bytes with a hole for resourceVersion
//!                          --Draft::seal(revision)--> Object: head + final bytes
//! ```
//! The hole exists because the store assigns the revision at commit, after the pipeline has encoded the object; sealing
//! is one copy of the bytes, not an encoding.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The parsed part of an object: what routing, selecting, owning and versioning need without looking at the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
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
    pub labels: BTreeMap<String, String>,
    /// `metadata.ownerReferences`.
    pub owners: Vec<OwnerReference>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp`, RFC 3339.
    pub deletion_timestamp: Option<String>,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub creation_timestamp: Option<String>,
    /// Values of the kind's selectable fields besides `metadata.name` and `metadata.namespace`
    /// (`spec.nodeName` -> `n1`), filled by the API server from the table of kinds.
    pub fields: BTreeMap<String, String>,
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
    pub api_version: String,
    /// `ReplicaSet`.
    pub kind: String,
    /// The owner's name, in the same namespace or cluster-scoped.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
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
    api_version: String,
    kind: String,
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
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<String>,
    creation_timestamp: Option<String>,
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
            fields: BTreeMap::new(),
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
        let body = serde_json::to_vec(value)?;
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

    /// The same object under another revision (a watch's DELETED event carries the revision of the deletion).
    pub fn with_revision(&self, revision: u64) -> Result<Self, MalformedObject> {
        let mut value = self.value()?;
        let mut draft = Draft::new(&mut value)?;
        draft.head.fields = self.head.fields.clone();
        Ok(draft.seal(revision))
    }
}

/// An encoded object that waits for its revision.
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
        let mut after = Vec::new();
        for (i, (key, field)) in top.iter_mut().enumerate() {
            let out = if after.is_empty() { &mut before } else { &mut after };
            out.push(if i == 0 { b'{' } else { b',' });
            serde_json::to_writer(&mut *out, key)?;
            out.push(b':');
            match field {
                Value::Object(metadata) if key == "metadata" => {
                    metadata.remove("resourceVersion");
                    out.extend_from_slice(b"{\"resourceVersion\":");
                    let rest = serde_json::to_vec(metadata)?;
                    if !metadata.is_empty() {
                        after.push(b',');
                    }
                    after.extend_from_slice(&rest[1..]);
                }
                field => serde_json::to_writer(out, field)?,
            }
        }
        after.push(b'}');
        let head = Head { resource_version: 0, ..head };
        Ok(Self { head, before: before.into(), after: after.into() })
    }

    /// The object at `revision`.
    pub fn seal(&self, revision: u64) -> Object {
        let mut body = Vec::with_capacity(self.before.len() + self.after.len() + 22);
        body.extend_from_slice(&self.before);
        body.extend_from_slice(format!("\"{revision}\"").as_bytes());
        body.extend_from_slice(&self.after);
        Object { head: Head { resource_version: revision, ..self.head.clone() }, body: body.into() }
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
    fn another_revision_keeps_the_rest() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "7"}});
        let object = Object::from_value(&value).unwrap();
        let moved = object.with_revision(9).unwrap();
        assert_eq!((moved.head.resource_version, moved.head.name.as_str()), (9, "p"));
    }
}
