//! Whether a schema is structural, and whether it says only what the server can do (`ValidateStructural`, `ValidateCustomResourceDefinitionOpenAPISchema`).

use object::Invalid;
use schema::structural::{self, Node, Pattern};
use serde_json::{Map, Value};

use crate::custom::rules;
use crate::tree::{entries, list, text};

/// Schemas nest no deeper than this.
const MOST_DEPTH: usize = 60;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What JSON schema has and structural schemas do not.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("$ref", "$ref is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("id", "id is not supported"),
    ("patternProperties", "patternProperties is not supported"),
];
/// What only the structure may say, not the logic over it.
const STRUCTURAL_ONLY: [(&str, &str); 9] = [
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("title", "must be empty to be structural"),
    ("type", "must be empty to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be undefined to be structural"),
];

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Adds what is wrong with a version's schema at `path`.
pub(super) fn validate(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    node(schema, path, Level::Root, 0, errors);
    if errors.is_empty() {
        defaults(schema, path, errors);
        expressions(schema, path, true, true, errors);
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema[key] == true
}

fn node(schema: &Value, path: &str, level: Level, depth: usize, errors: &mut Vec<Invalid>) {
    if depth > MOST_DEPTH {
        errors.push(Invalid::forbidden(path, "the schema is nested too deeply"));
        return;
    }
    kind(schema, path, level, errors);
    plain(schema, path, errors);
    extensions(schema, path, level, errors);
    lists(schema, path, errors);
    if level == Level::Root || flag(schema, "x-kubernetes-embedded-resource") {
        identity(schema, path, errors);
    }
    if level == Level::Root {
        metadata(&schema["properties"]["metadata"], path, errors);
    }
    for (name, below) in entries(&schema["properties"]) {
        node(below, &format!("{path}.properties[{name}]"), Level::Field, depth + 1, errors);
    }
    if schema["items"].is_object() {
        node(&schema["items"], &format!("{path}.items"), Level::Item, depth + 1, errors);
    }
    if schema["additionalProperties"].is_object() {
        node(&schema["additionalProperties"], &format!("{path}.additionalProperties"), Level::Field, depth + 1, errors);
    }
    logic(schema, schema, path, path, depth, errors);
}

fn kind(schema: &Value, path: &str, level: Level, errors: &mut Vec<Invalid>) {
    let kind = text(&schema["type"]);
    let at = format!("{path}.type");
    let open = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    match (level, kind) {
        (Level::Root, "") => errors.push(Invalid::required(&at, "must not be empty at the root")),
        (Level::Root, kind) if kind != "object" => {
            errors.push(Invalid::invalid(&at, &kind.into(), "must be object at the root"));
        }
        (Level::Item, "") if !open => {
            errors.push(Invalid::required(&at, "must not be empty for specified array items"))
        }
        (Level::Field, "") if !open => {
            errors.push(Invalid::required(&at, "must not be empty for specified object fields"));
        }
        (_, "null") => {
            errors.push(Invalid::forbidden(&at, "type cannot be set to null, use nullable as an alternative"));
        }
        (_, kind) if !kind.is_empty() && !TYPES.contains(&kind) => {
            errors.push(Invalid::not_supported(&at, &kind.into(), &TYPES));
        }
        _ => {}
    }
}

/// What is wrong by itself, whatever the place.
fn plain(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (key, why) in UNSUPPORTED {
        let value = &schema[key];
        let set = match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            _ => true,
        };
        if set {
            errors.push(Invalid::forbidden(&format!("{path}.{key}"), why));
        }
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Invalid::forbidden(&format!("{path}.uniqueItems"), why));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(why) = Pattern::check(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}: `{pattern}`");
        errors.push(Invalid::invalid(&format!("{path}.pattern"), &pattern.into(), detail));
    }
    if schema["items"].is_array() {
        errors.push(Invalid::forbidden(&format!("{path}.items"), "items must be a schema object and not an array"));
    } else if text(&schema["type"]) == "array" && schema["items"].is_null() {
        errors.push(Invalid::required(&format!("{path}.items"), "must be specified"));
    }
}

