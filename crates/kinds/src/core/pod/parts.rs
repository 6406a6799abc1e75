//! What of a pod its subresources `ephemeralcontainers` and `resize` may change; the rest stays as it is.

use object::{Invalid, Quantity};
use serde_json::{Map, Value};

use super::{qos, validate_whole};
use crate::kind::keep;
use crate::tree::{list, text};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Metadata and status are not these subresources' business.
fn keep_around(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp", "generation"] {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// Before an update through `ephemeralcontainers`.
pub fn prepare_ephemeral(new: &mut Value, old: &Value) {
    let ephemeral = new["spec"].get("ephemeralContainers").cloned().filter(|c| !c.is_null());
    keep_around(new, old);
    new["spec"] = old["spec"].clone();
    match ephemeral {
        Some(containers) => new["spec"]["ephemeralContainers"] = containers,
        None => drop(crate::tree::remove(&mut new["spec"], "ephemeralContainers")),
    }
}

/// Field errors of an update through `ephemeralcontainers`: those that run stay as they are.
pub fn validate_ephemeral(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    if is_mirror(old) {
        errors.push(Invalid::forbidden("[]", "static pods do not support ephemeral containers"));
        return;
    }
    validate_whole(new, errors);
    let now = list(&new["spec"]["ephemeralContainers"]);
    for container in list(&old["spec"]["ephemeralContainers"]) {
        let name = text(&container["name"]);
        let why = match now.iter().find(|c| c["name"] == container["name"]) {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(changed) if changed != container => {
                let changes = crate::diff::diff("io.k8s.api.core.v1.EphemeralContainer", container, changed);
                format!("existing ephemeral containers {name:?} may not be changed\n{changes}")
            }
            Some(_) => continue,
        };
        errors.push(Invalid::forbidden("spec.ephemeralContainers", why));
    }
}

/// The old containers with the new resources; the new ones where they are others, which is an error.
fn resized(new: &Value, old: &Value) -> Value {
    let (new_list, old_list) = (list(new), list(old));
    if new_list.iter().zip(old_list).any(|(new, old)| new["name"] != old["name"]) {
        return new.clone();
    }
    let one = |(new, old): (&Value, &Value)| {
        let mut container = old.clone();
        for field in ["resources", "resizePolicy"] {
            keep(&mut container, new, field);
        }
        container
    };
    new_list.iter().zip(old_list).map(one).collect()
}

/// Before an update through `resize`.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    if LISTS.iter().any(|of| list(&new["spec"][*of]).len() != list(&old["spec"][*of]).len()) {
        return;
    }
    let mut spec = old["spec"].clone();
    for of in LISTS.into_iter().filter(|of| !list(&old["spec"][*of]).is_empty()) {
        spec[of] = resized(&new["spec"][of], &old["spec"][of]);
    }
    keep(&mut spec, &new["spec"], "resources");
    keep_around(new, old);
    new["spec"] = spec;
}

fn amounts(resources: &Value, which: &str) -> Map<String, Value> {
    resources[which].as_object().cloned().unwrap_or_default()
}

/// The same amount, however it is written.
fn same(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let amount = |value: &Value| Quantity::parse(text(value));
    one.len() == other.len()
        && one.iter().all(|(name, value)| other.get(name).is_some_and(|o| o == value || amount(o) == amount(value)))
}

/// True when amounts of nothing but cpu and memory differ.
fn rest_is_same(new: &Value, old: &Value) -> bool {
    let rest = |resources: &Value, which: &str| {
        let mut all = amounts(resources, which);
        all.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        all
    };
    ["requests", "limits"].iter().all(|which| same(&rest(new, which), &rest(old, which)))
}

fn removed(new: &Value, old: &Value, which: &str) -> bool {
    let now = amounts(new, which);
    amounts(old, which).keys().any(|name| !now.contains_key(name))
}

/// Field errors of an update through `resize`.
pub fn validate_resize(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    if is_mirror(old) {
        errors.push(Invalid::forbidden("[]", "static pods cannot be resized"));
        return;
    }
    if old["spec"]["os"]["name"] == "windows" {
        errors.push(Invalid::forbidden("[]", "windows pods cannot be resized"));
        return;
    }
    validate_whole(new, errors);
    let class = old["status"]["qosClass"].as_str().unwrap_or_else(|| qos(&old["spec"]));
    if class != qos(&new["spec"]) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Invalid::invalid("spec", &text(&new["status"]["qosClass"]).into(), why));
    }
    let running = list(&old["status"]["containerStatuses"]).iter().find(|s| s["state"]["running"].is_object());
    if running.is_some_and(|status| !status["resources"].is_object()) {
        errors.push(Invalid::forbidden("spec", "Pod running on node without support for resize"));
    }
    whole(&new["spec"]["resources"], &old["spec"]["resources"], errors);
    if !list(&old["status"]["nodeAllocatableResourceClaimStatuses"]).is_empty() {
        errors.push(Invalid::forbidden("spec", "pods with node allocatable resource claims cannot be resized"));
    }
    if !in_order(&new["spec"], &old["spec"], errors) {
        return;
    }
    for of in ["initContainers", "containers"] {
        for (index, (new, old)) in list(&new["spec"][of]).iter().zip(list(&old["spec"][of])).enumerate() {
            for (which, what) in [("requests", "requests"), ("limits", "limits")] {
                if removed(&new["resources"], &old["resources"], which) {
                    let field = format!("spec.{of}[{index}].resources.{which}");
                    errors.push(Invalid::forbidden(&field, format!("resource {what} cannot be removed")));
                }
            }
        }
    }
    for of in ["containers", "initContainers"] {
        for (index, (new, old)) in list(&new["spec"][of]).iter().zip(list(&old["spec"][of])).enumerate() {
            let policies = list(&new["resizePolicy"]) == list(&old["resizePolicy"]);
            // As upstream, which forgets new claims before it compares: who has claims is not resized.
            let claims = !list(&old["resources"]["claims"]).is_empty();
            if claims || !rest_is_same(&new["resources"], &old["resources"]) || !policies {
                errors.push(match of {
                    "containers" => Invalid::forbidden("spec", "only cpu and memory resources are mutable"),
                    _ => Invalid::forbidden(
                        &format!("spec.initContainers[{index}]"),
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    ),
                });
            }
            let restarts = list(&new["resizePolicy"]).iter().any(|p| p["restartPolicy"] == "RestartContainer");
            if of == "initContainers" && new != old && new["restartPolicy"] != "Always" && restarts {
                let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.push(Invalid::forbidden(&format!("spec.initContainers[{index}]"), why));
            }
        }
    }
    let (now, before) = (&new["spec"]["resources"], &old["spec"]["resources"]);
    if errors.is_empty() && !is_set(now) && !is_set(before) && now.is_object() != before.is_object() {
        errors.push(Invalid::forbidden("spec", "only cpu and memory resources are mutable"));
    }
}

