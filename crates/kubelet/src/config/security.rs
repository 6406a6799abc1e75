//! Security contexts: the container's over the pod's, as the runtime is told them.

use std::path::Path;

use protos::cri::v1::security_profile::ProfileType;
use protos::cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SecurityProfile, SupplementalGroupsPolicy,
};

use crate::api::{Container, Pod, SeccompProfile};

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user that an image names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) name: String,
}

/// Which namespaces a pod shares with the node.
pub(crate) fn namespaces(pod: &Pod) -> NamespaceOption {
    let node_or_pod = |host: bool| if host { NamespaceMode::Node } else { NamespaceMode::Pod } as i32;
    let pid = match (pod.spec.host_pid, pod.spec.share_process_namespace) {
        (true, _) => NamespaceMode::Node,
        (false, true) => NamespaceMode::Pod,
        (false, false) => NamespaceMode::Container,
    };
    NamespaceOption {
        network: node_or_pod(pod.spec.host_network),
        pid: pid as i32,
        ipc: node_or_pod(pod.spec.host_ipc),
        ..NamespaceOption::default()
    }
}

/// The sandbox's security context.
pub(crate) fn of_sandbox(pod: &Pod) -> LinuxSandboxSecurityContext {
    let sc = &pod.spec.security_context;
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: sc.run_as_user.map(|value| Int64Value { value }),
        run_as_group: sc.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged: pod.all_containers().any(|(_, c)| c.security_context.privileged),
        seccomp: Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, ..Default::default() }),
        ..LinuxSandboxSecurityContext::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let sc = &pod.spec.security_context;
    sc.fs_group.into_iter().chain(sc.supplemental_groups.iter().copied()).collect()
}

fn groups_policy(pod: &Pod) -> i32 {
    match pod.spec.security_context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

/// The container's security context, or why it may not run (`CreateContainerConfigError`).
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    seccomp_root: &Path,
) -> Result<LinuxContainerSecurityContext, String> {
    verify_non_root(pod, container, image)?;
    let sc = &container.security_context;
    let of_pod = &pod.spec.security_context;
    let user = sc.run_as_user.or(of_pod.run_as_user);
    let group = sc.run_as_group.or(of_pod.run_as_group);
    let unmasked = sc.proc_mount.as_deref() == Some("Unmasked");
    let paths = |paths: &[&str]| match unmasked {
        true => Vec::new(),
        false => paths.iter().map(|p| (*p).to_owned()).collect(),
    };
    let capabilities = sc.capabilities.as_ref().map(|c| Capability {
        add_capabilities: c.add.clone(),
        drop_capabilities: c.drop.clone(),
        add_ambient_capabilities: Vec::new(),
    });
    Ok(LinuxContainerSecurityContext {
        capabilities,
        privileged: sc.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: user.or(image.uid).map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        run_as_username: if user.is_none() && image.uid.is_none() { image.name.clone() } else { String::new() },
        readonly_rootfs: sc.read_only_root_filesystem,
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: sc.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(sc.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), seccomp_root)?),
        apparmor: apparmor(sc.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref())),
        ..LinuxContainerSecurityContext::default()
    })
}

fn seccomp(profile: Option<&SeccompProfile>, root: &Path) -> Result<SecurityProfile, String> {
    let of = |kind: ProfileType| SecurityProfile { profile_type: kind as i32, ..SecurityProfile::default() };
    let Some(profile) = profile else { return Ok(of(ProfileType::Unconfined)) };
    match (profile.r#type.as_str(), profile.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(of(ProfileType::RuntimeDefault)),
        ("Localhost", Some(name)) if !name.is_empty() => Ok(SecurityProfile {
            localhost_ref: root.join(name).to_string_lossy().into_owned(),
            ..of(ProfileType::Localhost)
        }),
        ("Localhost", _) => Err("localhostProfile must be set if seccompProfile type is Localhost.".into()),
        _ => Ok(of(ProfileType::Unconfined)),
    }
}

fn apparmor(profile: Option<&SeccompProfile>) -> Option<SecurityProfile> {
    let profile = profile?;
    let kind = match profile.r#type.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    let localhost_ref = profile.localhost_profile.clone().unwrap_or_default();
    Some(SecurityProfile { profile_type: kind as i32, localhost_ref })
}

fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let sc = &container.security_context;
    let of_pod = &pod.spec.security_context;
    if sc.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let whom = format!("(pod: {:?}, container: {})", pod.full(), container.name);
    match (sc.run_as_user.or(of_pod.run_as_user), image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whom}")),
        (Some(_), _) => Ok(()),
        (None, None) if !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {whom}",
            image.name
        )),
        // An image that names no user runs as root; upstream's runtimes report that as uid 0.
        (None, Some(0) | None) => Err(format!("container has runAsNonRoot and image will run as root {whom}")),
        (None, Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn non_root() {
        let check = |pod_sc, sc, image: ImageUser, expect: &str| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"securityContext": pod_sc, "containers": [{"name": "c", "securityContext": sc}]}}))
            .unwrap();
            let made = of_container(&pod, &pod.spec.containers[0], &image, Path::new("/seccomp"));
            assert_eq!(made.err().unwrap_or_default(), expect);
        };
        let uid = |uid| ImageUser { uid: Some(uid), name: String::new() };
        let named = ImageUser { uid: None, name: "www".into() };
        let whom = "(pod: \"p_n(u)\", container: c)";
        check(json!({}), json!({}), uid(0), "");
        check(json!({"runAsNonRoot": true}), json!({}), uid(7), "");
        check(
            json!({"runAsNonRoot": true}),
            json!({}),
            uid(0),
            &format!("container has runAsNonRoot and image will run as root {whom}"),
        );
        check(
            json!({"runAsNonRoot": true}),
            json!({"runAsUser": 0}),
            uid(7),
            &format!("container's runAsUser breaks non-root policy {whom}"),
        );
        check(
            json!({}),
            json!({"runAsNonRoot": true}),
            named.clone(),
            &format!(
                "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root {whom}"
            ),
        );
        check(json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), named, "");
    }

    #[test]
    fn merged() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"shareProcessNamespace": true, "hostIPC": true,
            "securityContext": {"runAsUser": 5, "fsGroup": 9, "supplementalGroups": [8], "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 6, "allowPrivilegeEscalation": false,
                "procMount": "Unmasked", "capabilities": {"drop": ["ALL"]}}}]}}))
        .unwrap();
        let made = of_container(&pod, &pod.spec.containers[0], &ImageUser::default(), Path::new("/s")).unwrap();
        assert_eq!(made.run_as_user, Some(Int64Value { value: 6 }));
        assert_eq!(made.supplemental_groups, [9, 8]);
        assert!(made.no_new_privs && made.masked_paths.is_empty());
        assert_eq!(made.seccomp.unwrap().profile_type, ProfileType::RuntimeDefault as i32);
        let ns = made.namespace_options.unwrap();
        assert_eq!((ns.pid, ns.ipc), (NamespaceMode::Pod as i32, NamespaceMode::Node as i32));
    }
}
