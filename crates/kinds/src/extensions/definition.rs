//! `apiextensions.k8s.io/v1 CustomResourceDefinition`.

mod parts;
mod structure;

use object::Invalid;
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, list, made, set, text};
use crate::{checks, names};

pub(crate) const RULES: Rules = Rules { default, prepare_update, validate, ..NO_RULES };

fn default(definition: &mut Value) {
    let stored = list(&definition["spec"]["versions"]).iter().find(|v| v["storage"] == true).map(|v| v["name"].clone());
    if let Some(spec) = child(definition, "spec") {
        if let Some(own) = child(spec, "names") {
            let kind = text(&own["kind"]).to_owned();
            if !kind.is_empty() {
                set(own, "singular", kind.to_lowercase());
                set(own, "listKind", format!("{kind}List"));
            }
        }
        if let Some(conversion) = made(spec, "conversion") {
            set(conversion, "strategy", "None");
            if let Some(service) = child(conversion, "webhook.clientConfig.service") {
                set(service, "port", 443);
            }
        }
    }
    if let Some(stored) = stored
        && let Some(status) = made(definition, "status")
        && list(&status["storedVersions"]).is_empty()
    {
        status["storedVersions"] = json!([stored]);
    }
}

/// The version that objects are stored in from now on joins those that they may be stored in.
fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    let stored = list(&new["spec"]["versions"]).iter().find(|v| v["storage"] == true).map(|v| v["name"].clone());
    if let Some(stored) = stored
        && let Some(status) = made(new, "status")
    {
        let mut all = list(&status["storedVersions"]).to_vec();
        if !all.contains(&stored) {
            all.push(stored);
        }
        status["storedVersions"] = all.into();
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let wanted = format!("{plural}.{group}");
    if text(&new["metadata"]["name"]) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Invalid::invalid("metadata.name", &new["metadata"]["name"], detail));
    }
    checks::required(spec, "spec", "group", errors);
    checks::named(spec, "spec", "group", names::subdomain, errors);
    if !group.is_empty() && !group.contains('.') {
        errors.push(Invalid::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    match text(&spec["scope"]) {
        "" => errors.push(Invalid::required("spec.scope", "")),
        _ => checks::one_of(spec, "spec", "scope", &["Cluster", "Namespaced"], errors),
    }
    let olds = old.map_or(&[][..], |old| list(&old["spec"]["versions"]));
    validate_versions(list(&spec["versions"]), olds, errors);
    validate_names(&spec["names"], errors);
    parts::conversion(spec, errors);
    if spec["preserveUnknownFields"] == true {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Invalid::invalid("spec.preserveUnknownFields", &true.into(), detail));
    }
    let established = old.is_some_and(|old| {
        let conditions = list(&old["status"]["conditions"]);
        conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    });
    checks::immutable(new, old, &["spec.group", "spec.names.plural"], errors);
    if established {
        checks::immutable(new, old, &["spec.scope", "spec.names.kind"], errors);
    }
}

fn validate_versions(versions: &[Value], olds: &[Value], errors: &mut Vec<Invalid>) {
    let mut seen = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(&version["name"]);
        if let Some(why) = names::label_1035(name) {
            errors.push(Invalid::invalid(&format!("{path}.name"), &name.into(), why));
        }
        if seen.contains(&name) {
            let detail = "must contain unique version names";
            errors.push(Invalid::invalid("spec.versions", &name.into(), detail));
        }
        seen.push(name);
        let schema = &version["schema"]["openAPIV3Schema"];
        // What was accepted once is not looked at again.
        let known = olds.iter().any(|old| old["schema"]["openAPIV3Schema"] == *schema);
        match schema.is_object() {
            false => errors.push(Invalid::required(&format!("{path}.schema.openAPIV3Schema"), "schemas are required")),
            true if known => {}
            true => match common(versions, "schema") {
                // As upstream: what all versions say is said once, of all of them.
                true if index > 0 => {}
                true => structure::validate(schema, "spec.validation.openAPIV3Schema", errors),
                false => structure::validate(schema, &format!("{path}.schema.openAPIV3Schema"), errors),
            },
        }
        for part in ["additionalPrinterColumns", "subresources", "selectableFields"] {
            match common(versions, part) {
                true if index > 0 => {}
                true => parts::validate(version, part, "spec", errors),
                false => parts::validate(version, part, &path, errors),
            }
        }
        parts::deprecation(version, &path, errors);
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(Invalid::invalid("spec.versions", &versions.into(), detail));
    }
}

/// True when all versions have the same of this.
fn common(versions: &[Value], part: &str) -> bool {
    versions.iter().all(|version| version[part] == versions[0][part])
}

fn validate_names(own: &Value, errors: &mut Vec<Invalid>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(&own[field]);
        if name.is_empty() {
            if field != "singular" {
                errors.push(Invalid::required(&format!("spec.names.{field}"), ""));
            }
            continue;
        }
        let label = if field.ends_with("ind") { name.to_lowercase() } else { name.to_owned() };
        if let Some(why) = names::label_1035(&label) {
            let why = if field.ends_with("ind") {
                format!("may have mixed case, but should otherwise match: {why}")
            } else {
                why
            };
            errors.push(Invalid::invalid(&format!("spec.names.{field}"), &name.into(), why));
        }
    }
    for (index, name) in list(&own["shortNames"]).iter().enumerate() {
        if let Some(why) = names::label_1035(text(name)) {
            errors.push(Invalid::invalid(&format!("spec.names.shortNames[{index}]"), name, why));
        }
    }
    if text(&own["kind"]) == text(&own["listKind"]) && !text(&own["kind"]).is_empty() {
        let detail = "kind and listKind may not be the same";
        errors.push(Invalid::invalid("spec.names.listKind", &own["listKind"], detail));
    }
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
        case.invalid(json!({"metadata": {"name": "foos.a.b"}, "spec": spec}), &[]);
        let mut bad = spec.clone();
        bad["versions"][0]["storage"] = false.into();
        bad["versions"][0]["schema"] = json!(null);
        bad["group"] = "ab".into();
        case.invalid(
            json!({"metadata": {"name": "foos.ab"}, "spec": bad}),
            &[
                "spec.group: Invalid value: \"ab\": should be a domain with at least one dot",
                "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
                "spec.versions: Invalid value: [{\"name\":\"v1\",\"schema\":null,\"served\":true,\"storage\":false}]: must have exactly one version marked as storage version",
            ],
        );
        case.row(json!({}), json!(["x", "2023-11-14T22:13:20Z"]));
    }
}
