//! Root runs nothing.

use super::{Pod, Violation, containers};

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| context["runAsNonRoot"] == false);
    if !setters.is_empty() {
        let detail = format!("{} must not set securityContext.runAsNonRoot=false", setters.shown());
        return Some(Violation { reason: REASON, detail });
    }
    if pod.spec["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let missing = pod.bad(|container| !container["securityContext"]["runAsNonRoot"].is_boolean());
    (!missing.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&missing)),
    })
}

pub(super) fn non_root_outside_user_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { non_root(pod) }
}

pub(super) fn not_zero(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context["runAsUser"] == 0);
    (!setters.is_empty())
        .then(|| Violation { reason: "runAsUser=0", detail: format!("{} must not set runAsUser=0", setters.shown()) })
}

pub(super) fn not_zero_outside_user_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { not_zero(pod) }
}
