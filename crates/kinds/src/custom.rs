//! Custom resources: a CustomResourceDefinition read into kinds, one per served version, and the rules that follow from its schema.
//!
//! ```text
//! definition --naming::decide--> accepted names, conditions (its status)
//!            --kinds------------> Vec<Kind>, each with a Custom: the schema's tree, columns, scale, conversion
//! ```

pub(crate) mod embedded;
pub(crate) mod field_path;
pub mod naming;
pub mod observed;
mod rules;
mod scale;
mod versions;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use object::{Gvk, Invalid, InvalidKind, JsonPath};
use schema::structural::{self, Node};
use schema::{DecodeError, Problem};
use serde_json::{Map, Value};

pub use scale::Scale;
pub use versions::by_priority;

use crate::age;
use crate::kind::{Column, Kind, NO_RULES, Scope, Subresource, keep};
use crate::tree::{list, text};

/// What a kind has from its definition, besides names.
#[derive(Clone, Debug)]
pub struct Custom {
    /// The definition's name: `crontabs.stable.example.com`.
    pub definition: String,
    /// The schema.
    pub root: Arc<Node>,
    /// The text of the schema as the definition has it, for documents.
    pub document: Arc<str>,
    /// The schema of the version that objects are stored in, where that is another one.
    stored: Option<Arc<Node>>,
    /// A number that changes with whatever the kind is made of.
    pub fingerprint: u64,
    /// `CronTabList`.
    pub list_kind: String,
    /// Where replicas stand.
    pub scale: Option<Scale>,
    /// The `spec.conversion` of a definition whose versions a webhook converts.
    pub webhook: Option<Arc<Value>>,
    /// The definition is being deleted: nothing may be written.
    pub terminating: bool,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
    /// Objects of earlier revisions may lack defaults and have fields that are unknown by now.
    pub since: u64,
    columns: Vec<(String, JsonPath)>,
    /// Compiled at the first write.
    rules: OnceLock<Option<rules::Rules>>,
    selectable: Vec<(String, JsonPath)>,
}

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const VERBS_OF_THE_DYING: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];
/// What tables say of the column `Name`.
pub const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// What tables say of the column `Age`.
pub const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

fn strings(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(Value::as_str).map(Into::into).collect()
}

