//! Checks of `metadata`, the same for every kind (apimachinery's `ValidateObjectMeta` and its update twin).

use object::Invalid;
use serde_json::Value;

use crate::kind::Kind;
use crate::names;

/// All annotations together.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// Adds the field errors of `new`'s metadata; `old` is there for an update. As upstream, whose machinery looks at an update's metadata
/// twice before the kind's own rules do, once or twice more: what is wrong is told each time.
pub fn validate_metadata(kind: &Kind, new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let metadata = &new["metadata"];
    let Some(old) = old else { return whole(kind, metadata, kind.rules.name, kind.custom.is_none(), errors) };
    let old = &old["metadata"];
    whole(kind, metadata, names::path_segment, false, errors);
    update(metadata, old, errors);
    let (again, fully) = own_rounds(kind);
    if again {
        update(metadata, old, errors);
    }
    if matches!(kind.kind.as_str(), "Pod" | "PersistentVolumeClaim" | "VolumeAttributesClass") && kind.custom.is_none()
    {
        standard_finalizers(metadata, errors);
    }
    // Volumes are looked at twice.
    for _ in 0..usize::from(fully) + usize::from(kind.kind == "PersistentVolume") {
        whole(kind, metadata, kind.rules.name, true, errors);
    }
}

/// Whether a kind's own rules look at what an update does to metadata, and at metadata as if it were new.
fn own_rounds(kind: &Kind) -> (bool, bool) {
    if kind.custom.is_some() {
        return (true, false);
    }
    match kind.kind.as_str() {
        "PodDisruptionBudget" => (false, false),
        "Event" => (!kind.group.is_empty(), false),
        "PersistentVolume"
        | "CSINode"
        | "VolumeAttachment"
        | "EndpointSlice"
        | "LimitRange"
        | "FlowSchema"
        | "PriorityLevelConfiguration"
        | "ValidatingWebhookConfiguration"
        | "MutatingWebhookConfiguration"
        | "ValidatingAdmissionPolicy"
        | "ValidatingAdmissionPolicyBinding"
        | "MutatingAdmissionPolicy"
        | "MutatingAdmissionPolicyBinding" => (false, true),
        "Pod"
        | "ControllerRevision"
        | "Job"
        | "ConfigMap"
        | "Secret"
        | "PersistentVolumeClaim"
        | "StorageClass"
        | "CSIStorageCapacity"
        | "VolumeAttributesClass"
        | "Ingress"
        | "IngressClass"
        | "IPAddress"
        | "Endpoints"
        | "Namespace"
        | "Node"
        | "ServiceAccount"
        | "RuntimeClass"
        | "Role"
        | "RoleBinding"
        | "ClusterRole"
        | "ClusterRoleBinding"
        | "CertificateSigningRequest"
        | "APIService"
        | "ResourceClaim"
        | "ResourceClaimTemplate"
        | "DeviceClass" => (true, true),
        _ => (true, false),
    }
}

/// Metadata as such. `standard`: finalizers without a domain are upstream's own.
fn whole(kind: &Kind, metadata: &Value, rule: names::Rule, standard: bool, errors: &mut Vec<Invalid>) {
    let name = metadata["name"].as_str().unwrap_or("");
    if let Some(generate) = metadata["generateName"].as_str().filter(|g| !g.is_empty()) {
        // What follows is at least five characters; a final dash or dot is fine.
        let stem = generate.trim_end_matches(['-', '.']);
        for why in rule(if stem.is_empty() { generate } else { stem }) {
            errors.push(Invalid::invalid("metadata.generateName", &metadata["generateName"], why));
        }
    }
    if name.is_empty() {
        errors.push(Invalid::required("metadata.name", "name or generateName is required"));
    } else {
        // Every name must fit into a path; most rules see to that.
        let mut problems = rule(name);
        if problems.is_empty() {
            problems = names::path_segment(name);
        }
        problems.into_iter().for_each(|why| errors.push(Invalid::invalid("metadata.name", &metadata["name"], why)));
    }
    let namespace = metadata["namespace"].as_str().unwrap_or("");
    match (kind.namespaced(), namespace.is_empty()) {
        (true, true) => errors.push(Invalid::required("metadata.namespace", "")),
        (true, false) => {
            for why in names::label(namespace) {
                errors.push(Invalid::invalid("metadata.namespace", &metadata["namespace"], why));
            }
        }
        (false, false) => errors.push(Invalid::forbidden("metadata.namespace", "not allowed on this type")),
        (false, true) => {}
    }
    marks(metadata, errors);
    let finalizers = metadata["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    for finalizer in finalizers {
        // Upstream does not say which one.
        names_finalizer(finalizer, "metadata.finalizers", errors);
    }
    if ["orphan", "foregroundDeletion"].iter().all(|both| finalizers.iter().any(|f| f == both)) {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Invalid::invalid("metadata.finalizers", &metadata["finalizers"], detail));
    }
    if standard {
        standard_finalizers(metadata, errors);
    }
}

/// Finalizers without a domain are upstream's own.
fn standard_finalizers(metadata: &Value, errors: &mut Vec<Invalid>) {
    for (index, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        validate_standard_finalizer(finalizer, &format!("metadata.finalizers[{index}]"), errors);
    }
}

