//! What administrators may say about where pods go: PodNodeSelector, PodTolerationRestriction, ExtendedResourceToleration,
//! LimitPodHardAntiAffinityTopology. They run only where they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use kinds::names;
use object::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Operation, tolerations};
use crate::api::Api;

/// Annotations of namespaces.
const NODE_SELECTOR: &str = "scheduler.alpha.kubernetes.io/node-selector";
const DEFAULT_TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// PodNodeSelector's configuration: selectors by namespace, and `clusterDefaultNodeSelector`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSelectors {
    #[serde(rename = "podNodeSelectorPluginConfig")]
    by_namespace: BTreeMap<String, String>,
}

/// PodTolerationRestriction's configuration, for namespaces that say nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tolerations {
    default: Vec<Value>,
    whitelist: Vec<Value>,
}

fn is_pod(at: &Attributes<'_>) -> bool {
    at.is("", "pods") && at.subresource.is_empty() && at.writes()
}

fn refused(pod: &Value, why: &str) -> Status {
    Status::forbidden("", "pods", pod["metadata"]["name"].as_str().unwrap_or(""), why)
}

/// An error that upstream has no kind for.
fn failed(why: String) -> Status {
    Status { code: 500, reason: None, ..Status::bad_request(why) }
}

/// What an annotation of the pod's namespace says, if it is there.
fn annotation(api: &Api, at: &Attributes<'_>, name: &str) -> Result<Option<String>, Status> {
    let found = api.stored_value(&format!("/registry/namespaces/{}", at.namespace));
    let namespace = found.ok_or_else(|| Status::not_found("", "namespaces", at.namespace))?;
    Ok(namespace["metadata"]["annotations"].get(name).and_then(Value::as_str).map(str::to_owned))
}

type Labels = BTreeMap<String, String>;

fn labels(text: &str) -> Result<Labels, String> {
    let mut out = Labels::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let words: Vec<&str> = part.split('=').collect();
        let [key, value] = words[..] else { return Err(format!("invalid selector: [{}]", words.join(" "))) };
        let (key, value) = (key.trim(), value.trim());
        for (what, problems) in [(key, names::qualified(key)), (value, names::label_value(value))] {
            if !problems.is_empty() {
                return Err(format!("<nil>: Invalid value: {what:?}: {}", problems.join("; ")));
            }
        }
        out.insert(key.to_owned(), value.to_owned());
    }
    Ok(out)
}

fn selector_of(pod: &Value) -> Labels {
    let given = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    given.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect()
}

/// The selector of the pod's namespace; refused when the pod's own contradicts it.
fn namespace_selector(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<Labels, Status> {
    let config = &api.admission.node_selectors.by_namespace;
    let text = match annotation(api, at, NODE_SELECTOR)? {
        Some(text) => text,
        None => config.get("clusterDefaultNodeSelector").cloned().unwrap_or_default(),
    };
    let wanted = labels(&text).map_err(failed)?;
    let own = selector_of(pod);
    if wanted.iter().any(|(key, value)| own.get(key).is_some_and(|own| own != value)) {
        return Err(refused(pod, "pod node label selector conflicts with its namespace node label selector"));
    }
    Ok(wanted)
}

/// PodNodeSelector: pods go to the nodes of their namespace.
pub(super) fn select(api: &Api, at: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(at) || at.operation != Operation::Create {
        return Ok(());
    }
    let mut all = namespace_selector(api, at, pod)?;
    all.extend(selector_of(pod));
    if !all.is_empty() {
        pod["spec"]["nodeSelector"] = json!(all);
    }
    selected(api, at, pod)
}

/// See [`select`].
pub(super) fn selected(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !is_pod(at) || at.operation != Operation::Create {
        return Ok(());
    }
    namespace_selector(api, at, pod)?;
    let listed = api.admission.node_selectors.by_namespace.get(at.namespace).map_or("", String::as_str);
    let allowed = labels(listed).map_err(failed)?;
    if !allowed.is_empty() && selector_of(pod).iter().any(|(key, value)| allowed.get(key) != Some(value)) {
        return Err(refused(pod, "pod node label selector labels conflict with its namespace whitelist"));
    }
    Ok(())
}

fn listed(api: &Api, at: &Attributes<'_>, name: &str) -> Result<Option<Vec<Value>>, Status> {
    match annotation(api, at, name)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(&text).map(Some).map_err(|error| failed(error.to_string())),
    }
}

