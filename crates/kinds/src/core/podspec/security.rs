//! Security contexts of pods and containers.

use super::{LISTS, Pod, paths};
use crate::names;
use crate::spot::{Errors, Spot};

const ID: i64 = i32::MAX as i64;

/// The pod's own context.
pub(super) fn validate_pod(spec: &Spot, errors: &mut Errors) {
    let context = spec.at("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        context.at(field).within(0, ID, errors);
    }
    context.list("supplementalGroups").for_each(|group| group.within(0, ID, errors));
    if spec.at("shareProcessNamespace").is_true() && spec.at("hostPID").is_true() {
        let share = context.at("shareProcessNamespace");
        share.fail_as(true, "ShareProcessNamespace and HostPID cannot both be enabled", errors);
    }
    sysctls(spec, &context, errors);
    context.at("fsGroupChangePolicy").one_of(&["Always", "OnRootMismatch"], errors);
    seccomp(&context.at("seccompProfile"), errors);
    windows(&context.at("windowsOptions"), errors);
    app_armor(&context.at("appArmorProfile"), errors);
    context.at("supplementalGroupsPolicy").one_of(&["Merge", "Strict"], errors);
    context.at("seLinuxChangePolicy").one_of(&["Recursive"], errors);
}

/// A container's context.
pub(super) fn validate_container(context: &Spot, pod: &Pod, errors: &mut Errors) {
    if !context.is_set() {
        return;
    }
    context.at("runAsUser").within(0, ID, errors);
    context.at("runAsGroup").within(0, ID, errors);
    let mount = context.at("procMount");
    mount.one_of(&["Default", "Unmasked"], errors);
    if mount.text() == "Unmasked" && pod.host_users {
        mount.fail("`hostUsers` must be false to use `Unmasked`", errors);
    }
    seccomp(&context.at("seccompProfile"), errors);
    if *context.at("allowPrivilegeEscalation").value == false {
        if context.at("privileged").is_true() {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            context.fail(detail, errors);
        }
        let capabilities = context.at("capabilities");
        for _ in capabilities.list("add").filter(|c| c.text() == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            context.fail(detail, errors);
        }
    }
    windows(&context.at("windowsOptions"), errors);
    app_armor(&context.at("appArmorProfile"), errors);
}

fn seccomp(profile: &Spot, errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, file) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.text() {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => kind.missing("type is required when seccompProfile is set", errors),
        _ => kind.unsupported(&["Localhost", "RuntimeDefault", "Unconfined"], errors),
    }
    match (kind.text() == "Localhost", file.is_set()) {
        (true, false) => file.missing("must be set when seccomp type is Localhost", errors),
        (true, true) => paths::descending(&file, errors),
        (false, true) => {
            let shown = crate::checks::shown("core.v1.SeccompProfile", profile.value);
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(object::Invalid::shown(&file.path(), shown, detail));
        }
        (false, false) => {}
    }
}

fn app_armor(profile: &Spot, errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, file) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            let name = file.text();
            if name.trim() != name {
                file.fail("must not be padded with whitespace", errors);
            } else if name.is_empty() {
                file.missing("must be set when AppArmor type is Localhost", errors);
            }
            if name.len() > 4095 {
                errors.push(object::Invalid::too_long(&file.path(), 4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if file.is_set() {
                file.fail("can only be set when AppArmor type is Localhost", errors);
            }
        }
        "" => kind.missing("type is required when appArmorProfile is set", errors),
        _ => kind.unsupported(&["Localhost", "RuntimeDefault", "Unconfined"], errors),
    }
}

/// Kernel parameters that a pod sets have a name of this form.
const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(spec: &Spot, context: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    for setting in context.list("sysctls") {
        let name = setting.at("name");
        let text = name.text();
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let part = |part: &str| {
            part.starts_with(alphanumeric)
                && part.ends_with(alphanumeric)
                && part.chars().all(|c| alphanumeric(c) || c == '-' || c == '_')
        };
        if text.is_empty() {
            name.missing("", errors);
        } else if text.len() > 253 || !text.split(['.', '/']).all(part) {
            name.fail(SYSCTL, errors);
        } else if seen.contains(&text) {
            name.duplicate(errors);
        }
        seen.push(text);
        let dotted = text.replace('/', ".");
        let ipc =
            ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p)) || dotted == "kernel.sem";
        if spec.at("hostNetwork").is_true() && dotted.starts_with("net.") {
            name.fail("may not be specified when 'hostNetwork' is true", errors);
        } else if spec.at("hostIPC").is_true() && ipc {
            name.fail("may not be specified when 'hostIPC' is true", errors);
        }
    }
}

fn windows(options: &Spot, errors: &mut Errors) {
    if options.at("gmsaCredentialSpecName").is_set() {
        options.at("gmsaCredentialSpecName").obey(names::subdomain, errors);
    }
    let spec = options.at("gmsaCredentialSpec");
    match spec.value.as_str().map(str::len) {
        Some(0) => spec.fail("gmsaCredentialSpec cannot be an empty string", errors),
        Some(65_537..) => spec.fail("gmsaCredentialSpec size must be under 64 KiB", errors),
        _ => {}
    }
    let name = options.at("runAsUserName");
    if name.is_set() {
        windows_user(&name, errors);
    }
}

