//! Probes and hooks with a host of their own would let a pod make the kubelet call others.

use std::collections::BTreeSet;

use super::{Pod, Violation, plural, quoted};
use crate::tree::text;

pub(super) fn hosts(pod: &Pod<'_>) -> Option<Violation> {
    let (mut bad, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in pod.containers() {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|which| &container[which]);
        let hooks = ["postStart", "preStop"].map(|which| &container["lifecycle"][which]);
        for handler in probes.into_iter().chain(hooks) {
            for host in ["httpGet", "tcpSocket"].map(|how| text(&handler[how]["host"])) {
                if !host.is_empty() {
                    hosts.insert(host);
                    bad.insert(text(&container["name"]));
                }
            }
        }
    }
    if bad.is_empty() {
        return None;
    }
    let (count, found) = (bad.len(), hosts.len());
    Some(Violation {
        reason: "probe or lifecycle host",
        detail: format!(
            "{} {} {} {} {}",
            plural(count, "container", "containers"),
            quoted(bad),
            plural(count, "uses", "use"),
            plural(found, "probe or lifecycle host", "probe or lifecycle hosts"),
            quoted(hosts)
        ),
    })
}
