//! `storage.k8s.io/v1 CSIDriver`.

use serde_json::{Value, json};

use crate::age;
use crate::kind::{NO_RULES, Rules};
use crate::tree::{list, made, set, text};

pub(crate) const RULES: Rules = Rules { default, row, ..NO_RULES };

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
