//! Capabilities: none beyond a runtime's own (baseline); all dropped, at most ports below 1024 taken back (restricted).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Pod, Violation, containers, quoted};
use crate::tree::{list, text};

const DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn capabilities(container: &Value) -> &Value {
    &container["securityContext"]["capabilities"]
}

/// Containers that add what is not allowed, and what that is.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut found = BTreeSet::new();
    let bad = pod.bad(|container| {
        let added: Vec<&str> = list(&capabilities(container)["add"]).iter().map(text).collect();
        let forbidden: Vec<&str> = added.into_iter().filter(|c| !allowed.contains(c)).collect();
        found.extend(forbidden.iter().copied());
        !forbidden.is_empty()
    });
    (bad, found)
}

fn must_not_add(bad: &[&str], found: BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", containers(bad), quoted(found))
}

pub(super) fn baseline(pod: &Pod<'_>) -> Option<Violation> {
    let (bad, found) = adding(pod, &DEFAULT);
    (!bad.is_empty()).then(|| Violation { reason: "non-default capabilities", detail: must_not_add(&bad, found) })
}

pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let missing = pod.bad(|container| !list(&capabilities(container)["drop"]).iter().any(|c| c == "ALL"));
    let (bad, found) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&missing)));
    }
    if !bad.is_empty() {
        details.push(must_not_add(&bad, found));
    }
    (!details.is_empty()).then(|| Violation { reason: "unrestricted capabilities", detail: details.join("; ") })
}

/// Windows has none.
pub(super) fn restricted_but_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { restricted(pod) }
}
