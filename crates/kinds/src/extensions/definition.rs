//! `apiextensions.k8s.io/v1 CustomResourceDefinition`.

mod approval;
mod defaults;
mod expressions;
mod parts;
mod schemas;
mod structure;

use object::Invalid;
use serde_json::{Value, json};

pub(crate) use approval::condition as approval_condition;

use crate::custom::has_condition;
use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, list, made, set, text};
use crate::{checks, names};

pub(crate) const RULES: Rules = Rules { default, prepare_create, prepare_update, validate, warnings, ..NO_RULES };

fn default(definition: &mut Value) {
    if let Some(stored) = stored(definition)
        && list(&definition["status"]["storedVersions"]).is_empty()
        && let Some(status) = made(definition, "status")
    {
        status["storedVersions"] = json!([stored]);
    }
    let Some(spec) = child(definition, "spec") else { return };
    if let Some(own) = child(spec, "names") {
        let kind = text(&own["kind"]).to_owned();
        if !kind.is_empty() {
            for (field, name) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
                if text(&own[field]).is_empty() {
                    own[field] = name.into();
                }
            }
        }
    }
    if spec["preserveUnknownFields"] == false {
        crate::tree::remove(spec, "preserveUnknownFields");
    }
    for version in spec["versions"].as_array_mut().into_iter().flatten().filter(|version| version.is_object()) {
        set(version, "served", false);
        set(version, "storage", false);
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    } else if let Some(service) = child(spec, "conversion.webhook.clientConfig.service") {
        set(service, "port", 443);
    }
}

fn stored(definition: &Value) -> Option<Value> {
    list(&definition["spec"]["versions"]).iter().find(|v| v["storage"] == true).map(|v| v["name"].clone())
}

fn prepare_create(new: &mut Value) {
    let stored = stored(new).map_or(Value::Null, |stored| json!([stored]));
    new["status"] = json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": stored});
}

/// The version that objects are stored in from now on joins those that they may be stored in.
fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    if let Some(stored) = stored(new)
        && let Some(status) = made(new, "status")
    {
        let mut all = list(&status["storedVersions"]).to_vec();
        if !all.contains(&stored) {
            all.push(stored);
        }
        status["storedVersions"] = all.into();
    }
}

fn unknown_formats(definition: &Value) -> Vec<String> {
    let versions = list(&definition["spec"]["versions"]);
    let mut found = Vec::new();
    let looked_at = if is_common(versions, "schema") { 1 } else { versions.len() };
    for version in versions.iter().take(looked_at) {
        schemas::unknown_formats(&version["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let known = old.map(unknown_formats).unwrap_or_default();
    let fresh = unknown_formats(new).into_iter().filter(|format| !known.contains(format));
    fresh.map(|format| format!("unrecognized format {format:?}")).collect()
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    if old.is_none() && text(&new["metadata"]["name"]) != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Invalid::invalid("metadata.name", &new["metadata"]["name"], detail));
    }
    checks::required(spec, "spec", "group", errors);
    match group {
        "" => {}
        group => match names::joined(names::subdomain(group)) {
            Some(why) => errors.push(Invalid::invalid("spec.group", &group.into(), why)),
            None if !group.contains('.') => {
                let detail = "should be a domain with at least one dot";
                errors.push(Invalid::invalid("spec.group", &group.into(), detail));
            }
            None => {}
        },
    }
    match text(&spec["scope"]) {
        "" => errors.push(Invalid::required("spec.scope", "")),
        _ => checks::one_of(spec, "spec", "scope", &["Cluster", "Namespaced"], errors),
    }
    validate_versions(spec, old, errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        checks::required(&spec["names"], "spec.names", field, errors);
    }
    validate_names(&spec["names"], "spec.names", errors);
    validate_common(spec, old, errors);
    if spec["conversion"]["strategy"] == "Webhook" && spec["preserveUnknownFields"] == true {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(Invalid::invalid("spec.conversion.strategy", &"Webhook".into(), why));
    }
    let established = old.is_some_and(|old| has_condition(old, "Established"));
    let was_bad = |old: &Value| {
        let bundle = text(&old["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"]);
        !bundle.is_empty() && !parts::is_bundle(bundle)
    };
    parts::conversion(spec, !established || old.is_some_and(was_bad), errors);
    if established {
        checks::immutable(new, old, &["spec.scope", "spec.names.kind"], errors);
    }
    checks::immutable(new, old, &["spec.group", "spec.names.plural"], errors);
    validate_stored(&new["status"]["storedVersions"], list(&spec["versions"]), errors);
    approval::validate(new, old, errors);
    if spec["preserveUnknownFields"] == true && old.is_none_or(|old| old["spec"]["preserveUnknownFields"] != true) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Invalid::invalid("spec.preserveUnknownFields", &true.into(), detail));
    }
}

