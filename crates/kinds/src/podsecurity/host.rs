//! The node's namespaces and ports.

use std::collections::BTreeSet;

use super::{Pod, Violation, containers, plural};
use crate::tree::list;

pub(super) fn namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|which| pod.spec[*which] == true)
        .map(|which| format!("{which}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation { reason: "host namespaces", detail: shared.join(", ") })
}

pub(super) fn ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut used = BTreeSet::new();
    let bad = pod.bad(|container| {
        let ports = list(&container["ports"]).iter().filter_map(|p| p["hostPort"].as_i64());
        let ports: Vec<String> = ports.filter(|p| *p != 0).map(|p| p.to_string()).collect();
        let is_bad = !ports.is_empty();
        used.extend(ports);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let (uses, what) = (plural(bad.len(), "uses", "use"), plural(used.len(), "hostPort", "hostPorts"));
    let used: Vec<String> = used.into_iter().collect();
    Some(Violation { reason: "hostPort", detail: format!("{} {uses} {what} {}", containers(&bad), used.join(", ")) })
}