fn tolerations_of(pod: &Value) -> Vec<Value> {
    pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default()
}

/// PodTolerationRestriction: tolerations that a namespace gives, and allows.
pub(super) fn tolerate(api: &Api, at: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(at) {
        return Ok(());
    }
    let mut more = Vec::new();
    if at.operation == Operation::Create {
        let own = listed(api, at, DEFAULT_TOLERATIONS)?;
        more = own.unwrap_or_else(|| api.admission.tolerations.default.clone());
    }
    if kinds::pod_qos(&pod["spec"]) != "BestEffort" {
        more.push(json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}));
    }
    if !more.is_empty() {
        pod["spec"]["tolerations"] = tolerations::merge(&tolerations_of(pod), &more).into();
    }
    tolerated(api, at, pod)
}

/// See [`tolerate`].
pub(super) fn tolerated(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let all = tolerations_of(pod);
    if !is_pod(at) || all.is_empty() {
        return Ok(());
    }
    let (scope, allowed) = match listed(api, at, WHITELIST)? {
        Some(own) => ("namespace", own),
        None => ("cluster", api.admission.tolerations.whitelist.clone()),
    };
    if allowed.is_empty() || all.iter().all(|one| allowed.iter().any(|wide| tolerations::covers(wide, one))) {
        return Ok(());
    }
    Err(failed(format!(
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
    )))
}

fn is_extended(resource: &str) -> bool {
    resource.contains('/')
        && !resource.contains("kubernetes.io/")
        && !resource.starts_with("requests.")
        && names::qualified(&format!("requests.{resource}")).is_empty()
}

/// ExtendedResourceToleration: who asks for a device tolerates the taint of nodes that have it.
pub(super) fn tolerate_devices(at: &Attributes<'_>, pod: &mut Value) {
    if !is_pod(at) {
        return;
    }
    let lists = ["containers", "initContainers"].into_iter();
    let containers = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let requests = containers.flat_map(|c| c["resources"]["requests"].as_object().into_iter().flatten());
    let devices: BTreeSet<String> = requests.map(|(name, _)| name.clone()).filter(|name| is_extended(name)).collect();
    if devices.is_empty() {
        return;
    }
    let mut all = tolerations_of(pod);
    for device in devices {
        let wanted = json!({"key": device, "operator": "Exists", "effect": "NoSchedule"});
        let is_that = |one: &Value| {
            ["key", "operator", "effect"].iter().all(|field| one[field] == wanted[field])
                && one["value"].as_str().unwrap_or("").is_empty()
        };
        match all.iter_mut().find(|one| is_that(one)) {
            Some(known) => *known = wanted,
            None => all.push(wanted),
        }
    }
    pod["spec"]["tolerations"] = all.into();
}

/// LimitPodHardAntiAffinityTopology: pods keep others off their node, not off more.
pub(super) fn anti_affinity(at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !is_pod(at) {
        return Ok(());
    }
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let keys = terms.as_array().into_iter().flatten().map(|term| term["topologyKey"].as_str().unwrap_or(""));
    match { keys }.find(|key| *key != HOSTNAME) {
        None => Ok(()),
        Some(key) => Err(refused(
            pod,
            &format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_labels() {
        let some = labels("a=b, c = d").unwrap();
        assert_eq!(some, Labels::from([("a".into(), "b".into()), ("c".into(), "d".into())]));
        assert!(labels("").unwrap().is_empty());
        assert_eq!(labels("a=b=c").unwrap_err(), "invalid selector: [a b c]");
        assert!(labels("a b=c").unwrap_err().starts_with("<nil>: Invalid value: \"a b\": "));
    }

    #[test]
    fn extended_resources() {
        for (name, is) in
            [("example.com/gpu", true), ("cpu", false), ("kubernetes.io/x", false), ("requests.x/y", false)]
        {
            assert_eq!(is_extended(name), is, "{name}");
        }
    }
}
