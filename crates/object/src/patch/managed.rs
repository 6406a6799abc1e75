//! `metadata.managedFields`: who set which fields. Kept on every write that is not an apply.
//!
//! The time of an entry moves only when its manager changed something. Clock and names are arguments.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::compare::{Comparison, compare};
use super::fields::FieldSet;
use super::shape::MergeInfo;

/// More entries of updates than this are merged, the oldest first.
const MOST_UPDATERS: usize = 10;
/// The manager of merged entries.
const ANCIENT: &str = "ancient-changes";
/// Manager names are cut here.
const LONGEST_MANAGER: usize = 128;

/// `Apply` or `Update`. Sorted as upstream sorts entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Every other write.
    Update,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub manager: String,
    /// By what kind of write.
    pub operation: Operation,
    /// In which version the paths are meant.
    pub api_version: String,
    /// Through which subresource; empty for the main resource.
    pub subresource: String,
    /// When it last changed something, RFC 3339.
    pub time: Option<String>,
    /// What.
    pub fields: FieldSet,
}

impl Entry {
    /// True when both are the same manager's. Appliers are the same across versions.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// A write, as `managedFields` records it.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The field manager: see [`manager_of`].
    pub manager: &'a str,
    /// The version of the request: `apps/v1`.
    pub api_version: &'a str,
    /// The subresource written through; empty for none.
    pub subresource: &'a str,
    /// Now, RFC 3339 in UTC.
    pub time: &'a str,
    /// Fields that this write cannot change (`status` of a main resource): nobody gets them by it.
    pub ignored: &'a FieldSet,
}

/// An object in another version, with its place there; `None` where paths mean the same in both versions. Its own
/// `apiVersion` says in which version it is.
pub type Versions<'a, T> = &'a dyn Fn(&Value, &str) -> Option<(T, Value)>;

/// The versions of objects without others.
pub fn one_version<T>(_: &Value, _: &str) -> Option<(T, Value)> {
    None
}

/// How a write changes an object, as entries of each version see it.
pub(super) struct Seen<'a, T> {
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
    /// In the version of the write.
    pub(super) comparison: Comparison,
    write: &'a Write<'a>,
    versions: Versions<'a, T>,
    others: Vec<(String, Option<Comparison>)>,
}

impl<'a, T: MergeInfo> Seen<'a, T> {
    pub(super) fn new(
        place: T,
        old: &'a Value,
        new: &'a Value,
        write: &'a Write<'a>,
        versions: Versions<'a, T>,
    ) -> Self {
        let comparison = compare(place, old, new).without(write.ignored);
        Self { old, new, comparison, write, versions, others: Vec::new() }
    }

    /// The change in the version that an entry speaks of.
    pub(super) fn in_version(&mut self, version: &str) -> &Comparison {
        if version == self.write.api_version {
            return &self.comparison;
        }
        if !self.others.iter().any(|(seen, _)| seen == version) {
            let of = |object| (self.versions)(object, version);
            let pair = of(self.old).zip(of(self.new));
            let comparison =
                pair.map(|((place, old), (_, new))| compare(place, &old, &new).without(self.write.ignored));
            self.others.push((version.to_owned(), comparison));
        }
        let other = self.others.iter().find(|(seen, _)| seen == version);
        other.and_then(|(_, comparison)| comparison.as_ref()).unwrap_or(&self.comparison)
    }
}

impl Write<'_> {
    pub(super) fn entry(&self, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: if self.manager.is_empty() { "unknown".into() } else { self.manager.into() },
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: None,
            fields,
        }
    }
}

/// The field manager of a request: its `fieldManager`, else the user agent up to the first slash.
pub fn manager_of(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.into();
    }
    let prefix = user_agent.split('/').next().unwrap_or("");
    let mut name = String::new();
    for c in prefix.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > LONGEST_MANAGER {
            break;
        }
        name.push(c);
    }
    name
}

/// Fields that everybody has and nobody owns.
pub(super) fn unowned() -> &'static FieldSet {
    &UNOWNED
}

static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Reads an object's entries.
pub fn decode(object: &Value) -> Result<Vec<Entry>, String> {
    let entries = match &object["metadata"]["managedFields"] {
        Value::Array(entries) => entries.as_slice(),
        Value::Null => &[],
        _ => return Err("metadata.managedFields is not a list".into()),
    };
    let mut decoded: Vec<Entry> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let text = |field: &str| entry[field].as_str().unwrap_or("");
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        let fields = match &entry["fieldsV1"] {
            Value::Null => FieldSet::default(),
            fields => FieldSet::from_value(fields).map_err(|e| format!("error decoding set: {e}"))?,
        };
        let entry = Entry {
            manager: text("manager").into(),
            operation,
            api_version: text("apiVersion").into(),
            subresource: text("subresource").into(),
            time: entry["time"].as_str().map(str::to_owned),
            fields,
        };
        decoded.retain(|other| !other.is_same(&entry));
        decoded.push(entry);
    }
    Ok(decoded)
}

