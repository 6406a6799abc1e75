//! What a version's schema may say, besides being structural: upstream's `ValidateCustomResourceDefinitionOpenAPISchema`, and what its
//! rules in CEL may cost.

use object::Invalid;
use serde_json::Value;

use super::defaults;
use super::expressions::{self, Place};
use super::structure::{self, is_given, is_set};
use crate::tree::{entries, list, text};

/// Schemas nest no deeper than this.
const MOST_DEPTH: usize = 100;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const META_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];
/// What JSON schema has and structural schemas do not.
const UNSUPPORTED: [&str; 6] = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
/// Besides the type, what a root schema may have where `status` has a door of its own, in the order in which upstream lists it.
const AT_THE_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations";
/// What it may not have.
const NOT_AT_THE_ROOT: [&str; 16] = [
    "nullable",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "$schema",
];

/// Adds what is wrong with a version's schema at `path`.
pub(super) fn validate(schema: &Value, path: &str, has_status: bool, errors: &mut Vec<Invalid>) {
    let mut own = Vec::new();
    if has_status {
        root(schema, path, &mut own);
    }
    if schema["nullable"] == true {
        own.push(Invalid::forbidden(&format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let mut rules = None;
    if !is_too_deep(schema, 0) {
        if !uses_unsupported(schema) {
            let mut found = structure::check(schema, path);
            if found.is_empty() {
                defaults::check(schema, path, &mut found);
            }
            if found.is_empty() {
                rules = Some(expressions::Rules::default());
            }
            own.extend(found);
        }
        let mut walk = Walk { errors: Vec::new(), rules };
        let place = Place { root: true, cardinality: Some(1), uncorrelated: None, rules: walk.rules.is_some() };
        walk.node(schema, path, &At { place, defaults: Ok(()), in_meta: false });
        own.extend(walk.errors);
        if let Some(rules) = walk.rules {
            rules.finish(path, &mut own);
        }
    } else {
        own.push(Invalid::forbidden(path, "the schema is nested too deeply"));
    }
    if own.is_empty() && names_a_dialect(schema) {
        own.push(Invalid::invalid(path, &"".into(), "OpenAPIV3Schema 'schema' is not supported"));
    }
    errors.append(&mut own);
}

fn names_a_dialect(schema: &Value) -> bool {
    is_set(&schema["$schema"]) || below(schema).any(names_a_dialect)
}

fn below(schema: &Value) -> impl Iterator<Item = &Value> {
    let single = ["items", "additionalProperties", "not"].into_iter().map(|key| &schema[key]);
    let many = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| list(&schema[key]));
    single.chain(many).chain(entries(&schema["properties"]).map(|(_, below)| below)).filter(|below| below.is_object())
}

fn is_too_deep(schema: &Value, depth: usize) -> bool {
    depth > MOST_DEPTH || below(schema).any(|below| is_too_deep(below, depth + 1))
}

fn uses_unsupported(schema: &Value) -> bool {
    UNSUPPORTED.iter().chain(["$schema"].iter()).any(|key| is_set(&schema[*key]))
        || !schema["additionalItems"].is_null()
        || schema["items"].is_array()
        || schema["x-kubernetes-preserve-unknown-fields"] == false
        || below(schema).any(uses_unsupported)
}

/// Formats that nobody looks at, in the order of the walk.
pub(super) fn unknown_formats(schema: &Value, found: &mut Vec<String>) {
    let format = text(&schema["format"]);
    let known = match text(&schema["type"]) {
        "" | "string" => schema::structural::formats::is_known(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if !format.is_empty() && !known {
        found.push(format.to_owned());
    }
    below(schema).for_each(|below| unknown_formats(below, found));
}

/// Where `status` is apart, only what stays true of it may be said.
fn root(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let kind = text(&schema["type"]);
    if !kind.is_empty() && kind != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(Invalid::invalid(&format!("{path}.type"), &kind.into(), why));
        return;
    }
    if NOT_AT_THE_ROOT.iter().chain(&UNSUPPORTED).any(|key| is_given(key, &schema[*key])) {
        let why = format!(
            "only [{AT_THE_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(Invalid::invalid(path, schema, why));
    }
}

/// What the schemas above say of one.
#[derive(Clone)]
struct At {
    place: Place,
    /// Why there may be no defaults.
    defaults: Result<(), String>,
    /// It is of the metadata of a resource.
    in_meta: bool,
}

impl At {
    fn nested(&self) -> Self {
        let place = Place { rules: false, root: false, ..self.place.clone() };
        Self { place, ..self.clone() }
    }

    /// Below the schema, in so many values.
    fn below(&self, schema: &Value, child: &Value) -> Self {
        let most = match text(&schema["type"]) {
            "object" if !schema["additionalProperties"].is_null() => schema["maxProperties"].as_i64(),
            "array" => schema["maxItems"].as_i64(),
            _ => Some(1),
        };
        let most = most.map(|most| u64::try_from(most).unwrap_or(0));
        let cardinality = self.place.cardinality.zip(most).map(|(one, other)| one.saturating_mul(other));
        let root = child["x-kubernetes-embedded-resource"] == true;
        Self { place: Place { root, cardinality, ..self.place.clone() }, ..self.clone() }
    }

    /// What it was before is not known here: it was forgotten above, at the latest at `path`.
    fn forgotten(mut self, path: &str) -> Self {
        self.place.uncorrelated.get_or_insert_with(|| path.to_owned());
        self
    }
}

struct Walk {
    errors: Vec<Invalid>,
    /// `None` when the schema is too bad to look at its rules.
    rules: Option<expressions::Rules>,
}

impl Walk {
    fn node(&mut self, schema: &Value, path: &str, at: &At) {
        if !schema.is_object() {
            return;
        }
        let before = self.errors.len();
        self.plain(schema, path, at);
        let is_root =
            at.place.root && at.place.cardinality == Some(1) && !at.in_meta && at.place.uncorrelated.is_none();
        let additional = &schema["additionalProperties"];
        if !additional.is_null() {
            let has_properties = entries(&schema["properties"]).next().is_some();
            if has_properties && *additional != true {
                let why = "additionalProperties and properties are mutual exclusive";
                self.errors.push(Invalid::forbidden(&format!("{path}.additionalProperties"), why));
            }
            let mut below = at.below(schema, additional);
            if at.in_meta {
                below.defaults = Err(" inside additionalProperties applying to object metadata".into());
            }
            self.node(additional, &format!("{path}.additionalProperties"), &below);
        }
        for (name, child) in entries(&schema["properties"]) {
            let mut below = at.below(schema, child);
            if schema["x-kubernetes-map-type"] == "atomic" {
                below = below.forgotten(path);
            }
            let resource = at.place.root || schema["x-kubernetes-embedded-resource"] == true;
            if resource && META_FIELDS.contains(&name.as_str()) {
                below.in_meta = true;
                if is_root {
                    below.defaults = Err(format!(" in top-level {name}"));
                }
            }
            self.node(child, &format!("{path}.properties[{name}]"), &below);
        }
        self.node(&schema["not"], &format!("{path}.not"), &at.nested());
        for word in ["allOf", "oneOf", "anyOf"] {
            for (index, branch) in list(&schema[word]).iter().enumerate() {
                self.node(branch, &format!("{path}.{word}[{index}]"), &at.nested());
            }
        }
        if schema["items"].is_object() {
            let mut below = at.below(schema, &schema["items"]);
            if schema["x-kubernetes-list-type"] != "map" {
                below = below.forgotten(path);
            }
            self.node(&schema["items"], &format!("{path}.items"), &below);
        }
        self.extensions(schema, path);
        self.lists(schema, path);
        let declared = list(&schema["x-kubernetes-validations"]);
        expressions::declared(declared, schema, path, &mut self.errors);
        if at.place.rules
            && self.errors.len() == before
            && let Some(rules) = &mut self.rules
        {
            rules.check(declared, schema, path, &at.place);
        }
    }

    /// What is wrong by itself, whatever the place.
    fn plain(&mut self, schema: &Value, path: &str, at: &At) {
        let forbidden = |field: &str, why: &str| Invalid::forbidden(&format!("{path}.{field}"), why);
        let kind = text(&schema["type"]);
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.errors.push(Invalid::not_supported(&format!("{path}.type"), &kind.into(), &TYPES));
        }
        if let Err(reason) = &at.defaults
            && !schema["default"].is_null()
        {
            self.errors.push(forbidden("default", &format!("must not be set{reason}")));
        }
        for key in UNSUPPORTED {
            let given = match key {
                "patternProperties" | "definitions" => is_set(&schema[key]),
                _ => is_given(key, &schema[key]),
            };
            if given {
                self.errors.push(forbidden(key, &format!("{key} is not supported")));
            }
        }
        if kind == "null" {
            self.errors.push(forbidden("type", "type cannot be set to null, use nullable as an alternative"));
        }
        if schema["items"].is_array() {
            self.errors.push(forbidden("items", "items must be a schema object and not an array"));
        }
        if at.in_meta && schema["x-kubernetes-embedded-resource"] == true {
            let why = "must not be used inside of resource meta";
            self.errors.push(forbidden("x-kubernetes-embedded-resource", why));
        }
        if schema["uniqueItems"] == true {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.push(forbidden("uniqueItems", why));
        }
    }

    fn wrong_type(&mut self, schema: &Value, path: &str, why: &str) {
        let at = format!("{path}.type");
        self.errors.push(match text(&schema["type"]) {
            "" => Invalid::required(&at, why),
            given => Invalid::invalid(&at, &given.into(), why),
        });
    }

    fn extensions(&mut self, schema: &Value, path: &str) {
        let at = |name: &str| format!("{path}.x-kubernetes-{name}");
        if schema["x-kubernetes-preserve-unknown-fields"] == false {
            let why = "must be true or undefined";
            self.errors.push(Invalid::invalid(&at("preserve-unknown-fields"), &false.into(), why));
        }
        if let Some(map) = schema["x-kubernetes-map-type"].as_str() {
            if schema["type"] != "object" {
                self.wrong_type(schema, path, "must be object if x-kubernetes-map-type is specified");
            }
            if !matches!(map, "atomic" | "granular") {
                self.errors.push(Invalid::unsupported(&at("map-type"), &map.into(), &["atomic", "granular"]));
            }
        }
    }

    fn lists(&mut self, schema: &Value, path: &str) {
        let at = |name: &str| format!("{path}.x-kubernetes-{name}");
        let (kind, items) = (schema["x-kubernetes-list-type"].as_str(), &schema["items"]);
        if kind.is_some() && schema["type"] != "array" {
            self.wrong_type(schema, path, "must be array if x-kubernetes-list-type is specified");
        } else if kind == Some("set") {
            let (is, shown) = match text(&items["type"]) {
                "array" => (!matches!(items["x-kubernetes-list-type"].as_str(), None | Some("atomic")), "list"),
                "object" => (items["x-kubernetes-map-type"] != "atomic", "map"),
                _ => (false, ""),
            };
            if is {
                let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                let place = format!("{path}.items.x-kubernetes-{shown}-type");
                self.errors.push(Invalid::invalid(&place, &items["x-kubernetes-list-type"], why));
            }
        }
        if let Some(kind) = kind.filter(|kind| !matches!(*kind, "atomic" | "set" | "map")) {
            self.errors.push(Invalid::unsupported(&at("list-type"), &kind.into(), &["atomic", "set", "map"]));
        }
        let keys = list(&schema["x-kubernetes-list-map-keys"]);
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match kind {
            Some("map") => self.map_list(schema, keys, path),
            _ if keys.is_empty() => {}
            None => self.errors.push(Invalid::required(&at("list-type"), why)),
            Some(kind) => self.errors.push(Invalid::invalid(&at("list-type"), &kind.into(), why)),
        }
        if let Some(kind @ ("set" | "map")) = kind {
            self.items_of_sets(kind, items, keys, path);
        }
    }

    fn map_list(&mut self, schema: &Value, keys: &[Value], path: &str) {
        let at = format!("{path}.x-kubernetes-list-map-keys");
        let items = &schema["items"];
        if keys.is_empty() {
            self.errors.push(Invalid::required(&at, "must not be empty if x-kubernetes-list-type is map"));
        }
        if items.is_null() {
            let why = "must have a schema if x-kubernetes-list-type is map";
            self.errors.push(Invalid::required(&format!("{path}.items"), why));
        } else if items["type"] != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            self.errors.push(Invalid::invalid(&format!("{path}.items.type"), &text(&items["type"]).into(), why));
        } else {
            for (index, key) in keys.iter().enumerate() {
                let property = &items["properties"][text(key)];
                if property.is_null() {
                    let why = "entries must all be names of item properties";
                    self.errors.push(Invalid::invalid(&at, &keys.into(), why));
                } else if matches!(text(&property["type"]), "array" | "object") {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let place = format!("{path}.items.properties[{}].type", text(key));
                    self.errors.push(Invalid::invalid(&place, &"object".into(), why));
                }
                if keys[..index].contains(key) {
                    self.errors.push(Invalid::invalid(&at, &keys.into(), "must not contain duplicate entries"));
                }
            }
        }
    }

    fn items_of_sets(&mut self, kind: &str, items: &Value, keys: &[Value], path: &str) {
        if items["nullable"] == true {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
            self.errors.push(Invalid::forbidden(&format!("{path}.items.nullable"), why));
        }
        for key in keys.iter().filter(|_| kind == "map") {
            let Some(property) = items["properties"].get(text(key)) else { continue };
            let place = format!("{path}.items.properties[{}]", text(key));
            if property["default"].is_null() && !list(&items["required"]).contains(key) {
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(Invalid::required(&format!("{place}.default"), why));
            }
            if property["nullable"] == true {
                let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.errors.push(Invalid::forbidden(&format!("{place}.nullable"), why));
            }
        }
    }
}
