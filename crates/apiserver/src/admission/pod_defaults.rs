//! Priority and DefaultTolerationSeconds.

use object::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::Api;

/// Seconds for which a pod stays on a node that is not ready or not reachable.
const TOLERATION_SECONDS: i64 = 300;

pub(super) fn admit(api: &Api, pod: &mut Value) -> Result<(), Status> {
    priority(api, pod)?;
    tolerations(&mut pod["spec"]);
    Ok(())
}

/// What of a PriorityClass says whether it is for pods that name none.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClassView {
    global_default: bool,
}

fn priority(api: &Api, pod: &mut Value) -> Result<(), Status> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let spec = &mut pod["spec"];
    let class = match spec.get("priorityClassName").and_then(Value::as_str).filter(|n| !n.is_empty()) {
        Some(name) => {
            let found = api.store.get(&format!("/registry/priorityclasses/{name}"));
            let why = format!("no PriorityClass with name {name} was found");
            Some(found.ok_or_else(|| Status::forbidden("", "pods", &pod_name, &why))?.object)
        }
        None => {
            let all =
                api.store.range("/registry/priorityclasses/", None, 0, 0).map_err(|e| crate::api::store_status(&e))?;
            all.items.into_iter().map(|v| v.object).find(|o| o.view::<ClassView>().is_ok_and(|c| c.global_default))
        }
    };
    let class = class.map(|c| c.value()).transpose().map_err(Status::internal)?;
    let computed = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    if spec.get("priority").and_then(Value::as_i64).is_some_and(|p| p != computed) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name",
            spec["priority"]
        );
        return Err(Status::forbidden("", "pods", &pod_name, &why));
    }
    spec["priority"] = computed.into();
    if let Some(class) = &class {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
    }
    let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
    if spec.get("preemptionPolicy").is_none() {
        spec["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

/// Also when a pod is updated: its tolerations may have been replaced.
pub(super) fn tolerations(spec: &mut Value) {
    let mut all = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = all.iter().any(|t| {
            (t["key"] == key || t["key"].as_str().is_none_or(str::is_empty))
                && (t["effect"] == "NoExecute" || t["effect"].as_str().is_none_or(str::is_empty))
        });
        if !tolerated {
            all.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}));
        }
    }
    spec["tolerations"] = all.into();
}