/// Writes entries into an object, sorted as upstream does; none removes the field.
pub fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    entries.sort_by(|a, b| {
        let key =
            |e: &Entry| (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone());
        key(a).cmp(&key(b))
    });
    let encoded = entries.into_iter().map(|entry| {
        let mut map = Map::new();
        map.insert("manager".into(), entry.manager.into());
        map.insert("operation".into(), format!("{:?}", entry.operation).into());
        map.insert("apiVersion".into(), entry.api_version.into());
        if let Some(time) = entry.time {
            map.insert("time".into(), time.into());
        }
        map.insert("fieldsType".into(), "FieldsV1".into());
        map.insert("fieldsV1".into(), entry.fields.to_value());
        if !entry.subresource.is_empty() {
            map.insert("subresource".into(), entry.subresource.into());
        }
        Value::Object(map)
    });
    metadata.insert("managedFields".into(), encoded.collect());
}

/// The object without its entries.
pub(super) fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    strip(&mut object);
    object
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// Keeps `managedFields` on a create (`old` is `None`), update or patch: what `new` changes is the writer's from now on, and
/// no longer anybody else's. A client may write the field itself; `[]` clears it.
pub fn track<T: MergeInfo>(
    place: T,
    old: Option<&Value>,
    new: &mut Value,
    write: &Write<'_>,
    versions: Versions<'_, T>,
) {
    let theirs = &new["metadata"]["managedFields"];
    let reset = match theirs.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    };
    let of_old = || old.map(|old| decode(old).unwrap_or_default()).unwrap_or_default();
    let mut entries = match decode(new) {
        _ if !write.subresource.is_empty() => of_old(),
        _ if reset => Vec::new(),
        Ok(entries) if !entries.is_empty() => entries,
        _ => of_old(),
    };
    strip(new);
    if entries.is_empty() && old.is_some() {
        return; // An object that nobody keeps account of stays so, until the first apply.
    }
    let before = old.map_or_else(|| empty(new), bare);
    update(&mut entries, Seen::new(place, &before, new, write, versions));
    cap(&mut entries);
    encode(new, entries);
}

/// An object of the same kind with nothing in it.
pub(super) fn empty(object: &Value) -> Value {
    serde_json::json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {}})
}

/// Gives what changed to the writer.
pub(super) fn update<T: MergeInfo>(entries: &mut Vec<Entry>, mut seen: Seen<'_, T>) {
    for entry in entries.iter_mut() {
        let Comparison { removed, modified, added } = seen.in_version(&entry.api_version);
        for gone in [modified, added, removed] {
            entry.fields.subtract(gone);
        }
    }
    let Seen { comparison: Comparison { modified: mut taken, added, .. }, write, .. } = seen;
    taken.absorb(added);
    taken.cut(write.ignored);
    taken.subtract(unowned());
    if !taken.is_empty() {
        let mut mine = write.entry(Operation::Update, taken);
        mine.time = Some(write.time.into());
        match entries.iter_mut().find(|entry| entry.is_same(&mine)) {
            Some(entry) => {
                entry.fields.extend(&mine.fields);
                entry.time = mine.time;
            }
            None => entries.push(mine),
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
}

/// Merges the oldest entries of updates, those of one version into one.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters: Vec<Entry> = Vec::new();
    let count = entries.iter().filter(|e| e.operation == Operation::Update).count();
    if count <= MOST_UPDATERS {
        return;
    }
    entries.retain(|entry| {
        let update = entry.operation == Operation::Update;
        if update {
            updaters.push(entry.clone());
        }
        !update
    });
    let key = |e: &Entry| (e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone());
    updaters.sort_by_key(key);
    let mut merged: Vec<Entry> = Vec::new();
    let mut left = count;
    for entry in updaters {
        let oldest = merged.iter_mut().find(|m| m.api_version == entry.api_version);
        match oldest {
            Some(bucket) if left > MOST_UPDATERS => {
                (bucket.manager, bucket.subresource) = (ANCIENT.into(), String::new());
                bucket.fields.extend(&entry.fields);
                bucket.time = entry.time;
                left -= 1;
            }
            _ => merged.push(entry),
        }
    }
    entries.append(&mut merged);
}

/// Takes the old `managedFields` back when nothing but their times changed: such a write is none.
pub fn keep_times(old: &Value, new: &mut Value) {
    let timeless = |object: &Value| -> Vec<Value> {
        let mut entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries.sort_by_key(ToString::to_string);
        entries
    };
    if old["metadata"]["managedFields"] != new["metadata"]["managedFields"]
        && same_but(old, new, &["resourceVersion", "managedFields"])
        && timeless(old) == timeless(new)
    {
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
    }
}

/// True when two objects differ in nothing but these fields of their metadata.
pub fn same_but(one: &Value, other: &Value, ignored: &[&str]) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return one == other };
    let metadata = |one: &Map<String, Value>, other: &Map<String, Value>| {
        let all: Vec<&String> = one.keys().chain(other.keys()).filter(|key| !ignored.contains(&key.as_str())).collect();
        all.into_iter().all(|key| one.get(key) == other.get(key))
    };
    one.len() == other.len()
        && one.iter().all(|(key, value)| match (value, other.get(key)) {
            (Value::Object(value), Some(Value::Object(other))) if key == "metadata" => metadata(value, other),
            (value, other) => Some(value) == other,
        })
}

#[cfg(test)]
mod tests;
