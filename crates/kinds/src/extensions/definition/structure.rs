//! Whether a schema is structural: what it says of values stands on a skeleton of types (upstream's `ValidateStructural`).

use object::Invalid;
use schema::structural::Pattern;
use serde_json::Value;

use crate::tree::{entries, list, text};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// What only the skeleton may say, not the logic over it.
const SKELETON_ONLY: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

/// What keeps the schema at `path` from being structural, in the order of the words.
pub(super) fn check(schema: &Value, path: &str) -> Vec<Invalid> {
    let mut errors = Vec::new();
    node(schema, Level::Root, path, &mut errors);
    logic_is_complete(schema, schema, path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn flag(schema: &Value, key: &str) -> bool {
    schema[key] == true
}

/// True for what is there and not its type's zero.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

fn node(schema: &Value, level: Level, path: &str, errors: &mut Vec<Invalid>) {
    let at = |field: &str| format!("{path}.{field}");
    let kind = text(&schema["type"]);
    let (embedded, preserve) =
        (flag(schema, "x-kubernetes-embedded-resource"), flag(schema, "x-kubernetes-preserve-unknown-fields"));
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let properties = &schema["properties"];
    if kind == "array" && schema["items"].is_null() {
        errors.push(Invalid::required(&at("items"), "must be specified"));
    }
    if schema["items"].is_object() {
        node(&schema["items"], Level::Item, &at("items"), errors);
    }
    for (name, below) in entries(properties) {
        node(below, Level::Field, &format!("{path}.properties[{name}]"), errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        if level == Level::Root {
            errors.push(Invalid::forbidden(&at("additionalProperties"), "must not be used at the root"));
        }
        if additional.is_object() {
            node(additional, Level::Field, &at("additionalProperties"), errors);
        }
        if embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(Invalid::forbidden(&at("additionalProperties"), why));
        }
    }
    if int_or_string {
        let why = "must be false if x-kubernetes-int-or-string is true";
        for (is, name) in
            [(preserve, "x-kubernetes-preserve-unknown-fields"), (embedded, "x-kubernetes-embedded-resource")]
        {
            if is {
                errors.push(Invalid::invalid(&at(name), &true.into(), why));
            }
        }
    }
    logic(schema, either_type(&schema["anyOf"]), either_type(&schema["allOf"][0]["anyOf"]), path, errors);
    match (kind, level) {
        (kind, _) if embedded && kind != "object" => {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(match kind {
                "" => Invalid::required(&at("type"), why),
                kind => Invalid::invalid(&at("type"), &kind.into(), why),
            });
        }
        ("", _) if embedded || int_or_string || preserve => {}
        ("", Level::Root) => errors.push(Invalid::required(&at("type"), "must not be empty at the root")),
        ("", Level::Item) => {
            errors.push(Invalid::required(&at("type"), "must not be empty for specified array items"));
        }
        ("", Level::Field) => {
            errors.push(Invalid::required(&at("type"), "must not be empty for specified object fields"));
        }
        _ => {}
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Invalid::invalid(&at("type"), &kind.into(), "must be object at the root"));
    }
    if level == Level::Root || embedded {
        for (field, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
            if let Some(given) = properties.get(field).filter(|given| text(&given["type"]) != wanted) {
                let place = format!("{path}.properties[{field}].type");
                errors.push(Invalid::invalid(&place, &text(&given["type"]).into(), format!("must be {wanted}")));
            }
        }
    }
    if level == Level::Root {
        metadata(&properties["metadata"], path, errors);
    }
    if embedded && !preserve && entries(properties).next().is_none() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Invalid::required(&at("properties"), why));
    }
}

/// True when Go would find more than a zero there: what it holds by a pointer, a list or a map counts when it is empty, too.
pub(super) fn is_given(key: &str, value: &Value) -> bool {
    const POINTERS: [&str; 9] = [
        "$ref",
        "default",
        "example",
        "additionalItems",
        "additionalProperties",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
        "externalDocs",
    ];
    match value {
        Value::Null => false,
        Value::Bool(false) => POINTERS.contains(&key),
        Value::String(text) => !text.is_empty() || POINTERS.contains(&key),
        _ => true,
    }
}

