//! Documents with what remote servers add to them: made when somebody asks, and kept while nothing they are made of changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use schema::openapi;
use serde_json::{Map, Value};

use super::Remotes;
use crate::api::Api;
use crate::discovery::Document;

/// Merged documents by path and media type, each with what it was made of.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Made>>);

struct Made {
    /// The ETag of this server's own document.
    base: String,
    remotes: Arc<Remotes>,
    document: Option<Arc<Document>>,
}

impl Api {
    /// The document at a path with what remote servers add; `None` where they add nothing. `base` is this server's own.
    pub(crate) fn merged(&self, path: &str, base: Option<&Document>) -> Option<Arc<Document>> {
        let aggregation = &self.aggregation;
        let remotes = aggregation.remotes.load_full();
        let is_document = path.starts_with("/apis") || path.starts_with("/openapi/v");
        if remotes.is_empty() || !is_document {
            return None;
        }
        let media = base.map_or("", |base| base.content_type);
        let (key, etag) = (format!("{path} {media}"), base.map_or("", |base| base.etag.as_str()));
        // A path that nothing is behind is none to remember.
        if base.is_none() {
            return aggregation.merge(&remotes, path, None).map(Arc::new);
        }
        if let Some(made) = aggregation.merged.0.lock().get(&key)
            && made.base == etag
            && Arc::ptr_eq(&made.remotes, &remotes)
        {
            return made.document.clone();
        }
        let document = match media.contains("proto-openapi.spec.v2") {
            // What is merged are trees.
            true => self.document(path, "").and_then(|plain| {
                let merged = aggregation.merge(&remotes, path, Some(&plain))?;
                let value: Value = serde_json::from_slice(&merged.body).ok()?;
                Some(Document::of(openapi::encode_v2(&value).into(), base?.content_type))
            }),
            false => aggregation.merge(&remotes, path, base),
        };
        let made = Made { base: etag.to_owned(), remotes, document: document.map(Arc::new) };
        let document = made.document.clone();
        aggregation.merged.0.lock().insert(key, made);
        document
    }
}

/// What a document of OpenAPI v2 says of a group and version: its paths, and the definitions that they need.
pub(super) fn part_v2(mut document: Value, group: &str, version: &str) -> Value {
    let base = format!("/apis/{group}/{version}");
    let is_below = |path: &str| path.strip_prefix(&base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut paths = match document["paths"].take() {
        Value::Object(paths) => paths,
        _ => Map::new(),
    };
    paths.retain(|path, _| is_below(path));
    let all = match document["definitions"].take() {
        Value::Object(definitions) => definitions,
        _ => Map::new(),
    };
    let parameters = match document["parameters"].take() {
        Value::Object(parameters) => parameters,
        _ => Map::new(),
    };
    let mut needed: BTreeMap<String, Value> = BTreeMap::new();
    let mut open = Vec::new();
    paths.values().chain(parameters.values()).for_each(|value| references(value, &mut open));
    while let Some(name) = open.pop() {
        if needed.contains_key(&name) {
            continue;
        }
        let Some(definition) = all.get(&name) else { continue };
        references(definition, &mut open);
        needed.insert(name, definition.clone());
    }
    let definitions: Map<String, Value> = needed.into_iter().collect();
    serde_json::json!({"paths": paths, "definitions": definitions, "parameters": parameters})
}

const DEFINITION: &str = "#/definitions/";

/// The names of the definitions that a value refers to.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|text| text.strip_prefix(DEFINITION)) {
                    Some(name) if key == "$ref" => found.push(name.to_owned()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Adds a part to the whole. Definitions that another one has the name of get a name of their own.
pub(super) fn add_v2(whole: &mut Value, part: &Value) {
    let mut renamed: HashMap<String, String> = HashMap::new();
    for section in ["definitions", "parameters"] {
        let Some(present) = whole[section].as_object() else { continue };
        for (name, value) in part[section].as_object().into_iter().flatten() {
            if present.get(name).is_some_and(|own| own != value) {
                let mut others = (2..).map(|n| format!("{name}_v{n}"));
                let free = others.find(|other| present.get(other).is_none_or(|own| own == value));
                renamed.insert(format!("#/{section}/{name}"), free.unwrap_or_default());
            }
        }
    }
    for section in ["definitions", "parameters", "paths"] {
        if !whole[section].is_object() {
            whole[section] = Value::Object(Map::new());
        }
        let Some(present) = whole[section].as_object_mut() else { continue };
        for (name, value) in part[section].as_object().into_iter().flatten() {
            let name = renamed.get(&format!("#/{section}/{name}")).unwrap_or(name);
            let mut value = value.clone();
            rename(&mut value, &renamed);
            present.entry(name.clone()).or_insert(value);
        }
    }
}

fn rename(value: &mut Value, renamed: &HashMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let found = value.as_str().filter(|_| key == "$ref").and_then(|text| {
                    let (at, _) = text.rsplit_once('/')?;
                    Some(format!("{at}/{}", renamed.get(text)?))
                });
                match found {
                    Some(text) => *value = text.into(),
                    None => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_of_the_same_name_stay_apart() {
        let of = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let remote = json!({
            "paths": {"/apis/ext/v1/things": of("Thing"), "/apis/other/v1/x": of("Other"), "/version": {}},
            "definitions": {"Thing": {"properties": {"meta": of("Meta"), "same": of("Same")}}, "Meta": {"type": "string"},
                "Same": {"type": "object"}, "Other": {}}});
        let part = part_v2(remote, "ext", "v1");
        assert_eq!(part["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["Meta", "Same", "Thing"]);
        let mut whole = json!({"paths": {"/api/v1/pods": {}}, "definitions": {"Meta": {"type": "integer"}, "Same": {"type": "object"}}});
        add_v2(&mut whole, &part);
        assert_eq!(
            whole,
            json!({"paths": {"/api/v1/pods": {}, "/apis/ext/v1/things": of("Thing")}, "parameters": {},
                "definitions": {"Meta": {"type": "integer"}, "Meta_v2": {"type": "string"}, "Same": {"type": "object"},
                    "Thing": {"properties": {"meta": of("Meta_v2"), "same": of("Same")}}}})
        );
    }
}
