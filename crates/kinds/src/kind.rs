//! What the declaration of a resource says.

use std::sync::Arc;

use object::{Gvk, Gvr, Invalid};
use schema::{DecodeError, Problem};
use serde_json::Value;

use crate::custom::Custom;
use crate::{cells, names};

/// The declaration of one resource: plain data and pure rules. Built-in kinds return one from `fn kind()`; a
/// CustomResourceDefinition makes one at run time.
#[derive(Clone, Debug)]
pub struct Kind {
    /// API group; empty for core.
    pub group: String,
    /// The version served (one `Kind` per served version).
    pub version: String,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`.
    pub plural: String,
    /// `deployment`.
    pub singular: String,
    /// Namespaced or cluster-wide.
    pub scope: Scope,
    /// `deploy`.
    pub short_names: Vec<String>,
    /// `all`, `api-extensions`.
    pub categories: Vec<String>,
    /// Verbs as discovery lists them, sorted. Resources that are not stored (TokenReview) have only `create`.
    pub verbs: Vec<String>,
    /// Subresources as discovery lists them.
    pub subresources: Vec<Subresource>,
    /// Where objects are stored: `/registry/` + this + `/` + namespace + `/` + name. `None` for kinds that are not stored.
    /// As upstream has it: `pods`, `services/specs`, `deployments`, `minions` (nodes), `events`, `leases`.
    /// Versions of one kind (autoscaling v1 and v2, events) share it.
    pub storage_prefix: Option<String>,
    /// The version whose form is stored, when it is not `version` itself (`autoscaling/v1` is stored as `v2`).
    pub storage_version: Option<Gvk>,
    /// Columns of `kubectl get`, in order; the cells come from `rules.row`.
    pub columns: Vec<Column>,
    /// Selectable fields besides `metadata.name` and `metadata.namespace`: dotted paths (`spec.nodeName`).
    pub selectable: Vec<String>,
    /// True when `metadata.generation` counts spec changes.
    pub generation: bool,
    /// True when PUT may create (`AllowCreateOnUpdate`: leases, events, endpoints ...).
    pub create_on_update: bool,
    /// True when a delete answers with the object that is gone instead of a `Status`.
    pub returned_by_delete: bool,
    /// True when an update may come without resourceVersion (`AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// Name of the OpenAPI definition: `io.k8s.api.apps.v1.Deployment`; `None` for kinds without one.
    pub schema: Option<String>,
    /// The rules in code.
    pub rules: Rules,
    /// What a CustomResourceDefinition says of the kind; `None` for built-in kinds.
    pub custom: Option<Arc<Custom>>,
}

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// A subresource as discovery lists it.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `status`, `scale`, `log`.
    pub name: String,
    /// The kind of its body, when it is not the parent's (`autoscaling/v1 Scale`, `policy/v1 Eviction`).
    pub body: Gvk,
    /// Verbs as discovery lists them, sorted.
    pub verbs: Vec<String>,
}

/// A column of the server-side table (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug)]
pub struct Column {
    /// Header.
    pub name: String,
    /// `string`, `integer`, `date`.
    pub kind: String,
    /// `name` for the first column.
    pub format: String,
    /// 0: always; 1: `-o wide`.
    pub priority: i32,
    /// Description.
    pub description: String,
}

