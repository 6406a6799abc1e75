//! Sysctls: those that concern the pod only.

use super::{Pod, Violation};
use crate::tree::{list, text};

/// In the order in which they came to be allowed: five at first, one in 1.27, four in 1.29, two in 1.32.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

pub(super) fn since_1_0(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &SAFE[..5])
}

pub(super) fn since_1_27(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &SAFE[..6])
}

pub(super) fn since_1_29(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &SAFE[..10])
}

pub(super) fn since_1_32(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &SAFE)
}

fn check(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let names = list(&pod.spec["securityContext"]["sysctls"]).iter().map(|s| text(&s["name"]));
    let bad: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    (!bad.is_empty()).then(|| Violation { reason: "forbidden sysctls", detail: bad.join(", ") })
}
