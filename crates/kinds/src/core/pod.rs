//! `v1/Pod`: the unit that runs.

mod row;

use object::Invalid;
use serde_json::{Value, json};

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules, keep};

pub(crate) const RULES: Rules = Rules {
    default: |pod| podspec::default(&mut pod["spec"]),
    prepare_create,
    prepare_update,
    prepare_status,
    validate,
    row: row::row,
    grace: |pod| Some(pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)),
    ..NO_RULES
};

fn prepare_create(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": qos(&pod["spec"])});
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

fn prepare_status(new: &mut Value, old: &Value) {
    // What the scheduler may set along the way is metadata and status; the spec stays.
    keep(new, old, "spec");
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"] {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
}

/// The quality-of-service class (`Guaranteed`, `Burstable`, `BestEffort`) of a pod spec.
pub(crate) fn qos(spec: &Value) -> &'static str {
    let containers = ["containers", "initContainers"];
    let all: Vec<&Value> = containers.iter().flat_map(|c| spec[*c].as_array().into_iter().flatten()).collect();
    let amount = |c: &Value, kind: &str, resource: &str| {
        let text = c["resources"][kind][resource].as_str()?.to_owned();
        object::Quantity::parse(&text).filter(|q| !q.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in &all {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (amount(container, "requests", resource), amount(container, "limits", resource));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    podspec::validate(&new["spec"], "spec", errors);
    let Some(old) = old else { return };
    // What may change in a pod that exists; compare with these evened out.
    let mut evened = new["spec"].clone();
    for list in ["containers", "initContainers"] {
        let count = old["spec"][list].as_array().map_or(0, Vec::len);
        if new["spec"][list].as_array().map_or(0, Vec::len) != count {
            errors.push(Invalid::forbidden(&format!("spec.{list}"), "pod updates may not add or remove containers"));
            return;
        }
        for index in 0..count {
            let image = &new["spec"][list][index]["image"];
            if image.as_str().is_none_or(str::is_empty) {
                errors.push(Invalid::required(&format!("spec.{list}[{index}].image"), ""));
            }
            evened[list][index]["image"] = old["spec"][list][index]["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "terminationGracePeriodSeconds"] {
        keep(&mut evened, &old["spec"], field);
    }
    let tolerations = |spec: &Value| spec["tolerations"].as_array().cloned().unwrap_or_default();
    if tolerations(&old["spec"]).iter().all(|t| tolerations(&new["spec"]).contains(t)) {
        keep(&mut evened, &old["spec"], "tolerations");
    }
    if old["spec"]["schedulingGates"].is_array() {
        keep(&mut evened, &old["spec"], "schedulingGates");
        keep(&mut evened, &old["spec"], "nodeSelector");
    }
    if evened != old["spec"] {
        errors.push(Invalid::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service() {
        let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
        assert_eq!(qos(&spec(json!({}))), "BestEffort");
        assert_eq!(
            qos(&spec(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}))),
            "Guaranteed"
        );
        assert_eq!(qos(&spec(json!({"requests": {"cpu": "1"}}))), "Burstable");
    }

    #[test]
    fn only_images_change() {
        let pod = |image: &str, command: &str| {
            json!({"spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "containers": [{"name": "a", "image": image, "command": [command], "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]}})
        };
        let errors = |new: &Value| {
            let mut errors = Vec::new();
            validate(new, Some(&pod("x", "run")), &mut errors);
            errors.len()
        };
        assert_eq!(errors(&pod("y", "run")), 0);
        assert_eq!(errors(&pod("x", "walk")), 1);
    }
}
