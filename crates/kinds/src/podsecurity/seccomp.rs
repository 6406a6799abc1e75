//! Seccomp: a profile may be chosen (baseline), or must be (restricted). Before 1.19 there were annotations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Pod, Setters, Violation, containers, plural, quoted};
use crate::tree::text;

const ON_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const ON_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const REASON: &str = "seccompProfile";

pub(super) fn annotations(pod: &Pod<'_>) -> Option<Violation> {
    let annotations = &pod.metadata["annotations"];
    let keys = pod.containers().map(|c| format!("{ON_CONTAINER}{}", text(&c["name"]))).chain([ON_POD.to_owned()]);
    let is_allowed =
        |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let given = keys.filter_map(|key| annotations.get(&key).and_then(Value::as_str).map(|value| (key, value)));
    let bad = given.filter(|(_, value)| !is_allowed(value)).map(|(key, value)| format!("{key}={value:?}"));
    let bad: BTreeSet<String> = bad.collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural(bad.len(), "annotation", "annotations");
    let bad: Vec<String> = bad.into_iter().collect();
    Some(Violation { reason: REASON, detail: format!("forbidden {word} {}", bad.join(", ")) })
}

fn is_good(profile: &Value) -> bool {
    matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
}

fn forbidden(setters: &Setters<'_>, types: BTreeSet<&str>) -> Violation {
    let types = quoted(types);
    let detail = format!("{} must not set securityContext.seccompProfile.type to {types}", setters.shown());
    Violation { reason: REASON, detail }
}

pub(super) fn baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let setters = pod.setters(|context| {
        let profile = &context["seccompProfile"];
        let is_bad = profile.is_object() && !is_good(profile);
        if is_bad {
            types.insert(text(&profile["type"]));
        }
        is_bad
    });
    (!setters.is_empty()).then(|| forbidden(&setters, types))
}

pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let set_bad = baseline(pod);
    if set_bad.is_some() || is_good(&pod.spec["securityContext"]["seccompProfile"]) {
        return set_bad;
    }
    let missing = pod.bad(|container| !container["securityContext"]["seccompProfile"].is_object());
    (!missing.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&missing)
        ),
    })
}

/// Windows has none.
pub(super) fn restricted_but_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { restricted(pod) }
}
