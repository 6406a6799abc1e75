//! `storage.k8s.io/v1 CSIDriver`.

use object::Invalid;
use serde_json::{Value, json};

use crate::age;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, list, made, remove, set, text};

pub(crate) const RULES: Rules = Rules { default, prepare_create, prepare_update, validate, row, warnings, ..NO_RULES };

fn default(driver: &mut Value) {
    let Some(spec) = made(driver, "spec") else { return };
    for (field, value) in [
        ("attachRequired", json!(true)),
        ("podInfoOnMount", json!(false)),
        ("storageCapacity", json!(false)),
        ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
        ("volumeLifecycleModes", json!(["Persistent"])),
        ("requiresRepublish", json!(false)),
        ("seLinuxMount", json!(false)),
    ] {
        set(spec, field, value);
    }
}

/// Keeps what is not yet offered out.
fn prepare_create(driver: &mut Value) {
    if let Some(spec) = child(driver, "spec") {
        remove(spec, "preventPodSchedulingIfMissing");
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    prepare_create(new);
    // Of this kind, only changes are counted.
    if new["spec"] != old["spec"] {
        new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let spec = &new["spec"];
    let was = old.is_some_and(|old| !list(&old["spec"]["tokenRequests"]).is_empty());
    match !was && !list(&spec["tokenRequests"]).is_empty() && spec["serviceAccountTokenInSecrets"].is_null() {
        true => vec!["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into()],
        false => Vec::new(),
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    spec.at("fsGroupPolicy").one_of(&["File", "None", "ReadWriteOnceWithFSType"], errors);
    let mut seen = Vec::new();
    for token in spec.list("tokenRequests") {
        let (audience, seconds) = (token.at("audience"), token.at("expirationSeconds"));
        if seen.contains(&audience.text()) {
            errors.push(Invalid::duplicate(&audience.path(), &audience.text().into()));
            continue;
        }
        seen.push(audience.text());
        if seconds.number().is_some_and(|s| s < 600) {
            seconds.fail("may not specify a duration less than 10 minutes", errors);
        }
        if seconds.number().is_some_and(|s| s > 1 << 32) {
            seconds.fail("may not specify a duration larger than 2^32 seconds", errors);
        }
    }
    let modes = spec.at("volumeLifecycleModes");
    for mode in spec.list("volumeLifecycleModes").filter(|m| !matches!(m.text(), "Persistent" | "Ephemeral")) {
        errors.push(Invalid::unsupported(&modes.path(), mode.value, &["Persistent", "Ephemeral"]));
    }
    let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
    if period.number().is_some_and(|s| s < 10) {
        period.fail("must be greater than or equal to 10 seconds", errors);
    }
    let secrets = spec.at("serviceAccountTokenInSecrets");
    if secrets.is_set() && spec.at("tokenRequests").len() == 0 {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        secrets.fail(detail, errors);
    }
    let Some(old) = old else { return };
    for (field, called) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        if new["spec"][field] != old["spec"][field] {
            errors.push(Invalid::invalid(&format!("spec.{called}"), &new["spec"][field], "field is immutable"));
        }
    }
}

fn row(driver: &Value, now: i64) -> Vec<Value> {
    let spec = &driver["spec"];
    let flag = |field: &str, none: bool| Value::from(spec[field].as_bool().unwrap_or(none));
    let joined = |items: &Value, field: Option<&str>| {
        let all: Vec<&str> = list(items).iter().map(|i| text(field.map_or(i, |f| &i[f]))).collect();
        all.join(",")
    };
    let audiences = match spec["tokenRequests"].is_array() {
        true => joined(&spec["tokenRequests"], Some("audience")),
        false => "<unset>".into(),
    };
    let modes = Some(joined(&spec["volumeLifecycleModes"], None)).filter(|m| !m.is_empty());
    vec![
        driver["metadata"]["name"].clone(),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        audiences.into(),
        flag("requiresRepublish", false),
        modes.unwrap_or("<none>".into()).into(),
        age::since(&driver["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn driver() {
        let case = Case::new("storage.k8s.io/v1", "CSIDriver");
        case.defaulted(
            json!({"spec": {"attachRequired": false}}),
            json!({"spec": {"attachRequired": false, "podInfoOnMount": false, "storageCapacity": false,
                "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"], "requiresRepublish": false,
                "seLinuxMount": false}}),
        );
        case.row(
            json!({"spec": {"attachRequired": true, "tokenRequests": [{"audience": "a"}, {"audience": "b"}]}}),
            json!(["x", true, false, false, "a,b", false, "<none>", "10s"]),
        );
    }
}
