//! `storage.k8s.io/v1 StorageClass`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{set, text};
use crate::{age, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(class: &mut Value) {
    set(class, "reclaimPolicy", "Delete");
    set(class, "volumeBindingMode", "Immediate");
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    if old.is_none() {
        checks::required(new, "", "provisioner", errors);
        let provisioner = text(&new["provisioner"]).to_lowercase();
        if let Some(why) = (!provisioner.is_empty()).then(|| names::qualified(&provisioner)).flatten() {
            errors.push(Invalid::invalid("provisioner", &provisioner.into(), why));
        }
        checks::one_of(new, "", "reclaimPolicy", &["Delete", "Retain"], errors);
        checks::one_of(new, "", "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], errors);
    }
    let parameters = new["parameters"] != Value::Null || old.is_some_and(|o| o["parameters"] != Value::Null);
    if parameters && old.is_some_and(|o| o["parameters"] != new["parameters"]) {
        errors.push(Invalid::invalid("parameters", &new["parameters"], "field is immutable"));
    }
    checks::immutable(new, old, &["provisioner", "reclaimPolicy", "volumeBindingMode"], errors);
}

fn row(class: &Value, now: i64) -> Vec<Value> {
    let annotations = &class["metadata"]["annotations"];
    let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let mark = if marks.iter().any(|m| annotations[*m] == "true") { " (default)" } else { "" };
    let or = |field: &str, none: &str| Value::from(class[field].as_str().unwrap_or(none));
    vec![
        format!("{}{mark}", text(&class["metadata"]["name"])).into(),
        or("provisioner", ""),
        or("reclaimPolicy", "Delete"),
        or("volumeBindingMode", "Immediate"),
        (class["allowVolumeExpansion"] == true).into(),
        age::since(&class["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn class() {
        let case = Case::new("storage.k8s.io/v1", "StorageClass");
        case.defaulted(
            json!({"provisioner": "a/b"}),
            json!({"provisioner": "a/b", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        );
        case.invalid(json!({}), &["provisioner: Required value"]);
        case.update(
            json!({"provisioner": "a"}),
            json!({"provisioner": "b"}),
            &["provisioner: Invalid value: \"b\": field is immutable"],
        );
        case.row(
            json!({"provisioner": "a", "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
            json!(["x (default)", "a", "Delete", "Immediate", false, "10s"]),
        );
    }
}