fn extensions(schema: &Value, path: &str, level: Level, errors: &mut Vec<Invalid>) {
    let at = |name: &str| format!("{path}.x-kubernetes-{name}");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let preserve = &schema["x-kubernetes-preserve-unknown-fields"];
    if *preserve == false {
        errors.push(Invalid::invalid(&at("preserve-unknown-fields"), &false.into(), "must be true or undefined"));
    }
    let kind = text(&schema["type"]);
    if flag(schema, "x-kubernetes-int-or-string") {
        let why = "must be false if x-kubernetes-int-or-string is true";
        if *preserve == true {
            errors.push(Invalid::invalid(&at("preserve-unknown-fields"), &true.into(), why));
        }
        if embedded {
            errors.push(Invalid::invalid(&at("embedded-resource"), &true.into(), why));
        }
    }
    if embedded {
        if kind != "object" {
            let at = format!("{path}.type");
            match kind {
                "" => errors.push(Invalid::required(&at, "must be object if x-kubernetes-embedded-resource is true")),
                kind => {
                    let why = "must be object if x-kubernetes-embedded-resource is true";
                    errors.push(Invalid::invalid(&at, &kind.into(), why));
                }
            }
        }
        if *preserve != true && entries(&schema["properties"]).next().is_none() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(Invalid::required(&format!("{path}.properties"), why));
        }
    }
    let map = text(&schema["x-kubernetes-map-type"]);
    if !map.is_empty() {
        if !matches!(map, "atomic" | "granular") {
            errors.push(Invalid::not_supported(&at("map-type"), &map.into(), &["atomic", "granular"]));
        }
        if kind != "object" {
            let why = "must be object if x-kubernetes-map-type is specified";
            errors.push(Invalid::invalid(&format!("{path}.type"), &kind.into(), why));
        }
    }
    if level == Level::Root && flag(schema, "nullable") {
        errors.push(Invalid::forbidden(&format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
}

fn lists(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let at = |name: &str| format!("{path}.x-kubernetes-{name}");
    let keys = list(&schema["x-kubernetes-list-map-keys"]);
    let (kind, items) = (text(&schema["x-kubernetes-list-type"]), &schema["items"]);
    if !kind.is_empty() && text(&schema["type"]) != "array" {
        let at = format!("{path}.type");
        match text(&schema["type"]) {
            "" => errors.push(Invalid::required(&at, "must be array if x-kubernetes-list-type is specified")),
            given => {
                let why = "must be array if x-kubernetes-list-type is specified";
                errors.push(Invalid::invalid(&at, &given.into(), why));
            }
        }
    }
    match kind {
        "" if keys.is_empty() => return,
        "" => {
            errors.push(Invalid::required(&at("list-type"), "must be map if x-kubernetes-list-map-keys is non-empty"));
            return;
        }
        "atomic" | "set" | "map" => {}
        other => {
            errors.push(Invalid::not_supported(&at("list-type"), &other.into(), &["atomic", "map", "set"]));
            return;
        }
    }
    if kind != "map" && !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(Invalid::invalid(&at("list-type"), &kind.into(), why));
    }
    match kind {
        "map" => map_list(items, keys, path, errors),
        "set" => set_items(items, &format!("{path}.items"), errors),
        _ => {}
    }
}

fn map_list(items: &Value, keys: &[Value], path: &str, errors: &mut Vec<Invalid>) {
    let at = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(Invalid::required(&at, "must not be empty if x-kubernetes-list-type is map"));
        return;
    }
    if items.is_null() {
        return;
    }
    if text(&items["type"]) != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Invalid::invalid(&format!("{path}.items.type"), &items["type"], why));
    }
    for (index, key) in keys.iter().enumerate() {
        let property = &items["properties"][text(key)];
        let place = format!("{path}.items.properties[{}]", text(key));
        match text(&property["type"]) {
            _ if property.is_null() => {
                let why = "entries must all be names of item properties";
                errors.push(Invalid::invalid(&at, &keys.into(), why));
            }
            "array" | "object" => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Invalid::invalid(&format!("{place}.type"), &property["type"], why));
            }
            _ if property["default"].is_null() && !list(&items["required"]).contains(key) => {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                errors.push(Invalid::required(&format!("{place}.default"), why));
            }
            _ if flag(property, "nullable") && !property["default"].is_null() => {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                errors.push(Invalid::forbidden(&format!("{place}.nullable"), why));
            }
            _ => {}
        }
        if keys[..index].contains(key) {
            errors.push(Invalid::duplicate(&format!("{at}[{index}]"), key));
        }
    }
}

fn set_items(items: &Value, path: &str, errors: &mut Vec<Invalid>) {
    if flag(items, "nullable") {
        let why = "must be false if parent array's x-kubernetes-list-type is set";
        errors.push(Invalid::forbidden(&format!("{path}.nullable"), why));
    }
    match text(&items["type"]) {
        "object" if text(&items["x-kubernetes-map-type"]) != "atomic" => {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            match &items["x-kubernetes-map-type"] {
                Value::Null => errors.push(Invalid::required(&format!("{path}.x-kubernetes-map-type"), why)),
                given => errors.push(Invalid::invalid(&format!("{path}.x-kubernetes-map-type"), given, why)),
            }
        }
        "array" if !matches!(text(&items["x-kubernetes-list-type"]), "" | "atomic") => {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.push(Invalid::invalid(
                &format!("{path}.x-kubernetes-list-type"),
                &items["x-kubernetes-list-type"],
                why,
            ));
        }
        _ => {}
    }
}

