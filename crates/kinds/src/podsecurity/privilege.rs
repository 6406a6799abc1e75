//! Privileged containers, Windows' host processes, and programs that gain privileges when they start.

use super::{Pod, Violation, containers};

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["privileged"] == true);
    (!bad.is_empty()).then(|| Violation {
        reason: "privileged",
        detail: format!("{} must not set securityContext.privileged=true", containers(&bad)),
    })
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context["windowsOptions"]["hostProcess"] == true);
    (!setters.is_empty()).then(|| Violation {
        reason: "hostProcess",
        detail: format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.shown()),
    })
}

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    (!bad.is_empty()).then(|| Violation {
        reason: "allowPrivilegeEscalation != false",
        detail: format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)),
    })
}

/// Windows does not know it.
pub(super) fn escalation_but_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { escalation(pod) }
}
