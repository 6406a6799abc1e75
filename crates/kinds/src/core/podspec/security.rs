//! Security contexts of pods and containers.

use object::Invalid;
use serde_json::Value;

use crate::tree::{list, text};
use crate::{checks, names};

const ID: &str = "must be between 0 and 2147483647, inclusive";

fn ids(context: &Value, path: &str, fields: &[&str], errors: &mut Vec<Invalid>) {
    for field in fields {
        if context[*field].as_i64().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            errors.push(Invalid::invalid(&format!("{path}.{field}"), &context[*field], ID));
        }
    }
}

/// Profiles of seccomp and AppArmor: a type, and a file of the node when it is `Localhost`.
fn profile(context: &Value, field: &str, path: &str, errors: &mut Vec<Invalid>) {
    let profile = &context[field];
    if !profile.is_object() {
        return;
    }
    let at = format!("{path}.{field}");
    let local = &profile["localhostProfile"];
    match text(&profile["type"]) {
        "" => errors.push(Invalid::required(&format!("{at}.type"), "type is required when seccompProfile is set")),
        "Localhost" if local.is_null() => {
            let detail = format!(
                "must be set when {} type is Localhost",
                if field == "seccompProfile" { "seccomp" } else { "AppArmor" }
            );
            errors.push(Invalid::required(&format!("{at}.localhostProfile"), detail));
        }
        "RuntimeDefault" | "Unconfined" if !local.is_null() => {
            let detail = format!(
                "can only be set when {} type is Localhost",
                if field == "seccompProfile" { "seccomp" } else { "AppArmor" }
            );
            errors.push(Invalid::invalid(&format!("{at}.localhostProfile"), local, detail));
        }
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        _ => checks::one_of(profile, &at, "type", &["Localhost", "RuntimeDefault", "Unconfined"], errors),
    }
}

pub(super) fn validate_pod(context: &Value, path: &str, errors: &mut Vec<Invalid>) {
    ids(context, path, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for (index, group) in list(&context["supplementalGroups"]).iter().enumerate() {
        if group.as_i64().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            errors.push(Invalid::invalid(&format!("{path}.supplementalGroups[{index}]"), group, ID));
        }
    }
    let sysctls = list(&context["sysctls"]);
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = format!("{path}.sysctls[{index}].name");
        let name = text(&sysctl["name"]);
        if name.is_empty() {
            errors.push(Invalid::required(&at, ""));
        } else if name.split(['.', '/']).any(|part| names::label(&part.replace('_', "-")).is_some()) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Invalid::invalid(&at, &sysctl["name"], detail));
        } else if sysctls[..index].iter().any(|s| s["name"] == sysctl["name"]) {
            errors.push(Invalid::duplicate(&at, &sysctl["name"]));
        }
    }
    checks::one_of(context, path, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], errors);
    checks::one_of(context, path, "supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    for field in ["seccompProfile", "appArmorProfile"] {
        profile(context, field, path, errors);
    }
}

pub(super) fn validate_container(context: &Value, path: &str, errors: &mut Vec<Invalid>) {
    ids(context, path, &["runAsUser", "runAsGroup"], errors);
    checks::one_of(context, path, "procMount", &["Default", "Unmasked"], errors);
    for field in ["seccompProfile", "appArmorProfile"] {
        profile(context, field, path, errors);
    }
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Invalid::invalid(path, context, detail));
        }
        if list(&context["capabilities"]["add"]).iter().any(|c| c == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Invalid::invalid(path, context, detail));
        }
    }
}
