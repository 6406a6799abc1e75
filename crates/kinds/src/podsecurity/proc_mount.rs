//! What is masked in `/proc` stays so.

use std::collections::BTreeSet;

use super::{Pod, Violation, containers, quoted};

pub(super) fn always(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let bad = pod.bad(|container| {
        let mount = container["securityContext"]["procMount"].as_str().filter(|m| *m != "Default");
        types.extend(mount);
        mount.is_some()
    });
    (!bad.is_empty()).then(|| Violation {
        reason: "procMount",
        detail: format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(types)),
    })
}

pub(super) fn outside_user_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { always(pod) }
}
