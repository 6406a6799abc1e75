//! OpenAPI documents: v3 (one per group and version) and v2 (one for all), from the table of types and the list of
//! served resources. `kubectl explain` and client-side checks read them.
//!
//! A document is made on demand; the caller keeps what it has encoded. [`fingerprint`] names a document without making it, so
//! that an index costs nothing.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::types::{Scalar, Table, Type};

mod custom;
mod definitions;
mod described;
mod gnostic;
mod paths;

pub use custom::CustomSchema;
pub use gnostic::encode as encode_v2;

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
    /// Whether there are the subresources `status` and `scale`.
    pub subresources: (bool, bool),
    /// Whether a delete answers with the object.
    pub returned_by_delete: bool,
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

/// A hash of all that a document over built-in types depends on, in capital hexadecimal digits: for the index and for ETags.
pub fn fingerprint(resources: &[Served], version: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), crate::types::fingerprint(), described::fingerprint(), version).hash(&mut hasher);
    resources.hash(&mut hasher);
    let first = hasher.finish();
    first.hash(&mut hasher);
    format!("{first:016X}{:016X}", hasher.finish())
}

/// The v3 document of one group and version; `resources` are those of that group and version.
pub fn document(table: &Table, resources: &[Served], version: &str) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths::all(resources, Dialect::V3),
        "components": {
            "schemas": schemas(table, resources, Dialect::V3),
            "securitySchemes": {"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}},
        },
    })
}

/// The v2 document, over all resources. [`encode_v2`] makes its protobuf form.
pub fn document_v2(table: &Table, resources: &[Served], version: &str) -> Value {
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths::all(resources, Dialect::V2),
        "definitions": schemas(table, resources, Dialect::V2),
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

fn schemas(table: &Table, resources: &[Served], dialect: Dialect) -> Map<String, Value> {
    let mut names = BTreeSet::new();
    for resource in resources {
        if resource.custom.is_some() {
            for name in ["ObjectMeta", "ListMeta"] {
                collect(table, &format!("{META}.{name}"), &mut names);
            }
            if resource.subresources.1 {
                collect(table, "io.k8s.api.autoscaling.v1.Scale", &mut names);
            }
            continue;
        }
        collect(table, &resource.schema, &mut names);
        let list = format!("{}List", resource.schema);
        if resource.verbs.iter().any(|verb| verb == "list") {
            collect(table, &list, &mut names);
        }
    }
    for name in ["DeleteOptions", "Status", "APIResourceList", "WatchEvent"] {
        collect(table, &format!("{META}.{name}"), &mut names);
    }
    let definitions = names.iter().filter_map(|name| {
        let schema = match table.get(name) {
            Some(declared) => definitions::structure(declared, resources, dialect),
            None => definitions::special(name, dialect)?,
        };
        Some((name.clone(), schema))
    });
    definitions.chain(custom::definitions(resources, dialect)).collect()
}

/// Adds a type and all that it refers to.
fn collect(table: &Table, name: &str, names: &mut BTreeSet<String>) {
    let Some(declared) = table.get(name) else { return };
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