fn windows_user(name: &Spot, errors: &mut Errors) {
    let text = name.text();
    let parts: Vec<&str> = text.split('\\').collect();
    if text.is_empty() {
        return name.fail("runAsUserName cannot be an empty string", errors);
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return name.fail("runAsUserName cannot contain control characters", errors);
    }
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return name.fail("runAsUserName cannot contain more than one backslash", errors),
    };
    if domain.is_some_and(|d| d.len() >= 256) {
        name.fail("runAsUserName's Domain length must be under 256 characters", errors);
    }
    let net_bios = |d: &str| {
        let bad = |c: char| "\\/:*?\"<>|".contains(c);
        (1..=15).contains(&d.chars().count()) && !d.starts_with('.') && !d.chars().any(bad)
    };
    let dns = |d: &str| {
        d.split('.').all(|part| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    if domain.is_some_and(|d| !net_bios(d) && !dns(d)) {
        name.fail("runAsUserName's Domain doesn't match the NetBios nor the DNS format", errors);
    }
    match user.len() {
        0 => name.fail("runAsUserName's User cannot be empty", errors),
        105.. => name.fail("runAsUserName's User length must not be longer than 104 characters", errors),
        _ => {}
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        name.fail("runAsUserName's User cannot contain only periods or spaces", errors);
    }
    if user.chars().any(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        name.fail(detail, errors);
    }
}

/// Windows' host processes: all containers of a pod or none.
pub(super) fn host_processes(spec: &Spot, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let options = context.at("windowsOptions");
    let of_pod = options.at("hostProcess").value.as_bool();
    let (mut all, mut hosted) = (0, 0);
    for list in LISTS {
        for container in spec.list(list) {
            all += 1;
            let context = container.at("securityContext");
            let options = context.at("windowsOptions");
            let own = options.at("hostProcess");
            if let (Some(pod), Some(this)) = (of_pod, own.value.as_bool())
                && pod != this
            {
                own.fail(format!("pod hostProcess value must be identical if both are specified, was {pod}"), errors);
            }
            hosted += usize::from(own.value.as_bool().or(of_pod) == Some(true));
        }
    }
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        spec.fail_as("", detail, errors);
    }
    if !spec.at("hostNetwork").is_true() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        spec.at("hostNetwork").fail_as(false, detail, errors);
    }
}

const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";

/// What a pod for one operating system may not say.
pub(super) fn operating_system(spec: &Spot, errors: &mut Errors) {
    let os = spec.at("os");
    if !os.is_set() {
        return;
    }
    match os.at("name").text() {
        "" => os.at("name").missing("", errors),
        "linux" => {
            let linux = "windows options cannot be set for a linux pod";
            let mut check = |owner: &Spot| {
                let context = owner.at("securityContext");
                if context.at("windowsOptions").is_set() {
                    context.at("windowsOptions").forbid(linux, errors);
                }
            };
            check(spec);
            LISTS.into_iter().for_each(|list| spec.list(list).for_each(|c| check(&c)));
        }
        "windows" => windows_only(spec, errors),
        other => {
            let allowed = ["linux", "windows"];
            errors.push(object::Invalid::unsupported(&os.path(), &other.into(), &allowed));
        }
    }
}

fn windows_only(spec: &Spot, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let said = |spot: &Spot| spot.is_set() && *spot.value != false && *spot.value != serde_json::json!([]);
    for field in ["appArmorProfile", "seLinuxOptions"].into_iter().filter(|f| context.at(f).is_set()) {
        context.at(field).forbid(NOT_FOR_WINDOWS, errors);
    }
    for (field, needs_true) in [("hostUsers", false), ("hostPID", true), ("hostIPC", true)] {
        let spot = spec.at(field);
        if spot.is_set() && (!needs_true || spot.is_true()) {
            spot.forbid(NOT_FOR_WINDOWS, errors);
        }
    }
    for field in ["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"] {
        if said(&context.at(field)) {
            context.at(field).forbid(NOT_FOR_WINDOWS, errors);
        }
    }
    if spec.at("shareProcessNamespace").is_set() {
        spec.at("shareProcessNamespace").forbid(NOT_FOR_WINDOWS, errors);
    }
    let rest = ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"];
    for field in rest.into_iter().filter(|f| said(&context.at(f))) {
        context.at(field).forbid(NOT_FOR_WINDOWS, errors);
    }
    let of_containers = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for list in LISTS {
        for container in spec.list(list) {
            let context = container.at("securityContext");
            for field in of_containers.into_iter().filter(|f| context.at(f).is_set()) {
                context.at(field).forbid(NOT_FOR_WINDOWS, errors);
            }
        }
    }
}

/// What user namespaces of the pod's own rule out.
pub(super) fn host_users(spec: &Spot, errors: &mut Errors) {
    if *spec.at("hostUsers").value != false {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.at(field).is_true() {
            spec.at(shown).forbid("when `hostUsers` is false", errors);
        }
    }
    for list in LISTS {
        for container in spec.list(list).filter(|c| c.at("volumeDevices").len() > 0) {
            container.at("volumeDevices").forbid("when `hostUsers` is false", errors);
        }
    }
}
