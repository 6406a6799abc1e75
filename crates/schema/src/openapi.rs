//! OpenAPI documents: v3 (one per group and version) and v2 (one for all), from the table of types and the list of
//! served resources. `kubectl explain` and client-side checks read them.
//!
//! A document is made on demand; the caller keeps what it has encoded. [`fingerprint`] names a document without making it, so
//! that an index costs nothing.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use object::Gvk;
use serde_json::{Map, Value, json};

use crate::types::{Scalar, Table, Type};

mod custom;
mod definitions;
mod described;
mod gnostic;
mod gnostic3;
mod operation;
mod parameters;
mod paths;

pub use custom::CustomSchema;
pub use gnostic::encode as encode_v2;
pub use gnostic3::encode as encode_v3;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A resource as the documents need it.
#[derive(Clone, Debug, Hash)]
pub struct Served {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural resource.
    pub plural: String,
    /// Namespaced or not.
    pub namespaced: bool,
    /// Verbs as discovery lists them.
    pub verbs: Vec<String>,
    /// The type's full name.
    pub schema: String,
    /// The schema of a custom resource, which the table of types does not have.
    pub custom: Option<CustomSchema>,
    /// Its subresources.
    pub parts: Vec<Part>,
    /// Whether a delete answers with the object.
    pub returned_by_delete: bool,
}

impl Served {
    fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// A subresource.
#[derive(Clone, Debug, Hash)]
pub struct Part {
    /// `scale`.
    pub name: String,
    /// The kind that it takes and gives.
    pub body: Gvk,
    /// Verbs as discovery lists them.
    pub verbs: Vec<String>,
    /// The full name of the body's type.
    pub schema: String,
}

/// The two forms of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        let place = match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{place}{name}")})
    }
}

/// The index at `/openapi/v3`: a path per group and version, each with the hash of its document.
pub fn index(paths: &[(String, String)]) -> Value {
    let entries = paths
        .iter()
        .map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})));
    json!({"paths": entries.collect::<Map<String, Value>>()})
}

/// What upstream's documents call their version.
const TITLE: (&str, &str) = ("Kubernetes", "1.36");

/// A hash of all that a document over built-in types depends on, in capital hexadecimal digits: for the index and for ETags.
pub fn fingerprint(resources: &[Served]) -> String {
    hash(resources)
}

/// The same of a document that depends on its path alone.
pub fn fingerprint_of_discovery(path: &str) -> String {
    hash(path)
}

fn hash(of: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), crate::types::fingerprint(), described::fingerprint(), definitions::DATA)
        .hash(&mut hasher);
    of.hash(&mut hasher);
    let first = hasher.finish();
    first.hash(&mut hasher);
    format!("{first:016X}{:016X}", hasher.finish())
}

fn v3(paths: Map<String, Value>, schemas: Map<String, Value>, custom: bool) -> Value {
    if custom {
        let info = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
        return json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}});
    }
    let mut components = json!({"securitySchemes": bearer()});
    if !schemas.is_empty() {
        components["schemas"] = schemas.into();
    }
    json!({"openapi": "3.0.0", "info": {"title": TITLE.0, "version": TITLE.1}, "paths": paths, "components": components})
}