/// Only the name may be restricted, and that at the root only.
fn metadata(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let names = entries(&schema["properties"]).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let mut others = entries(schema).filter(|(key, _)| !matches!(key.as_str(), "type" | "properties" | "default"));
    let given = |key: &str, value: &Value| match key {
        "id" | "$ref" | "additionalItems" | "dependencies" => false,
        // As upstream, which reads none out of empty ones.
        "enum" | "allOf" | "anyOf" | "oneOf" | "patternProperties" | "definitions" => is_set(value),
        _ => is_given(key, value),
    };
    if !names || others.any(|(key, value)| given(key, value)) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Invalid::forbidden(&format!("{path}.properties[metadata]"), why));
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, and nothing else: the two types of an int-or-string, said again.
fn either_type(any_of: &Value) -> bool {
    let only = |branch: &Value, kind: &str| entries(branch).count() == 1 && branch["type"] == kind;
    matches!(list(any_of), [one, two] if only(one, "integer") && only(two, "string"))
}

/// `allOf` and the like, and the pattern. What is skipped says the types of an int-or-string.
fn logic(schema: &Value, skip_any: bool, skip_any_of_first: bool, path: &str, errors: &mut Vec<Invalid>) {
    if !skip_any {
        for (index, branch) in list(&schema["anyOf"]).iter().enumerate() {
            nested(branch, false, &format!("{path}.anyOf[{index}]"), errors);
        }
    }
    for (index, branch) in list(&schema["allOf"]).iter().enumerate() {
        nested(branch, skip_any_of_first && index == 0, &format!("{path}.allOf[{index}]"), errors);
    }
    for (index, branch) in list(&schema["oneOf"]).iter().enumerate() {
        nested(branch, false, &format!("{path}.oneOf[{index}]"), errors);
    }
    nested(&schema["not"], false, &format!("{path}.not"), errors);
    let pattern = text(&schema["pattern"]);
    if let Err(why) = Pattern::check(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.push(Invalid::invalid(&format!("{path}.pattern"), &pattern.into(), detail));
    }
}

fn nested(schema: &Value, skip_any: bool, path: &str, errors: &mut Vec<Invalid>) {
    if !schema.is_object() {
        return;
    }
    let at = |field: &str| format!("{path}.{field}");
    logic(schema, skip_any, false, path, errors);
    nested(&schema["items"], false, &at("items"), errors);
    for (name, below) in entries(&schema["properties"]) {
        nested(below, false, &format!("{path}.properties[{name}]"), errors);
    }
    if schema["additionalProperties"].is_object() {
        errors.push(Invalid::forbidden(&at("additionalProperties"), "must be undefined to be structural"));
    }
    for (key, why) in SKELETON_ONLY {
        let given = match key {
            "x-kubernetes-list-map-keys" => is_set(&schema[key]),
            _ => is_given(key, &schema[key]),
        };
        if given {
            errors.push(Invalid::forbidden(&at(key), why));
        }
    }
    if is_set(&schema["x-kubernetes-validations"]) {
        errors.push(Invalid::forbidden(&at("x-kubernetes-validations"), "must be empty to be structural"));
    }
    if !schema["properties"]["metadata"].is_null() {
        let why = "must not be specified in a nested context";
        errors.push(Invalid::forbidden(&at("properties[metadata]"), why));
    }
}

/// What the logic speaks of must be in the skeleton.
fn logic_is_complete(logic: &Value, skeleton: &Value, place: &str, path: &str, errors: &mut Vec<Invalid>) {
    let not = [&logic["not"]].into_iter().map(|branch| (branch, format!("{path}.not")));
    let words = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|word| {
        list(&logic[word]).iter().enumerate().map(move |(index, branch)| (branch, format!("{path}.{word}[{index}]")))
    });
    for (branch, path) in not.chain(words) {
        is_complete(branch, skeleton, place, &path, errors);
    }
}

fn is_complete(logic: &Value, skeleton: &Value, place: &str, path: &str, errors: &mut Vec<Invalid>) {
    if !logic.is_object() {
        return;
    }
    if skeleton.is_null() {
        errors.push(Invalid::required(place, format!("because it is defined in {path}")));
        return;
    }
    logic_is_complete(logic, skeleton, place, path, errors);
    is_complete(&logic["items"], &skeleton["items"], &format!("{place}.items"), &format!("{path}.items"), errors);
    for (name, below) in entries(&logic["properties"]) {
        let (place, path) = (format!("{place}.properties[{name}]"), format!("{path}.properties[{name}]"));
        match skeleton["properties"].get(name) {
            Some(skeleton) => is_complete(below, skeleton, &place, &path, errors),
            None => errors.push(Invalid::required(&place, format!("because it is defined in {path}"))),
        }
    }
}
