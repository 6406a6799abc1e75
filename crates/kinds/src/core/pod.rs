//! `v1/Pod`: the unit that runs.

pub mod parts;
mod row;
mod status;

use object::Invalid;
use serde_json::{Value, json};

use crate::core::podspec;
use crate::diff::diff;
use crate::kind::{NO_RULES, Rules, keep};
use crate::spot::Spot;
use crate::tree::{child, each, entries, list, text};

pub(crate) const RULES: Rules = Rules {
    default: |pod| {
        if let Some(spec) = child(pod, "spec") {
            podspec::default_pod(spec);
        }
        one_address(pod);
    },
    prepare_create,
    prepare_update,
    prepare_status,
    validate,
    validate_status: status::validate,
    row: row::row,
    warnings,
    grace: |pod| Some(pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)),
    ..NO_RULES
};

/// The pod's address is the first of its addresses; who writes another one means it.
fn one_address(pod: &mut Value) {
    let Some(status) = child(pod, "status") else { return };
    let first = text(&status["podIPs"][0]["ip"]).to_owned();
    match text(&status["podIP"]) {
        "" if !first.is_empty() => status["podIP"] = first.into(),
        one if !one.is_empty() && one != first => status["podIPs"] = json!([{"ip": one}]),
        _ => {}
    }
}

fn prepare_create(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": qos(&pod["spec"])});
    if !list(&pod["spec"]["schedulingGates"]).is_empty() {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastTransitionTime": pod["metadata"]["creationTimestamp"], "lastProbeTime": null}]);
    }
    let labels = pod["metadata"]["labels"].clone();
    if let Some(spec) = child(pod, "spec") {
        podspec::drop_disabled(spec);
        merge_label_keys(spec, &labels);
    }
}

/// Keys of the pod's own labels become part of the selectors that name them, with the values that the pod has.
fn merge_label_keys(spec: &mut Value, labels: &Value) {
    let merge = |term: &mut Value| {
        if !term["labelSelector"].is_object() {
            return;
        }
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let mut seen = Vec::new();
            for key in list(&term[field]).to_vec() {
                let Some(value) = labels.get(text(&key)) else { continue };
                let rule = json!({"key": key, "operator": operator, "values": [value]});
                let selector = &mut term["labelSelector"];
                let mut rules = list(&selector["matchExpressions"]).to_vec();
                // The rules are merged once for each key, however often this runs.
                let count = |list: &[Value], item: &Value| list.iter().filter(|i| *i == item).count();
                seen.push(key.clone());
                if count(&rules, &rule) < count(&seen, &key) {
                    rules.push(rule);
                    selector["matchExpressions"] = rules.into();
                }
            }
        }
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = child(spec, "affinity").and_then(|a| child(a, kind)) else { continue };
        each(pods, "requiredDuringSchedulingIgnoredDuringExecution", merge);
        each(pods, "preferredDuringSchedulingIgnoredDuringExecution", |preferred| {
            child(preferred, "podAffinityTerm").map(merge);
        });
    }
    each(spec, "topologySpreadConstraints", merge);
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    if let Some(spec) = child(new, "spec") {
        podspec::drop_disabled(spec);
        if entries(&spec["overhead"]).next().is_none() {
            crate::tree::remove(spec, "overhead");
        }
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut found: Vec<String> =
        podspec::warnings::host_name(&new["metadata"]["name"], "the Pod's hostname").into_iter().collect();
    found.extend(podspec::warnings::warnings(new, ""));
    found
}