fn bearer() -> Value {
    json!({"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}})
}

/// The v3 document of one group and version; `resources` are those of that group and version.
pub fn document(table: &Table, resources: &[Served]) -> Value {
    let mut paths = paths::all(resources, Dialect::V3);
    if let Some(first) = resources.iter().find(|r| r.custom.is_none()) {
        let (path, operation) = version_path(&first.group, &first.version);
        paths.insert(path, operation::item(vec![operation], Dialect::V3));
    }
    let schemas = schemas(table, resources, &paths, Dialect::V3);
    v3(paths, schemas, resources.iter().all(|r| r.custom.is_some()))
}

/// The v3 document about what is not a resource (`api`, `apis/apps`, `version`); `None` for other paths.
pub fn discovery_document(table: &Table, path: &str) -> Option<Value> {
    let full = format!("/{path}/");
    let operation = match path.strip_prefix("apis/") {
        Some(group) => paths::discovery(&full, Some((group, None))),
        None if matches!(path, "api" | "apis") => paths::discovery(&full, None),
        None => paths::other(&full)?,
    };
    let paths = Map::from_iter([(full, operation::item(vec![operation], Dialect::V3))]);
    let schemas = schemas(table, &[], &paths, Dialect::V3);
    Some(v3(paths, schemas, false))
}

fn version_path(group: &str, version: &str) -> (String, operation::Operation) {
    let path = if group.is_empty() { format!("/api/{version}/") } else { format!("/apis/{group}/{version}/") };
    let operation = paths::discovery(&path, Some((group, Some(version))));
    (path, operation)
}

/// The v2 document, over all resources. [`encode_v2`] makes its protobuf form.
pub fn document_v2(table: &Table, resources: &[Served]) -> Value {
    let mut paths = paths::all(resources, Dialect::V2);
    let mut add = |path: String, operation| drop(paths.insert(path, operation::item(vec![operation], Dialect::V2)));
    for path in ["/version/", "/.well-known/openid-configuration/", "/openid/v1/jwks/"] {
        if let Some(operation) = paths::other(path) {
            add(path.into(), operation);
        }
    }
    for path in ["/api/", "/apis/"] {
        add(path.into(), paths::discovery(path, None));
    }
    for resource in resources.iter().filter(|r| r.custom.is_none()) {
        let (path, operation) = version_path(&resource.group, &resource.version);
        add(path, operation);
        if !resource.group.is_empty() {
            let path = format!("/apis/{}/", resource.group);
            add(path.clone(), paths::discovery(&path, Some((&resource.group, None))));
        }
    }
    let definitions = schemas(table, resources, &paths, Dialect::V2);
    json!({
        "swagger": "2.0",
        "info": {"title": TITLE.0, "version": TITLE.1},
        "paths": paths,
        "definitions": definitions,
        "parameters": parameters::shared(),
        "securityDefinitions": bearer(),
        "security": [{"BearerToken": []}],
    })
}

/// The definitions of all that paths and custom resources refer to.
fn schemas(table: &Table, resources: &[Served], paths: &Map<String, Value>, dialect: Dialect) -> Map<String, Value> {
    let mut names = BTreeSet::new();
    let mut custom: Map<String, Value> = custom::definitions(resources, dialect).collect();
    custom.values().chain(paths.values()).for_each(|value| referred(table, value, &mut names));
    if dialect == Dialect::V2 {
        for name in ["Patch", "DeleteOptions"] {
            collect(table, &format!("{META}.{name}"), &mut names);
        }
    }
    let definitions = names.iter().filter_map(|name| {
        let schema = match table.get(name) {
            Some(declared) => definitions::structure(declared, resources, dialect),
            None => definitions::special(name, dialect)?,
        };
        Some((name.clone(), schema))
    });
    custom.extend(definitions);
    custom
}

/// Collects the types that a piece of a document refers to.
fn referred(table: &Table, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            if let Some(target) = entries.get("$ref").and_then(Value::as_str) {
                collect(table, target.rsplit('/').next().unwrap_or(target), names);
            }
            entries.values().for_each(|value| referred(table, value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| referred(table, value, names)),
        _ => {}
    }
}

/// Adds a type and all that it refers to.
fn collect(table: &Table, name: &str, names: &mut BTreeSet<String>) {
    let Some(declared) = table.get(name) else {
        names.insert(name.into());
        return;
    };
    if !names.insert(name.into()) {
        return;
    }
    for field in declared.fields.values() {
        let mut kind = &field.kind;
        while let Type::List(inner) | Type::Map(inner) = kind {
            kind = inner;
        }
        match kind {
            Type::Struct(target) => collect(table, target, names),
            kind => {
                if let Some(named) = definitions::named(kind, field.opaque) {
                    names.insert(named.into());
                }
            }
        }
    }
}

/// True for scalars that have a definition of their own.
fn is_named(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Time | Scalar::MicroTime | Scalar::Quantity | Scalar::IntOrString)
}

#[cfg(test)]
mod tests;