/// What is attached to an object: labels, annotations, owners.
fn marks(metadata: &Value, errors: &mut Vec<Invalid>) {
    labels(&metadata["labels"], "metadata.labels", errors);
    annotations(&metadata["annotations"], "metadata.annotations", errors);
    owners(&metadata["ownerReferences"], errors);
}

/// What an update does to metadata.
fn update(metadata: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    unchanged(metadata, old, errors);
    marks(metadata, errors);
}

fn names_finalizer(finalizer: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let name = finalizer.as_str().unwrap_or("");
    names::qualified(name).into_iter().for_each(|why| errors.push(Invalid::invalid(path, finalizer, why)));
}

/// Checks the name of a finalizer.
pub(crate) fn validate_finalizer(finalizer: &Value, path: &str, errors: &mut Vec<Invalid>) {
    names_finalizer(finalizer, path, errors);
    validate_standard_finalizer(finalizer, path, errors);
}

/// A finalizer without a domain is one of upstream's own.
pub(crate) fn validate_standard_finalizer(finalizer: &Value, path: &str, errors: &mut Vec<Invalid>) {
    if !is_finalizer(finalizer.as_str().unwrap_or("")) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Invalid::invalid(path, finalizer, why));
    }
}

/// Finalizers say whose they are, but for upstream's own of old.
fn is_finalizer(name: &str) -> bool {
    name.contains('/') || matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// What clients are told about finalizers of a custom resource that are new to it.
pub(crate) fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let of = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let known = old.map(of).unwrap_or_default();
    let told = |(index, name): (usize, Value)| {
        let name = name.as_str().filter(|name| !is_finalizer(name) && !known.iter().any(|k| k == name))?;
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        Some(format!(
            "metadata.finalizers[{index}]: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        ))
    };
    of(new).into_iter().enumerate().filter_map(told).collect()
}

/// What is wrong with labels and annotations.
pub fn validate_tags(metadata: &Value) -> Vec<Invalid> {
    let mut errors = Vec::new();
    labels(&metadata["labels"], "metadata.labels", &mut errors);
    annotations(&metadata["annotations"], "metadata.annotations", &mut errors);
    errors
}

/// Checks a label map at `path`.
pub(crate) fn labels(labels: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for why in names::qualified(key) {
            errors.push(Invalid::invalid(path, &key.as_str().into(), why));
        }
        for why in names::label_value(value.as_str().unwrap_or("")) {
            errors.push(Invalid::invalid(path, value, why));
        }
    }
}

/// Checks an annotation map at `path`.
pub(crate) fn annotations(annotations: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        // Upstream checks annotation keys in lower case.
        for why in names::qualified(&key.to_lowercase()) {
            errors.push(Invalid::invalid(path, &key.as_str().into(), why));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MOST_ANNOTATION_BYTES {
        errors.push(Invalid::too_long(path, MOST_ANNOTATION_BYTES));
    }
}

fn owners(owners: &Value, errors: &mut Vec<Invalid>) {
    // Upstream names the list, not the place in it.
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let text = |field: &str| owner[field].as_str().unwrap_or("");
        for field in ["apiVersion", "kind", "name", "uid"] {
            let versionless = field == "apiVersion" && text(field).matches('/').count() > 1;
            if text(field).is_empty() || versionless {
                let detail = if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                errors.push(Invalid::invalid(&format!("{PATH}.{field}"), &text(field).into(), detail));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            errors.push(Invalid::invalid(PATH, owner, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(Invalid::invalid(PATH, owners, detail));
                }
            }
        }
    }
}

fn unchanged(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    if old["deletionTimestamp"].is_string() {
        let had = |f: &Value| old["finalizers"].as_array().is_some_and(|o| o.contains(f));
        let added: Vec<&str> =
            new["finalizers"].as_array().into_iter().flatten().filter(|f| !had(f)).filter_map(Value::as_str).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(Invalid::forbidden("metadata.finalizers", detail));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new[field] != old[field] {
            errors.push(Invalid::invalid(&format!("metadata.{field}"), &new[field], "field is immutable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(metadata: Value, old: Option<Value>, wanted: &[&str]) {
        let kind = crate::table().by_gvk(&object::Gvk::new("", "v1", "ConfigMap")).unwrap();
        let mut errors = Vec::new();
        let whole = |metadata: Value| json!({"metadata": metadata});
        validate_metadata(kind, &whole(metadata), old.map(whole).as_ref(), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn metadata() {
        check(json!({"name": "a", "namespace": "n"}), None, &[]);
        check(
            json!({"namespace": "n", "labels": {"a": "b c"}}),
            None,
            &[
                "metadata.name: Required value: name or generateName is required",
                &format!("metadata.labels: Invalid value: \"b c\": {}", names::label_value("b c").join("")),
            ],
        );
        check(
            json!({"name": "a", "namespace": "n", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "controller": true, "uid": "1"},
                {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": ""}]}),
            None,
            &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
        );
        check(
            json!({"name": "a", "namespace": "n", "uid": "1"}),
            Some(json!({"name": "a", "namespace": "n", "uid": "2"})),
            &["metadata.uid: Invalid value: \"1\": field is immutable"; 2],
        );
    }

    #[test]
    fn two_owners_cannot_both_control() {
        let owner =
            |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "1", "controller": true});
        let mut errors = Vec::new();
        owners(&json!([owner("a"), owner("b")]), &mut errors);
        assert!(errors[0].to_string().ends_with("references for Pod/a and Pod/b"), "{errors:?}");
    }
}