/// What every object has must have the types that every object's has.
fn identity(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (field, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(given) = schema["properties"].get(field) else { continue };
        if text(&given["type"]) != wanted {
            let at = format!("{path}.properties[{field}].type");
            errors.push(Invalid::invalid(&at, &text(&given["type"]).into(), format!("must be {wanted}")));
        }
    }
}

/// Only the name may be restricted, and that at the root only.
fn metadata(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    if schema.is_null() {
        return;
    }
    let known = |key: &str| matches!(key, "type" | "description" | "properties" | "title");
    let names = entries(&schema["properties"]).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    if !names || schema.as_object().is_some_and(|fields| fields.keys().any(|key| !known(key))) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Invalid::forbidden(&format!("{path}.properties[metadata]"), why));
    }
}

/// `allOf` and the like: they speak of what the structure has, and add no structure.
fn logic(value: &Value, structure: &Value, path: &str, base: &str, depth: usize, errors: &mut Vec<Invalid>) {
    for word in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in list(&value[word]).iter().enumerate() {
            nested(branch, structure, &format!("{path}.{word}[{index}]"), base, depth + 1, errors);
        }
    }
    if value["not"].is_object() {
        nested(&value["not"], structure, &format!("{path}.not"), base, depth + 1, errors);
    }
}

fn nested(value: &Value, structure: &Value, path: &str, base: &str, depth: usize, errors: &mut Vec<Invalid>) {
    if depth > MOST_DEPTH {
        errors.push(Invalid::forbidden(path, "the schema is nested too deeply"));
        return;
    }
    // `anyOf` and `allOf` may repeat the two types of an int-or-string.
    let either = flag(structure, "x-kubernetes-int-or-string") && matches!(text(&value["type"]), "integer" | "string");
    for (key, why) in STRUCTURAL_ONLY {
        let given = &value[key];
        let set = !(given.is_null() || *given == false || *given == "");
        if set && !(key == "type" && either) {
            errors.push(Invalid::forbidden(&format!("{path}.{key}"), why));
        }
    }
    plain_nested(value, path, errors);
    for (name, below) in entries(&value["properties"]) {
        let (place, inner) = (format!("{path}.properties[{name}]"), format!("{base}.properties[{name}]"));
        let declared = &structure["properties"][name.as_str()];
        if declared.is_null() && structure["x-kubernetes-preserve-unknown-fields"] != true {
            errors.push(Invalid::required(&inner, format!("because it is defined in {place}")));
            continue;
        }
        nested(below, declared, &place, &inner, depth + 1, errors);
    }
    if value["items"].is_object() {
        let (place, inner) = (format!("{path}.items"), format!("{base}.items"));
        match &structure["items"] {
            Value::Null => errors.push(Invalid::required(&inner, format!("because it is defined in {place}"))),
            declared => nested(&value["items"], declared, &place, &inner, depth + 1, errors),
        }
    }
    logic(value, structure, path, base, depth, errors);
}

fn plain_nested(value: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let mut bare = value.as_object().cloned().unwrap_or_else(Map::new);
    bare.remove("type");
    bare.remove("additionalProperties");
    plain(&Value::Object(bare), path, errors);
}

/// Rules in CEL. `correlated`: of a value here it is known what it was before.
fn expressions(schema: &Value, path: &str, root: bool, correlated: bool, errors: &mut Vec<Invalid>) {
    let declared = list(&schema["x-kubernetes-validations"]);
    if !declared.is_empty() {
        rules::check(declared, &Node::parse(schema), root, correlated, path, errors);
    }
    for (name, below) in entries(&schema["properties"]) {
        expressions(below, &format!("{path}.properties[{name}]"), false, correlated, errors);
    }
    if schema["additionalProperties"].is_object() {
        expressions(
            &schema["additionalProperties"],
            &format!("{path}.additionalProperties"),
            false,
            correlated,
            errors,
        );
    }
    if schema["items"].is_object() {
        let keyed = correlated && schema["x-kubernetes-list-type"] == "map";
        expressions(&schema["items"], &format!("{path}.items"), false, keyed, errors);
    }
}

/// Defaults are values of their schema.
fn defaults(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let default = &schema["default"];
    if !default.is_null() {
        let at = format!("{path}.default");
        let node = Node::parse(schema);
        let mut whole = default.clone();
        let unknown = structural::prune_value(&mut whole, &node);
        if !unknown.is_empty() {
            errors.push(Invalid::invalid(&at, default, "must not have unknown fields"));
        }
        structural::default(&mut whole, &node);
        let joined = |field: &str| match field {
            "" => at.clone(),
            field if field.starts_with('[') => format!("{at}{field}"),
            field => format!("{at}.{field}"),
        };
        errors.extend(structural::check(&whole, &node, None).into_iter().map(|mut error| {
            error.field = joined(&error.field);
            error
        }));
    }
    for (name, below) in entries(&schema["properties"]) {
        defaults(below, &format!("{path}.properties[{name}]"), errors);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            defaults(&schema[key], &format!("{path}.{key}"), errors);
        }
    }
}