/// True of resources that ask for something.
fn is_set(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|which| !amounts(resources, which).is_empty())
}

/// The resources of the pod as a whole.
fn whole(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    if !is_set(new) && !is_set(old) {
        return;
    }
    if old.is_object() && !new.is_object() {
        errors.push(Invalid::forbidden("spec.resources", "pod-level resources cannot be removed"));
        return;
    }
    for (which, what) in [("requests", "requests"), ("limits", "limits")] {
        if removed(new, old, which) {
            let why = format!("pod-level resource {what} cannot be removed");
            errors.push(Invalid::forbidden(&format!("spec.resources.{which}"), why));
        }
    }
    if !rest_is_same(new, old) || list(&new["claims"]) != list(&old["claims"]) {
        errors.push(Invalid::forbidden("spec", "only cpu and memory resources are mutable at pod-level"));
    }
}

/// The containers are the same in the same order.
fn in_order(new: &Value, old: &Value, errors: &mut Vec<Invalid>) -> bool {
    let before = errors.len();
    for of in ["containers", "initContainers"] {
        let (new, old) = (list(&new[of]), list(&old[of]));
        if new.len() != old.len() {
            let why = format!("{of} may not be added or removed on resize");
            errors.push(Invalid::forbidden(&format!("spec.{of}"), why));
            continue;
        }
        for (index, _) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| new["name"] != old["name"]) {
            let why = format!("{of} may not be renamed or reordered on resize");
            errors.push(Invalid::forbidden(&format!("spec.{of}[{index}].name"), why));
        }
    }
    errors.len() == before
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::podspec;

    fn pod() -> Value {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1Gi"}}}]}});
        podspec::default_pod(&mut pod["spec"]);
        pod["status"] = json!({"phase": "Running", "qosClass": "Burstable"});
        pod
    }

    fn patched(patch: Value) -> Value {
        let mut new = pod();
        object::patch::merge(&mut new, &patch);
        new
    }

    fn words(errors: &[Invalid]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// The outcome of resizing the container to these resources.
    fn resize(resources: Value) -> String {
        let mut new = pod();
        new["spec"]["containers"][0]["resources"] = resources;
        prepare_resize(&mut new, &pod());
        let mut errors = Vec::new();
        validate_resize(&new, &pod(), &mut errors);
        words(&errors)
    }

    #[test]
    fn only_what_is_theirs_changes() {
        let everything = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostPID": true, "nodeName": "n"}, "status": {"phase": "Failed"}});
        let mut new = patched(everything.clone());
        prepare_resize(&mut new, &pod());
        assert_eq!(new, pod());
        let mut new = patched(everything);
        new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
        prepare_ephemeral(&mut new, &pod());
        let mut wanted = pod();
        wanted["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
        assert_eq!(new, wanted);
    }

    #[test]
    fn resources_are_resized() {
        let of = |cpu: &str, memory: &str, storage: &str| json!({"requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": storage}});
        assert_eq!(resize(of("200m", "2Gi", "1Gi")), "");
        assert_eq!(resize(of("200m", "2Gi", "2Gi")), "spec: Forbidden: only cpu and memory resources are mutable");
        assert_eq!(
            resize(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
        );
        let guaranteed = json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(
            resize(guaranteed),
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"
        );
        let mut new = pod();
        new["spec"]["containers"][0]["name"] = "d".into();
        prepare_resize(&mut new, &pod());
        let mut errors = Vec::new();
        validate_resize(&new, &pod(), &mut errors);
        assert_eq!(
            words(&errors),
            "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"
        );
    }

    #[test]
    fn ephemeral_containers_stay() {
        let with = |containers: Value| patched(json!({"spec": {"ephemeralContainers": containers}}));
        let container = |image: &str| {
            json!({"name": "e", "image": image, "imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "File",
                "terminationMessagePath": "/dev/termination-log", "resources": {}})
        };
        let check = |new: Value, old: Value| {
            let mut errors = Vec::new();
            validate_ephemeral(&new, &old, &mut errors);
            words(&errors)
        };
        assert_eq!(check(with(json!([container("i")])), pod()), "");
        let old = with(json!([container("i")]));
        assert_eq!(
            check(pod(), old.clone()),
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"
        );
        assert_eq!(
            check(with(json!([container("j")])), old),
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be changed\n@@ -1,6 +1,6 @@\n {\n  \"Name\": \"e\",\n- \"Image\": \"i\",\n+ \"Image\": \"j\",\n  \"Command\": null,\n  \"Args\": null,\n  \"WorkingDir\": \"\",\n"
        );
    }
}
