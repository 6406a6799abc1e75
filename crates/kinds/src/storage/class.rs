//! `storage.k8s.io/v1 StorageClass`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{set, text};
use crate::{age, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(class: &mut Value) {
    set(class, "reclaimPolicy", "Delete");
    set(class, "volumeBindingMode", "Immediate");
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let class = Spot::new(new, "");
    validate_whole(&class, errors);
    checks::immutable(new, old, &["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"], errors);
}

fn validate_whole(class: &Spot, errors: &mut Errors) {
    super::provisioner(&class.at("provisioner"), errors);
    super::parameters(class, errors);
    if !class.at("reclaimPolicy").text().is_empty() {
        class.at("reclaimPolicy").one_of(&["Delete", "Retain"], errors);
    }
    class.at("volumeBindingMode").exactly_one_of(&["Immediate", "WaitForFirstConsumer"], errors);
    // As upstream: terms that select nothing are there already, one for each.
    let mut seen: Vec<std::collections::BTreeMap<&str, std::collections::BTreeSet<&str>>> =
        vec![Default::default(); class.at("allowedTopologies").len()];
    for term in class.list("allowedTopologies") {
        let mut keys = std::collections::BTreeMap::new();
        for rule in term.list("matchLabelExpressions") {
            let (key, mut values) = (rule.at("key"), std::collections::BTreeSet::new());
            rule.at("values").require(errors);
            for value in rule.list("values") {
                if !values.insert(value.text()) {
                    value.duplicate(errors);
                }
            }
            key.obey(names::qualified, errors);
            if keys.contains_key(key.text()) {
                key.duplicate(errors);
            }
            keys.insert(key.text(), values);
        }
        for _ in seen.iter().filter(|other| **other == keys) {
            errors.push(Invalid::duplicate(&term.at("matchLabelExpressions").path(), &"".into()));
        }
        seen.push(keys);
    }
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