/// True when the definition has this condition.
pub fn has_condition(definition: &Value, kind: &str) -> bool {
    list(&definition["status"]["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// The kinds that an established definition serves, in order of preference; none for others. `since` is the revision of the definition.
pub fn kinds(definition: &Value, since: u64) -> Vec<Kind> {
    if !has_condition(definition, "Established") {
        return Vec::new();
    }
    let spec = &definition["spec"];
    let stored = list(&spec["versions"]).iter().find(|v| v["storage"] == true).map(Stored::new);
    let mut served: Vec<&Value> = list(&spec["versions"]).iter().filter(|v| v["served"] == true).collect();
    served.sort_by(|a, b| by_priority(text(&a["name"]), text(&b["name"])));
    served.into_iter().map(|version| kind(definition, version, stored.as_ref(), since)).collect()
}

/// The version that objects are stored in.
struct Stored<'d> {
    name: &'d str,
    root: Arc<Node>,
}

impl<'d> Stored<'d> {
    fn new(version: &'d Value) -> Self {
        Self { name: text(&version["name"]), root: root(version) }
    }
}

fn root(version: &Value) -> Arc<Node> {
    Arc::new(Node::parse(&version["schema"]["openAPIV3Schema"]))
}

/// The finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Notes on a definition that its deletion was asked for.
pub fn begin_deletion(definition: &mut Value, now: &str) {
    let mut finalizers = list(&definition["metadata"]["finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
    }
    definition["metadata"]["finalizers"] = finalizers.into();
    let mut conditions = list(&definition["status"]["conditions"]).to_vec();
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    naming::set_condition(&mut conditions, "Terminating", "True", "InstanceDeletionPending", message, now);
    definition["status"]["conditions"] = conditions.into();
}

/// The kind that objects of a definition are stored as, whether it is served or not.
pub fn stored_kind(definition: &Value) -> Option<Kind> {
    let version = list(&definition["spec"]["versions"]).iter().find(|v| v["storage"] == true)?;
    Some(kind(definition, version, Some(&Stored::new(version)), u64::MAX))
}

/// The resource that the definition is of: whose stored objects its deletion deletes.
pub fn storage_prefix(definition: &Value) -> String {
    let spec = &definition["spec"];
    format!("{}/{}", text(&spec["group"]), text(&spec["names"]["plural"]))
}

fn kind(definition: &Value, version: &Value, stored: Option<&Stored<'_>>, since: u64) -> Kind {
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let (group, name, kind) = (text(&spec["group"]), text(&version["name"]), text(&names["kind"]));
    let terminating = definition["metadata"]["deletionTimestamp"].is_string();
    let gvk = Gvk::new(group, name, kind);
    let selectable: Vec<(String, JsonPath)> = list(&version["selectableFields"])
        .iter()
        .filter_map(|f| {
            let path = text(&f["jsonPath"]);
            Some((path.trim_start_matches('.').to_owned(), JsonPath::parse(path).ok()?))
        })
        .collect();
    let (columns, cells) = columns(version);
    let mut hasher = DefaultHasher::new();
    (spec.to_string(), names.to_string(), name, terminating).hash(&mut hasher);
    definition["metadata"]["uid"].to_string().hash(&mut hasher);
    let (own, other) = (stored.filter(|stored| stored.name == name), stored.filter(|stored| stored.name != name));
    let custom = Custom {
        definition: text(&definition["metadata"]["name"]).into(),
        root: own.map_or_else(|| root(version), |stored| stored.root.clone()),
        document: version["schema"]["openAPIV3Schema"].to_string().into(),
        stored: other.map(|stored| stored.root.clone()),
        fingerprint: hasher.finish(),
        list_kind: text(&names["listKind"]).into(),
        scale: Scale::of(&version["subresources"]["scale"]),
        webhook: (spec["conversion"]["strategy"] == "Webhook").then(|| Arc::new(spec["conversion"].clone())),
        terminating,
        deprecation: (version["deprecated"] == true).then(|| match text(&version["deprecationWarning"]) {
            "" => deprecated(spec, group, name, kind),
            given => given.to_owned(),
        }),
        since,
        columns: cells,
        rules: OnceLock::new(),
        selectable,
    };
    Kind {
        group: group.into(),
        version: name.into(),
        kind: kind.into(),
        plural: text(&names["plural"]).into(),
        singular: text(&names["singular"]).into(),
        scope: if spec["scope"] == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        short_names: strings(&names["shortNames"]),
        categories: strings(&names["categories"]),
        verbs: words(if terminating { &VERBS_OF_THE_DYING } else { &VERBS }),
        subresources: subresources(&version["subresources"], &gvk),
        storage_prefix: Some(storage_prefix(definition)),
        storage_version: Some(Gvk::new(group, stored.map_or("", |stored| stored.name), kind)),
        columns,
        selectable: custom.selectable.iter().map(|(field, _)| field.clone()).collect(),
        generation: true,
        create_on_update: false,
        returned_by_delete: false,
        unconditional_update: false,
        schema: Some(definition_name(&gvk)),
        rules: NO_RULES,
        custom: Some(Arc::new(custom)),
    }
}

/// `com.example.stable.v1.CronTab`: the name of the OpenAPI definition.
fn definition_name(gvk: &Gvk) -> String {
    let reversed: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), gvk.version, gvk.kind)
}

/// What clients of a deprecated version are told, where the definition says nothing.
fn deprecated(spec: &Value, group: &str, name: &str, kind: &str) -> String {
    let newer = list(&spec["versions"])
        .iter()
        .filter(|version| version["served"] == true && version["deprecated"] != true)
        .map(|version| text(&version["name"]))
        .filter(|other| versions::by_priority(other, name).is_lt())
        .min_by(|one, other| versions::by_priority(one, other));
    let instead = newer.map(|version| format!("; use {group}/{version} {kind}")).unwrap_or_default();
    format!("{group}/{name} {kind} is deprecated{instead}")
}

fn subresources(declared: &Value, gvk: &Gvk) -> Vec<Subresource> {
    let verbs = || words(&["get", "patch", "update"]);
    let mut all = Vec::new();
    if declared["status"].is_object() {
        all.push(Subresource { name: "status".into(), body: gvk.clone(), verbs: verbs() });
    }
    if declared["scale"].is_object() {
        all.push(Subresource { name: "scale".into(), body: Gvk::new("autoscaling", "v1", "Scale"), verbs: verbs() });
    }
    all
}

fn columns(version: &Value) -> (Vec<Column>, Vec<(String, JsonPath)>) {
    let column = |name: &str, kind: &str, format: &str, priority: i64, description: &str| Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        priority: i32::try_from(priority).unwrap_or(0),
        description: description.into(),
    };
    let mut columns = vec![column("Name", "string", "name", 0, NAME)];
    let mut cells = Vec::new();
    match list(&version["additionalPrinterColumns"]) {
        [] => {
            columns.push(column("Age", "date", "", 0, CREATED));
            cells.extend(JsonPath::parse(".metadata.creationTimestamp").map(|path| ("date".to_owned(), path)));
        }
        declared => {
            for given in declared {
                let kind = text(&given["type"]);
                let Ok(path) = JsonPath::parse(text(&given["jsonPath"])) else { continue };
                let description = match text(&given["description"]) {
                    "" => {
                        format!("Custom resource definition column (in JSONPath format): {}", text(&given["jsonPath"]))
                    }
                    given => given.to_owned(),
                };
                let priority = given["priority"].as_i64().unwrap_or(0);
                columns.push(column(text(&given["name"]), kind, text(&given["format"]), priority, &description));
                cells.push((kind.to_owned(), path));
            }
        }
    }
    (columns, cells)
}