fn prepare_status(new: &mut Value, old: &Value) {
    // What the scheduler may set along the way is metadata and status; the spec stays.
    keep(new, old, "spec");
    if text(&new["status"]["qosClass"]).is_empty() {
        if !new["status"].is_object() {
            new["status"] = json!({});
        }
        keep(&mut new["status"], &old["status"], "qosClass");
    }
    for field in ["deletionTimestamp", "ownerReferences"] {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
}

/// The quality-of-service class (`Guaranteed`, `Burstable`, `BestEffort`) of a pod spec.
pub fn qos(spec: &Value) -> &'static str {
    let containers = ["containers", "initContainers"];
    // What a pod asks for as a whole counts, where it does.
    let all: Vec<&Value> = match spec["resources"].is_object() {
        true => vec![spec],
        false => containers.iter().flat_map(|c| spec[*c].as_array().into_iter().flatten()).collect(),
    };
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

/// Adds what is wrong with a pod, be it new or not.
fn validate_whole(new: &Value, errors: &mut Vec<Invalid>) {
    let whole = Spot::new(new, "");
    podspec::validate(&whole.at("spec"), &new["metadata"], errors);
    podspec::validate_of_pod(&whole.at("spec"), errors);
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_whole(new, errors);
    let spec = Spot::new(&new["spec"], "spec");
    if old.is_none() && spec.at("ephemeralContainers").len() > 0 {
        spec.at("ephemeralContainers").forbid("cannot be set on create", errors);
    }
    if old.is_none() && spec.at("schedulingGates").len() > 0 && !spec.at("nodeName").text().is_empty() {
        spec.at("nodeName").forbid("cannot be set until all schedulingGates have been cleared", errors);
    }
    if let Some(old) = old {
        validate_update(&new["spec"], &old["spec"], errors);
    }
}

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What may change in a pod that exists; what is left is compared with these evened out.
fn validate_update(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    let mut evened = new.clone();
    for containers in ["containers", "initContainers"] {
        let count = list(&old[containers]).len();
        if list(&new[containers]).len() != count {
            let detail = "pod updates may not add or remove containers";
            errors.push(Invalid::forbidden(&format!("spec.{containers}"), detail));
            return;
        }
        // As upstream, which looks at what may change once more.
        for container in Spot::new(new, "spec").list(containers) {
            container.at("image").require(errors);
            podspec::trimmed(&container, errors);
        }
        for index in 0..count {
            keep(&mut evened[containers][index], &old[containers][index], "image");
        }
    }
    if !deadline(new, old, errors) {
        return;
    }
    let spec = Spot::new(new, "spec");
    // For how long a taint is tolerated may change.
    let same = |one: &Value, other: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|f| text(&one[*f]) == text(&other[*f]))
    };
    let kept = list(&old["tolerations"]).iter().all(|t| list(&new["tolerations"]).iter().any(|n| same(t, n)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Invalid::forbidden("spec.tolerations", detail));
    } else if new["tolerations"] != old["tolerations"] {
        podspec::tolerations(&spec, errors);
    }
    for gate in list(&new["schedulingGates"]).iter().filter(|g| !list(&old["schedulingGates"]).contains(g)) {
        let place = list(&new["schedulingGates"]).iter().position(|g| g == gate).unwrap_or(0);
        let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", text(&gate["name"]));
        errors.push(Invalid::forbidden(&format!("spec.schedulingGates[{place}].name"), detail));
    }
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) && new["terminationGracePeriodSeconds"] == 1
    {
        keep(&mut evened, old, "terminationGracePeriodSeconds");
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&mut evened, old, field);
    }
    if !list(&old["schedulingGates"]).is_empty() {
        // A pod that waits may be narrowed.
        for (key, value) in entries(&old["nodeSelector"]) {
            if new["nodeSelector"][key] != *value {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.push(Invalid::invalid("spec.nodeSelector", &new["nodeSelector"], detail));
                break;
            }
        }
        keep(&mut evened, old, "nodeSelector");
        if evened["affinity"].is_object() && old["affinity"]["nodeAffinity"].is_null() {
            let only = evened["affinity"].as_object().is_some_and(|a| a.len() == 1);
            match old["affinity"].is_null() && only {
                true => keep(&mut evened, old, "affinity"),
                false => keep(&mut evened["affinity"], &old["affinity"], "nodeAffinity"),
            }
        }
    }
    if evened != *old {
        let changes = diff("io.k8s.api.core.v1.PodSpec", old, &evened);
        errors.push(Invalid::forbidden("spec", format!("{FIXED}\n{changes}")));
    }
}

/// A deadline may come, and come nearer. False when nothing else need be looked at.
fn deadline(new: &Value, old: &Value, errors: &mut Vec<Invalid>) -> bool {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let value = &new["activeDeadlineSeconds"];
    match (value.as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            errors.push(Invalid::invalid(FIELD, value, "must be between 0 and 2147483647, inclusive"));
            false
        }
        (Some(now), Some(before)) if before < now => {
            errors.push(Invalid::invalid(FIELD, value, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(Invalid::invalid(FIELD, value, detail));
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

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

    #[test]
    fn what_may_change_is_narrow() {
        let case = Case::new("v1", "Pod");
        let pod = |extra: Value| {
            let mut spec = json!({"containers": [{"name": "a", "image": "x"}]});
            entries(&extra).for_each(|(k, v)| spec[k] = v.clone());
            json!({"spec": spec})
        };
        let forbidden = |changes: &str| format!("spec: Forbidden: {FIXED}\n{changes}");
        let grace = "@@ -36,7 +36,7 @@\n  ],\n  \"EphemeralContainers\": null,\n  \"RestartPolicy\": \"Always\",\n- \"TerminationGracePeriodSeconds\": 30,\n+ \"TerminationGracePeriodSeconds\": 5,\n  \"ActiveDeadlineSeconds\": null,\n  \"DNSPolicy\": \"ClusterFirst\",\n  \"NodeSelector\": null,\n";
        case.update(pod(json!({})), pod(json!({"terminationGracePeriodSeconds": 5})), &[&forbidden(grace)]);
        case.update(pod(json!({})), pod(json!({"activeDeadlineSeconds": 5})), &[]);
        case.update(
            pod(json!({"activeDeadlineSeconds": 5})),
            pod(json!({"activeDeadlineSeconds": 6})),
            &["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"],
        );
        case.update(pod(json!({})), pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]})), &[]);
        case.update(pod(json!({"schedulingGates": [{"name": "g"}]})), pod(json!({"nodeSelector": {"a": "b"}})), &[]);
        let narrowed = "@@ -39,7 +39,9 @@\n  \"TerminationGracePeriodSeconds\": 30,\n  \"ActiveDeadlineSeconds\": null,\n  \"DNSPolicy\": \"ClusterFirst\",\n- \"NodeSelector\": null,\n+ \"NodeSelector\": {\n+  \"a\": \"b\"\n+ },\n  \"ServiceAccountName\": \"\",\n  \"AutomountServiceAccountToken\": null,\n  \"NodeName\": \"\",\n";
        case.update(pod(json!({})), pod(json!({"nodeSelector": {"a": "b"}})), &[&forbidden(narrowed)]);
    }
}