/// The rules of a kind in code: plain functions, without clock, store or async.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Fills in defaults (`SetDefaults_*`). Idempotent. Runs on every read of user input, after decoding.
    pub default: fn(&mut Value),
    /// Before a create: clears what clients may not set (status), sets what the strategy sets. Metadata is the pipeline's.
    pub prepare_create: fn(&mut Value),
    /// Before an update through the main resource: keeps what only subresources may change (status), normalizes.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    /// Before an update through `status`: keeps what status updates may not change (spec, and so on).
    pub prepare_status: fn(new: &mut Value, old: &Value),
    /// Field errors of a create (`old` is `None`) or an update. Object metadata (name, labels, ...) is checked by the
    /// pipeline through [`crate::validate_metadata`]-like common code with `name`.
    pub validate: fn(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>),
    /// Field errors of an update through `status`.
    pub validate_status: fn(new: &Value, old: &Value, errors: &mut Vec<Invalid>),
    /// Why a name is wrong (`None`: it is fine). Most kinds: DNS subdomain; services and namespaces: DNS-1123 label.
    pub name: names::Rule,
    /// Cells of the table row, one per column; none when they are plain paths (`cells.rs`). See [`Kind::row`].
    pub row: fn(object: &Value, now: i64) -> Vec<Value>,
    /// Default grace period of a delete in seconds (pods: `spec.terminationGracePeriodSeconds`); `None`: not graceful.
    pub grace: fn(&Value) -> Option<i64>,
    /// Warnings for the client (`Warning:` headers) on create or update: deprecated fields and the like.
    pub warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
}

/// A kind without rules of its own: nothing is defaulted or checked, names are DNS subdomains, and `status` (where there is such a
/// subresource) is kept apart from the rest.
pub const NO_RULES: Rules = Rules {
    default: |_| {},
    prepare_create: drop_status,
    prepare_update: keep_status,
    prepare_status: keep_all_but_status,
    validate: |_, _, _| {},
    validate_status: |_, _, _| {},
    name: names::subdomain,
    row: |_, _| Vec::new(),
    grace: |_| None,
    warnings: |_, _| Vec::new(),
};

/// A create does not set `status`.
pub fn drop_status(new: &mut Value) {
    if let Some(object) = new.as_object_mut() {
        object.remove("status");
    }
}

/// An update through the main resource leaves `status` as it was.
pub fn keep_status(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// An update through `status` leaves everything else as it was, but for metadata (whose spec-like parts the pipeline keeps).
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let metadata = new.get("metadata").cloned();
    *new = old.clone();
    for (key, value) in [("status", status), ("metadata", metadata)] {
        match value {
            Some(value) => new[key] = value,
            None => drop(new.as_object_mut().and_then(|o| o.remove(key))),
        }
    }
}

/// An update through `status` that leaves metadata alone, too, but for what keeps account of its fields.
pub fn keep_metadata(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    let tracked = new["metadata"]["managedFields"].clone();
    keep(new, old, "metadata");
    match tracked.is_array() {
        true => new["metadata"]["managedFields"] = tracked,
        false => drop(new["metadata"].as_object_mut().and_then(|m| m.remove("managedFields"))),
    }
}

/// The same, but a uid and the seconds of a deletion that are not the object's own are still told of.
pub fn keep_most_metadata(new: &mut Value, old: &Value) {
    let said = new["metadata"].clone();
    keep_metadata(new, old);
    for field in ["uid", "deletionGracePeriodSeconds"] {
        keep(&mut new["metadata"], &said, field);
    }
}

/// Sets `new[key]` to what `old` has, absence included.
pub fn keep(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(value) => new[key] = value.clone(),
        None => drop(new.as_object_mut().and_then(|o| o.remove(key))),
    }
}