/// Adds the errors of the rules of a schema for a value of it. `root`: a whole object.
pub(crate) fn check_rules(new: &Value, old: Option<&Value>, node: &Node, root: bool, errors: &mut Vec<Invalid>) {
    if let Some(rules) = rules::Rules::of(node) {
        let _ = rules::validate(new, old, node, &rules, root, errors);
    }
}

impl Custom {
    /// Reads a body's tree: what the schema does not know goes and is reported, null where it is no value goes.
    pub(crate) fn decode(&self, value: Value, problems: &mut Vec<Problem>) -> Result<Value, DecodeError> {
        schema::decode_custom(schema::table(), &self.root, value, problems)
    }

    /// Fills in defaults.
    pub(crate) fn default(&self, value: &mut Value) {
        structural::drop_nulls(value, &self.root);
        structural::default(value, &self.root);
    }

    /// Adds the field errors of a new or changed object; what clients are told besides.
    pub(crate) fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) -> Vec<String> {
        let has_conflict = |value: &Value| {
            let mut found = Vec::new();
            structural::duplicates(value, &self.root, "", &mut found);
            found
        };
        errors.extend(structural::check(new, &self.root, old));
        if let Some(scale) = &self.scale {
            scale.validate(new, errors);
        }
        embedded::validate(new, &self.root, "", errors);
        if old.is_none_or(|old| has_conflict(old).is_empty()) {
            errors.extend(has_conflict(new));
        }
        let Some(rules) = self.rules.get_or_init(|| rules::Rules::of(&self.root)) else { return Vec::new() };
        let blocks = |error: &Invalid| {
            use InvalidKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
            matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
        };
        if errors.iter().any(blocks) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Invalid::invalid("<nil>", &Value::Null, detail));
            return Vec::new();
        }
        rules::validate(new, old, &self.root, rules, true, errors)
    }

    /// An object of storage as this version shows it: known fields only, defaults filled in.
    pub fn adapt(&self, kind: &Kind, value: &mut Value) {
        value["apiVersion"] = kind.api_version().into();
        structural::prune(value, &self.root);
        self.default(value);
    }

    /// Takes from an object of this version what the version of storage does not know: without a webhook that is lost.
    pub fn narrow(&self, value: &mut Value) {
        if let Some(stored) = &self.stored {
            structural::prune(value, stored);
        }
    }

    /// Before an update through `status`: only that, and who wrote it, comes from the request.
    pub(crate) fn prepare_status(new: &mut Value, old: &Value) {
        let (status, managed) = (new.get("status").cloned(), new["metadata"].get("managedFields").cloned());
        let version = new["metadata"].get("resourceVersion").cloned();
        *new = old.clone();
        if let Some(object) = new.as_object_mut() {
            match status {
                Some(status) => drop(object.insert("status".into(), status)),
                None => drop(object.remove("status")),
            }
        }
        let made = Value::Object(Map::from_iter(
            [("managedFields", managed), ("resourceVersion", version)]
                .into_iter()
                .filter_map(|(k, v)| Some((k.to_owned(), v?))),
        ));
        for key in ["managedFields", "resourceVersion"] {
            if new["metadata"].is_object() {
                keep(&mut new["metadata"], &made, key);
            }
        }
    }

    /// The cells of a table row.
    pub(crate) fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut row = vec![object["metadata"]["name"].clone()];
        row.extend(self.columns.iter().map(|(kind, path)| cell(kind, &path.find(object), now)));
        row
    }

    /// The values of selectable fields.
    pub fn fields(&self, object: &Value) -> object::Texts {
        let value = |path: &JsonPath| path.find(object).first().map(|v| printed(v)).unwrap_or_default();
        self.selectable
            .iter()
            .map(|(field, path)| (field, value(path)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

/// A value as JSONPath prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        // As Go writes JSON.
        other => other.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
    }
}

fn cell(kind: &str, found: &[&Value], now: i64) -> Value {
    let Some(value) = found.first() else { return Value::Null };
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("string", value) => printed(value).into(),
        ("integer", Value::Number(n)) => {
            n.as_i64().map_or_else(|| n.as_f64().map_or(Value::Null, |f| Value::from(f.trunc() as i64)), Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*value).clone(),
        ("date", Value::String(text)) if text.is_empty() => Value::Null,
        ("date", Value::String(text)) => match text.parse::<jiff::Timestamp>() {
            Ok(_) => age::since(value, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
