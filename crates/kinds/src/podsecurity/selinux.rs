//! SELinux: types for containers only, no user, no role.

use std::collections::BTreeSet;

use super::{Pod, Violation, plural, quoted};
use crate::tree::text;

const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

pub(super) fn since_1_0(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &TYPES[..4])
}

pub(super) fn since_1_31(pod: &Pod<'_>) -> Option<Violation> {
    check(pod, &TYPES)
}

fn check(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let setters = pod.setters(|context| {
        let options = &context["seLinuxOptions"];
        let kind = text(&options["type"]);
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind);
        }
        let (has_user, has_role) = (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    });
    if setters.is_empty() {
        return None;
    }
    let mut bad = Vec::new();
    if !types.is_empty() {
        bad.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(types)));
    }
    if user {
        bad.push("user may not be set".to_owned());
    }
    if role {
        bad.push("role may not be set".to_owned());
    }
    let detail = format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.shown(), bad.join("; "));
    Some(Violation { reason: "seLinuxOptions", detail })
}