/// True when all versions have the same of this: upstream says of it once what is wrong, at the top.
fn is_common(versions: &[Value], part: &str) -> bool {
    versions.iter().all(|version| version[part] == versions[0][part])
}

/// True when the old definition has a version of the name with the same schema: what was accepted once is not looked at again.
fn is_known(old: Option<&Value>, version: &Value) -> bool {
    let olds = old.map_or(&[][..], |old| list(&old["spec"]["versions"]));
    olds.iter().any(|old| old["name"] == version["name"] && old["schema"] == version["schema"])
}

fn has_defaults(schema: &Value) -> bool {
    match schema {
        Value::Object(entries) => !schema["default"].is_null() || entries.values().any(has_defaults),
        Value::Array(items) => items.iter().any(has_defaults),
        _ => false,
    }
}

/// What each version says for itself.
fn validate_versions(spec: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let versions = list(&spec["versions"]);
    let schema_of = |version: &Value| version["schema"]["openAPIV3Schema"].is_object();
    if !(is_common(versions, "schema") && versions.first().is_some_and(schema_of)) {
        for (index, _) in versions.iter().enumerate().filter(|(_, version)| !schema_of(version)) {
            errors.push(Invalid::required(&format!("spec.versions[{index}].schema.openAPIV3Schema"), ""));
        }
    }
    if spec["preserveUnknownFields"] == true && versions.iter().any(|v| has_defaults(&v["schema"])) {
        let why = "must be false in order to use defaults in the schema";
        errors.push(Invalid::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
    let is_common = |part: &str| is_common(versions, part);
    let (mut seen, mut unique) = (Vec::new(), true);
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(&version["name"]);
        unique &= !seen.contains(&name);
        seen.push(name);
        if let Some(why) = names::joined(names::label_1035(name)) {
            errors.push(Invalid::invalid(&format!("{path}.name"), &name.into(), why));
        }
        parts::deprecation(version, &path, errors);
        let schema = &version["schema"]["openAPIV3Schema"];
        if !is_common("schema") && schema.is_object() && !is_known(old, version) {
            let has_status = match is_common("subresources") {
                true => versions[0]["subresources"]["status"].is_object(),
                false => version["subresources"]["status"].is_object(),
            };
            schemas::validate(schema, &format!("{path}.schema.openAPIV3Schema"), has_status, errors);
        }
        if !is_common("subresources") {
            parts::subresources(&version["subresources"], &path, errors);
        }
        if !is_common("additionalPrinterColumns") {
            parts::columns(&version["additionalPrinterColumns"], &path, errors);
        }
        let fields = list(&version["selectableFields"]);
        if !is_common("selectableFields") && !fields.is_empty() {
            // As upstream: where all versions have one schema, it is not theirs any more.
            match is_common("schema") || !schema.is_object() {
                true => {
                    let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
                    errors.push(Invalid::invalid(&format!("{path}.selectableFields"), &"".into(), why));
                }
                false => parts::selectable(fields, schema, &path, errors),
            }
        }
    }
    if !unique {
        errors.push(of_versions(versions, "must contain unique version names"));
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        errors.push(of_versions(versions, "must have exactly one version marked as storage version"));
    }
    if let Some(version) = versions.first().filter(|version| !text(&version["name"]).is_empty())
        && let Some(why) = names::joined(names::label_1035(text(&version["name"])))
    {
        errors.push(Invalid::invalid("spec.version", &text(&version["name"]).into(), why));
    }
}

/// An error with the versions as upstream's internal type shows them.
fn of_versions(versions: &[Value], why: &str) -> Invalid {
    let mut error = Invalid::invalid("spec.versions", &Value::Null, why);
    let part = |version: &Value, part: &str| match is_common(versions, part) {
        true => "null".to_owned(),
        false => version[part].to_string(),
    };
    let shown = versions.iter().map(|version| {
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            json!(text(&version["name"])),
            version["served"] == true,
            version["storage"] == true,
            version["deprecated"] == true,
            version["deprecationWarning"],
            part(version, "schema"),
            part(version, "subresources"),
            part(version, "additionalPrinterColumns"),
            part(version, "selectableFields"),
        )
    });
    error.value = format!("[{}]", shown.collect::<Vec<_>>().join(","));
    error
}

/// What all versions say alike.
fn validate_common(spec: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let versions = list(&spec["versions"]);
    let Some(first) = versions.first() else { return };
    let schema = &first["schema"]["openAPIV3Schema"];
    if is_common(versions, "schema") && schema.is_object() && !is_known(old, first) {
        let has_status = versions.iter().any(|v| v["subresources"]["status"].is_object());
        schemas::validate(schema, "spec.validation.openAPIV3Schema", has_status, errors);
    }
    if is_common(versions, "subresources") {
        parts::subresources(&first["subresources"], "spec", errors);
    }
    if is_common(versions, "additionalPrinterColumns") {
        parts::columns(&first["additionalPrinterColumns"], "spec", errors);
    }
    let fields = list(&first["selectableFields"]);
    if is_common(versions, "selectableFields") && !fields.is_empty() {
        match is_common(versions, "schema") && schema.is_object() {
            true => parts::selectable(fields, schema, "spec", errors),
            false => {
                let why = "may only be set when validations.schema is included";
                errors.push(Invalid::invalid("spec.selectableFields", &"".into(), why));
            }
        }
    }
}

