//! RuntimeClass: what a pod's class adds to it.

use object::Status;
use serde_json::{Map, Value};

use crate::api::Api;

pub(super) fn admit(api: &Api, pod: &mut Value) -> Result<(), Status> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let rejected = |why: String| Status::forbidden("", "pods", &pod_name, &why);
    let name = pod["spec"].get("runtimeClassName").and_then(Value::as_str).filter(|n| !n.is_empty());
    let class = match name {
        None => Value::Null,
        Some(name) => {
            let found = api.store.get(&format!("/registry/runtimeclasses/{name}"));
            let found = found.ok_or_else(|| rejected(format!("pod rejected: RuntimeClass {name:?} not found")))?;
            found.object.value().map_err(Status::internal)?
        }
    };
    apply(&class, &mut pod["spec"]).map_err(rejected)
}

/// Pure: the class (null for none) and the pod's spec.
fn apply(class: &Value, spec: &mut Value) -> Result<(), String> {
    let fixed = &class["overhead"]["podFixed"];
    let given = spec.get("overhead").and_then(Value::as_object).filter(|o| !o.is_empty());
    match (fixed.as_object().filter(|o| !o.is_empty()), given) {
        (None, Some(_)) => {
            return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into());
        }
        (Some(fixed), Some(given)) if !is_same(fixed, given) => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
        }
        (Some(_), None) => spec["overhead"] = fixed.clone(),
        _ => {}
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        if !spec.get("nodeSelector").is_some_and(Value::is_object) {
            spec["nodeSelector"] = Value::Object(Map::new());
        }
        let present = &spec["nodeSelector"][key.as_str()];
        if !present.is_null() && present != value {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(present)
            ));
        }
        spec["nodeSelector"][key.as_str()] = value.clone();
    }
    let mut tolerations = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = tolerations.len();
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if tolerations.len() > before {
        spec["tolerations"] = tolerations.into();
    }
    Ok(())
}

fn is_same(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let amount = |v: &Value| v.as_str().and_then(object::Quantity::parse);
    one.len() == other.len()
        && one
            .iter()
            .all(|(key, value)| other.get(key).is_some_and(|o| amount(o).is_some() && amount(o) == amount(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_add_overhead_and_where_to() {
        let class = json!({"handler": "h", "overhead": {"podFixed": {"memory": "1Gi"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "x", "operator": "Exists"}]}});
        let check = |class: &Value, mut spec: Value| apply(class, &mut spec).map(|()| spec);
        assert_eq!(
            check(&class, json!({})).unwrap(),
            json!({"overhead": {"memory": "1Gi"}, "nodeSelector": {"a": "b"}, "tolerations": [{"key": "x", "operator": "Exists"}]})
        );
        assert!(check(&class, json!({"overhead": {"memory": "1024Mi"}})).is_ok());
        assert!(check(&class, json!({"overhead": {"memory": "2Gi"}})).unwrap_err().contains("doesn't match"));
        assert!(check(&class, json!({"nodeSelector": {"a": "c"}})).unwrap_err().starts_with("conflict: "));
        assert!(check(&Value::Null, json!({"overhead": {"cpu": "1"}})).unwrap_err().contains("without"));
        assert_eq!(check(&Value::Null, json!({})).unwrap(), json!({}));
    }
}
