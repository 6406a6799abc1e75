//! Paths and operations: enough for clients to find a resource's kind, and which parameters its verbs take.

use serde_json::{Map, Value, json};

use super::{Dialect, META, Served};

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom resources have no merge keys. By this clients know which patch to send.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const OBJECTS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// One verb of a resource.
struct Verb {
    /// As discovery names it.
    name: &'static str,
    /// On the collection, or on one object.
    collection: bool,
    method: &'static str,
    action: &'static str,
    words: &'static str,
    query: &'static [(&'static str, &'static str)],
}

const VERBS: [Verb; 7] = [
    Verb {
        name: "list",
        collection: true,
        method: "get",
        action: "list",
        words: "list or watch objects of kind",
        query: LIST,
    },
    Verb { name: "create", collection: true, method: "post", action: "post", words: "create a", query: WRITE },
    Verb {
        name: "deletecollection",
        collection: true,
        method: "delete",
        action: "deletecollection",
        words: "delete collection of",
        query: DELETE,
    },
    Verb { name: "get", collection: false, method: "get", action: "get", words: "read the specified", query: &[] },
    Verb {
        name: "update",
        collection: false,
        method: "put",
        action: "put",
        words: "replace the specified",
        query: WRITE,
    },
    Verb {
        name: "patch",
        collection: false,
        method: "patch",
        action: "patch",
        words: "partially update the specified",
        query: PATCH,
    },
    Verb { name: "delete", collection: false, method: "delete", action: "delete", words: "delete a", query: DELETE },
];

/// The paths of all resources.
pub(super) fn all(resources: &[Served], dialect: Dialect) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        let gvr = object::Gvr::new(&resource.group, &resource.version, &resource.plural);
        let collection = gvr.path(resource.namespaced.then_some("{namespace}"));
        add(resource, &collection, true, dialect, &mut paths);
        add(resource, &format!("{collection}/{{name}}"), false, dialect, &mut paths);
        for (has, name) in [(resource.subresources.0, "status"), (resource.subresources.1, "scale")] {
            if has && resource.custom.is_some() {
                let parts = Served {
                    verbs: ["get", "update", "patch"].map(Into::into).into(),
                    schema: if name == "scale" { SCALE.into() } else { resource.schema.clone() },
                    ..resource.clone()
                };
                add(&parts, &format!("{collection}/{{name}}/{name}"), false, dialect, &mut paths);
            }
        }
        if resource.namespaced {
            let across = &gvr.path(None);
            let only_list = Served { verbs: vec!["list".into()], ..resource.clone() };
            if resource.verbs.iter().any(|verb| verb == "list") {
                add(&only_list, across, true, dialect, &mut paths);
            }
        }
    }
    paths
}

fn add(resource: &Served, path: &str, collection: bool, dialect: Dialect, paths: &mut Map<String, Value>) {
    let mut item = Map::new();
    for verb in VERBS.iter().filter(|v| v.collection == collection && resource.verbs.iter().any(|r| r == v.name)) {
        item.insert(verb.method.into(), operation(resource, path, verb, dialect));
    }
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    for (name, words) in
        [("name", "name of the "), ("namespace", "object name and auth scope, such as for teams and projects")]
    {
        if path.contains(&format!("{{{name}}}")) {
            let words = if name == "name" { format!("{words}{}", resource.kind) } else { words.to_owned() };
            let mut parameter = parameter(name, "string", "path", dialect);
            parameter["required"] = true.into();
            parameter["description"] = words.into();
            parameters.push(parameter);
        }
    }
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.into());
    }
    paths.insert(path.into(), Value::Object(item));
}

fn parameter(name: &str, kind: &str, place: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({"name": name, "in": place, "type": kind, "uniqueItems": true}),
        Dialect::V3 => json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}}),
    }
}

fn operation(resource: &Served, path: &str, verb: &Verb, dialect: Dialect) -> Value {
    let answer = match verb.name {
        "list" => format!("{}List", resource.schema),
        "delete" if resource.returned_by_delete => resource.schema.clone(),
        "delete" | "deletecollection" => format!("{META}.Status"),
        _ => resource.schema.clone(),
    };
    let mut parameters: Vec<Value> =
        verb.query.iter().map(|(name, kind)| parameter(name, kind, "query", dialect)).collect();
    let across = resource.namespaced && !path.contains("{namespace}");
    let part = path.rsplit_once("{name}/").map_or("", |(_, part)| part);
    let mut operation = json!({
        "tags": [format!("{}_{}", short_group(&resource.group), resource.version)],
        "description": format!("{} {}", verb.words, resource.kind),
        "operationId": operation_id(resource, verb, across) + &capital(part),
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
    });
    let body = match verb.name {
        "create" | "update" => Some((dialect.reference(&resource.schema), true)),
        "patch" => Some((json!({"type": "object"}), true)),
        "delete" | "deletecollection" => Some((dialect.reference(&format!("{META}.DeleteOptions")), false)),
        _ => None,
    };
    let consumed: &[&str] = match (verb.name, resource.custom.is_some()) {
        ("patch", false) => &PATCHES,
        ("patch", true) => &CUSTOM_PATCHES,
        (_, false) => &["*/*"],
        (_, true) => &["application/json", "application/yaml"],
    };
    let produced = if resource.custom.is_some() { &OBJECTS[..2] } else { &OBJECTS[..] };
    match dialect {
        Dialect::V2 => {
            if let Some((schema, required)) = body {
                parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
            }
            operation["schemes"] = json!(["https"]);
            operation["consumes"] = json!(consumed);
            operation["produces"] = json!(produced);
            operation["responses"] = json!({
                "200": {"description": "OK", "schema": dialect.reference(&answer)},
                "401": {"description": "Unauthorized"},
            });
        }
        Dialect::V3 => {
            if let Some((schema, required)) = body {
                let content: Map<String, Value> =
                    consumed.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"required": required, "content": content});
            }
            let content: Map<String, Value> = produced
                .iter()
                .map(|media| ((*media).to_owned(), json!({"schema": dialect.reference(&answer)})))
                .collect();
            operation["responses"] = json!({
                "200": {"description": "OK", "content": content},
                "401": {"description": "Unauthorized"},
            });
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// `core`, `apps`, `rbacAuthorization`: the group as operation ids have it.
fn short_group(group: &str) -> String {
    let short = group.strip_suffix(".k8s.io").unwrap_or(group);
    match short {
        "" => "core".into(),
        "rbac.authorization" => "rbacAuthorization".into(),
        "flowcontrol.apiserver" => "flowcontrolApiserver".into(),
        short => short.split('.').next().unwrap_or(short).into(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn operation_id(resource: &Served, verb: &Verb, across: bool) -> String {
    let action = match verb.name {
        "get" => "read",
        "update" => "replace",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let scope = match (verb.name == "deletecollection", resource.namespaced && !across) {
        (true, true) => "CollectionNamespaced",
        (true, false) => "Collection",
        (false, true) => "Namespaced",
        (false, false) => "",
    };
    let action = if verb.name == "deletecollection" { "delete" } else { action };
    let group = capital(&short_group(&resource.group));
    let after = if across { "ForAllNamespaces" } else { "" };
    format!("{action}{group}{}{scope}{}{after}", capital(&resource.version), resource.kind)
}