/// Versions that objects may be stored in must be declared.
fn validate_stored(stored: &Value, versions: &[Value], errors: &mut Vec<Invalid>) {
    const PATH: &str = "status.storedVersions";
    let all = list(stored);
    if all.is_empty() {
        errors.push(Invalid::invalid(PATH, stored, "must have at least one stored version"));
        return;
    }
    for version in versions.iter().filter(|v| v["storage"] == true && !all.contains(&v["name"])) {
        let why = format!("must have the storage version {}", text(&version["name"]));
        errors.push(Invalid::invalid(PATH, stored, why));
    }
    for (index, name) in all.iter().enumerate().filter(|(_, name)| !versions.iter().any(|v| v["name"] == **name)) {
        let shown = text(name);
        let why = format!(
            "missing from spec.versions; {shown} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {shown} and removes {shown} from status.storedVersions"
        );
        errors.push(Invalid::invalid(&format!("{PATH}[{index}]"), name, why));
    }
}

fn validate_names(own: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(&own[field]);
        let mixed = field.ends_with("ind");
        let label = if mixed { name.to_lowercase() } else { name.to_owned() };
        if let Some(why) = names::joined(names::label_1035(&label)).filter(|_| !name.is_empty()) {
            let why = if mixed { format!("may have mixed case, but should otherwise match: {why}") } else { why };
            errors.push(Invalid::invalid(&format!("{path}.{field}"), &name.into(), why));
        }
    }
    let labels = |field: &str, errors: &mut Vec<Invalid>| {
        for (index, name) in list(&own[field]).iter().enumerate() {
            if let Some(why) = names::joined(names::label_1035(text(name))) {
                errors.push(Invalid::invalid(&format!("{path}.{field}[{index}]"), name, why));
            }
        }
    };
    labels("shortNames", errors);
    if text(&own["kind"]) == text(&own["listKind"]) && !text(&own["kind"]).is_empty() {
        let detail = "kind and listKind may not be the same";
        errors.push(Invalid::invalid(&format!("{path}.listKind"), &own["listKind"], detail));
    }
    labels("categories", errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn definition() {
        let case = Case::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
        let spec = json!({"group": "a.b", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [version]});
        let mut full = spec.clone();
        full["names"] = json!({"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"});
        full["conversion"] = json!({"strategy": "None"});
        case.defaulted(json!({"spec": spec}), json!({"spec": full, "status": {"storedVersions": ["v1"]}}));
        let status = json!({"storedVersions": ["v1"]});
        case.invalid(json!({"metadata": {"name": "foos.a.b"}, "spec": spec, "status": status}), &[]);
        // What is there and empty is there, where Go has a pointer.
        for (schema, wanted) in [
            (json!({"$schema": "x"}), ": Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"),
            (json!({"additionalItems": false}), ".additionalItems: Forbidden: additionalItems is not supported"),
            (json!({"$ref": ""}), ".$ref: Forbidden: $ref is not supported"),
            (
                json!({"properties": {"metadata": {"type": "object", "not": {}}}}),
                ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ),
            (
                json!({"properties": {"a": {"type": "string", "allOf": [{"default": ""}]}}}),
                ".properties[a].allOf[0].default: Forbidden: must be undefined to be structural",
            ),
        ] {
            let mut edge = spec.clone();
            edge["versions"][0]["schema"]["openAPIV3Schema"] = schema;
            edge["versions"][0]["schema"]["openAPIV3Schema"]["type"] = "object".into();
            let value = json!({"metadata": {"name": "foos.a.b"}, "spec": edge, "status": status});
            case.invalid(value, &[&format!("spec.validation.openAPIV3Schema{wanted}")]);
        }
        let mut bad = spec.clone();
        bad["versions"][0]["storage"] = false.into();
        bad["versions"][0]["schema"] = json!(null);
        bad["group"] = "ab".into();
        case.invalid(
            json!({"metadata": {"name": "foos.ab"}, "spec": bad}),
            &[
                "spec.group: Invalid value: \"ab\": should be a domain with at least one dot",
                "spec.versions[0].schema.openAPIV3Schema: Required value",
                "spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}]: must have exactly one version marked as storage version",
                "status.storedVersions: Invalid value: null: must have at least one stored version",
            ],
        );
        case.row(json!({}), json!(["x", "2023-11-14T22:13:20Z"]));
    }
}