impl Kind {
    /// The kind's GroupVersionKind.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }
    /// The kind's GroupVersionResource.
    pub fn gvr(&self) -> Gvr {
        Gvr::new(&self.group, &self.version, &self.plural)
    }
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        object::names::api_version(&self.group, &self.version)
    }
    /// True for namespaced kinds.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
    /// `PodList`.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }
    /// Reads a tree as this kind; what strict decoding objects to is added to `problems`.
    pub fn decode(&self, value: Value, problems: &mut Vec<Problem>) -> Result<Value, DecodeError> {
        match (&self.custom, &self.schema) {
            (Some(custom), _) => custom.decode(value, problems),
            (None, Some(name)) => self.settle(schema::decode(schema::table(), name, value, problems)?),
            (None, None) => Ok(value),
        }
    }
    /// What upstream reads of an object beyond its fields.
    pub fn settle(&self, value: Value) -> Result<Value, DecodeError> {
        match self.kind == "DaemonSet" && self.custom.is_none() {
            true => crate::apps::daemonset::decode(value),
            false => Ok(value),
        }
    }
    /// How objects of the kind merge.
    pub fn place(&self) -> schema::Place<'_> {
        match &self.custom {
            Some(custom) => schema::custom_place(schema::table(), &custom.root),
            None => schema::place(schema::table(), self.schema.as_deref().unwrap_or("")),
        }
    }
    /// Fills in defaults. Idempotent.
    pub fn default(&self, value: &mut Value) {
        match &self.custom {
            Some(custom) => custom.default(value),
            None => (self.rules.default)(value),
        }
    }
    /// Before a create: see [`Rules::prepare_create`].
    pub fn prepare_create(&self, value: &mut Value) {
        if self.custom.is_none() || self.has_status() {
            (self.rules.prepare_create)(value);
        }
    }
    /// Before an update through the main resource: see [`Rules::prepare_update`].
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.custom.is_none() || self.has_status() {
            (self.rules.prepare_update)(new, old);
        }
    }
    /// Before an update through `status`: see [`Rules::prepare_status`].
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        match &self.custom {
            Some(_) => Custom::prepare_status(new, old),
            None => (self.rules.prepare_status)(new, old),
        }
    }
    /// Adds the field errors of a create or an update; what clients are told of what may stay although it is wrong.
    pub fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) -> Vec<String> {
        match &self.custom {
            Some(custom) => return custom.validate(new, old, errors),
            None => (self.rules.validate)(new, old, errors),
        }
        Vec::new()
    }
    /// The same for an update through `status`.
    pub fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<Invalid>) -> Vec<String> {
        let Some(custom) = &self.custom else {
            (self.rules.validate_status)(new, old, errors);
            return Vec::new();
        };
        let before = errors.len();
        let told = custom.validate(new, Some(old), errors);
        // As upstream, whose schema of a status begins there.
        for error in &mut errors[before..] {
            if let Some(rest) = error.detail.strip_prefix("status.") {
                error.detail = rest.to_owned();
            }
        }
        told
    }
    /// Shows the values of field errors as upstream does: structures with Go's names for their fields, in Go's order.
    pub fn show(&self, errors: &mut [Invalid]) {
        // What is wrong with events is told of in their old group.
        let root = if self.kind == "Event" { Some("io.k8s.api.core.v1.Event") } else { self.schema.as_deref() };
        let Some(root) = root.filter(|_| self.custom.is_none()) else { return };
        for error in errors.iter_mut().filter(|error| !error.shown && error.value.starts_with(['{', '[', 'n'])) {
            let value: Value = serde_json::from_str(&error.value).unwrap_or_default();
            if let Some(shown) = schema::go::shown_at(schema::table(), root, &error.field, &value) {
                error.value = shown;
            }
        }
    }
    /// The cells of an object's table row, one per column. `now` is seconds since the epoch.
    pub fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        if let Some(custom) = &self.custom {
            return custom.row(object, now);
        }
        let cells = (self.rules.row)(object, now);
        if !cells.is_empty() {
            return cells;
        }
        let plain = cells::plain(&format!("{}/{}", self.group, self.plural));
        cells::row(
            object,
            now,
            plain.unwrap_or_else(|| match self.columns.get(1) {
                Some(column) if column.name == "Created At" => &[".metadata.name", ".metadata.creationTimestamp"],
                _ => &[".metadata.name", "@age"],
            }),
        )
    }
    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
    /// True when objects of the kind's storage may be in the form of another version; see [`crate::convert`].
    pub fn is_converted(&self) -> bool {
        self.custom.is_some()
            || matches!(
                (self.group.as_str(), self.kind.as_str()),
                ("autoscaling", "HorizontalPodAutoscaler") | ("" | "events.k8s.io", "Event")
            )
    }
    /// What clients are told about a new or changed object.
    pub fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        match self.custom {
            Some(_) => crate::metadata::finalizer_warnings(new, old),
            None => (self.rules.warnings)(new, old),
        }
    }
    /// True when writes to the main resource leave `status` alone.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}
