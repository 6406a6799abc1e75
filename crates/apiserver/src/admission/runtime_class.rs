//! RuntimeClass: what a pod's class adds to it.

use object::Status;
use serde_json::{Map, Value};

use super::{Attributes, Operation, tolerations};
use crate::api::Api;

/// The pod's class, when the request makes a pod that names one.
fn class(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
    let name = pod["spec"].get("runtimeClassName").and_then(Value::as_str);
    let Some(name) = name else { return Ok(Value::Null) };
    if let Some(why) = object::names::no_segment(name) {
        return Err(Status { code: 500, reason: None, ..Status::bad_request(why) });
    }
    let found = api.stored_value(&format!("/registry/runtimeclasses/{name}"));
    found.ok_or_else(|| at.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")))
}

fn concerns(at: &Attributes<'_>) -> bool {
    at.is("", "pods") && at.subresource.is_empty() && at.operation == Operation::Create
}

pub(super) fn admit(api: &Api, at: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !concerns(at) {
        return Ok(());
    }
    let class = class(api, at, pod)?;
    apply(&class, &mut pod["spec"]).map_err(|why| at.forbidden(&why))
}

/// A pod has no overhead but its class's.
pub(super) fn validate(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !concerns(at) {
        return Ok(());
    }
    let class = class(api, at, pod)?;
    check(&class, &pod["spec"]).map_err(|why| at.forbidden(why))
}

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn overhead(of: Option<&Value>) -> Option<&Map<String, Value>> {
    of.and_then(Value::as_object).filter(|o| !o.is_empty())
}

/// Pure: the class (null for none) and the pod's spec.
fn check(class: &Value, spec: &Value) -> Result<(), &'static str> {
    let given = overhead(spec.get("overhead"));
    let same = |fixed: &Value| match (overhead(Some(fixed)), given) {
        (Some(fixed), Some(given)) => is_same(fixed, given),
        (fixed, given) => fixed.is_none() && given.is_none(),
    };
    match class.get("overhead").filter(|o| o.is_object()) {
        Some(defined) if !same(&defined["podFixed"]) => Err(DIFFERS),
        None if spec.get("overhead").is_some_and(Value::is_object) => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        }
        _ => Ok(()),
    }
}

/// Pure: the class (null for none) and the pod's spec.
fn apply(class: &Value, spec: &mut Value) -> Result<(), String> {
    let fixed = &class["overhead"]["podFixed"];
    match (overhead(Some(fixed)), overhead(spec.get("overhead"))) {
        (Some(fixed), Some(given)) if !is_same(fixed, given) => return Err(DIFFERS.into()),
        (Some(_), _) => spec["overhead"] = fixed.clone(),
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
    let more = scheduling["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
    if !more.is_empty() {
        let own = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        spec["tolerations"] = tolerations::merge(&own, more).into();
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
        let check = |class: &Value, mut spec: Value| {
            apply(class, &mut spec).and_then(|()| check(class, &spec).map_err(str::to_owned)).map(|()| spec)
        };
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
