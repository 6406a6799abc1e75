use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::*;

fn at(text: &str) -> LevelVersion {
    let (level, version) = text.split_once(':').unwrap();
    LevelVersion { level: Level::parse(level).unwrap(), version: Version::parse(version).unwrap() }
}

/// A pod that is allowed at every level and version.
fn good() -> Value {
    let container = |name: &str| json!({"name": name, "image": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    json!({"metadata": {"name": "p"}, "spec": {"containers": [container("c")], "initContainers": [container("i")],
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}}})
}

/// What the levels say to the good pod with a JSON merge patch.
fn check(levels: &[&str], patch: Value, wanted: &str) {
    let mut pod = good();
    object::patch::merge(&mut pod, &patch);
    for level in levels {
        let found = evaluate(at(level), &pod["metadata"], &pod["spec"]);
        assert_eq!(detail(&found), wanted, "{level}: {patch}");
    }
}

/// The patch of both containers' security contexts.
fn containers_with(context: Value) -> Value {
    let pod = good();
    let patched = |of: &str| {
        let mut containers = pod["spec"][of].clone();
        object::patch::merge(&mut containers[0]["securityContext"], &context);
        containers
    };
    json!({"spec": {"containers": patched("containers"), "initContainers": patched("initContainers")}})
}

const BOTH: [&str; 2] = ["baseline:latest", "restricted:latest"];
const STRICT: [&str; 1] = ["restricted:latest"];

#[test]
fn a_good_pod_passes_and_privileged_passes_all() {
    for minor in 0..40 {
        for level in ["baseline", "restricted"] {
            check(&[&format!("{level}:v1.{minor}")], json!({}), "");
        }
    }
    check(&["privileged:latest"], json!({"spec": {"hostPID": true}}), "");
}

#[test]
fn baseline_checks() {
    check(
        &BOTH,
        json!({"spec": {"hostNetwork": true, "hostPID": true, "hostIPC": false}}),
        "host namespaces (hostNetwork=true, hostPID=true)",
    );
    check(
        &BOTH,
        containers_with(json!({"privileged": true})),
        "privileged (containers \"i\", \"c\" must not set securityContext.privileged=true)",
    );
    let added = json!({"capabilities": {"add": ["NET_RAW", "CHOWN"]}});
    check(
        &["baseline:latest"],
        containers_with(added),
        "non-default capabilities (containers \"i\", \"c\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
    );
    check(
        &BOTH,
        json!({"spec": {"ephemeralContainers": [{"name": "e", "ports": [{"hostPort": 20}, {"hostPort": 3}, {"hostPort": 0}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}),
        "hostPort (container \"e\" uses hostPorts 20, 3)",
    );
    check(
        &BOTH,
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}},
            "spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}),
        "forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
    );
    let options = json!({"spec": {"securityContext": {"seLinuxOptions": {"type": "container_engine_t", "user": "u", "role": "r"}}}});
    check(
        &["baseline:v1.30"],
        options.clone(),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\"; user may not be set; role may not be set)",
    );
    check(
        &["baseline:v1.31"],
        options,
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set; role may not be set)",
    );
    check(
        &BOTH,
        json!({"spec": {"securityContext": {"windowsOptions": {"hostProcess": true}}}}),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    );
    let probed = json!({"spec": {"ephemeralContainers": [{"name": "e", "livenessProbe": {"httpGet": {"host": "b"}},
        "lifecycle": {"preStop": {"tcpSocket": {"host": "a"}}}}]}});
    check(
        &["baseline:latest", "baseline:v1.34"],
        probed.clone(),
        "probe or lifecycle host (container \"e\" uses probe or lifecycle hosts \"a\", \"b\")",
    );
    check(&["baseline:v1.33"], probed, "");
}

#[test]
fn sysctls_come_to_be_allowed() {
    let sysctls =
        ["net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_wmem", "kernel.msgmax"];
    let sysctls: Vec<Value> = sysctls.iter().map(|name| json!({"name": name, "value": "1"})).collect();
    let patch = json!({"spec": {"securityContext": {"sysctls": sysctls}}});
    for (version, wanted) in [
        ("v1.26", "net.ipv4.ip_local_reserved_ports, net.ipv4.tcp_fin_timeout, net.ipv4.tcp_wmem, kernel.msgmax"),
        ("v1.27", "net.ipv4.tcp_fin_timeout, net.ipv4.tcp_wmem, kernel.msgmax"),
        ("v1.29", "net.ipv4.tcp_wmem, kernel.msgmax"),
        ("v1.32", "kernel.msgmax"),
        ("latest", "kernel.msgmax"),
    ] {
        check(&[&format!("baseline:{version}")], patch.clone(), &format!("forbidden sysctls ({wanted})"));
    }
}

#[test]
fn restricted_checks() {
    let bare = json!({"spec": {"initContainers": null, "securityContext": null, "containers": [{"name": "c"}]}});
    check(
        &STRICT,
        bare.clone(),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    check(
        &["restricted:v1.7"],
        bare.clone(),
        "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
    );
    let mut windows = bare.clone();
    windows["spec"]["os"] = json!({"name": "windows"});
    windows["spec"]["hostUsers"] = false.into();
    check(&STRICT, windows, "");
    check(&["baseline:latest"], bare, "");
    check(
        &STRICT,
        containers_with(
            json!({"capabilities": {"drop": ["NET_RAW"], "add": ["NET_BIND_SERVICE", "CHOWN"]}, "runAsNonRoot": false, "runAsUser": 0}),
        ),
        "unrestricted capabilities (containers \"i\", \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; containers \"i\", \"c\" must not include \"CHOWN\" in securityContext.capabilities.add), runAsNonRoot != true (containers \"i\", \"c\" must not set securityContext.runAsNonRoot=false), runAsUser=0 (containers \"i\", \"c\" must not set runAsUser=0)",
    );
    check(
        &STRICT,
        json!({"spec": {"volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}, {"name": "d", "emptyDir": {}}, {"name": "e"}]}}),
        "restricted volume types (volumes \"a\", \"b\", \"e\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")",
    );
    check(
        &["baseline:latest"],
        json!({"spec": {"volumes": [{"name": "a", "hostPath": {}}]}}),
        "hostPath volumes (volume \"a\")",
    );
    check(
        &STRICT,
        json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}),
        "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    check(
        &["baseline:v1.18", "restricted:v1.18"],
        json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined", "container.seccomp.security.alpha.kubernetes.io/c": "localhost/x"}}}),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
    );
}

#[test]
fn user_namespaces_relax_since_1_35() {
    let mut patch = containers_with(json!({"procMount": "Unmasked", "runAsUser": 0}));
    patch["spec"]["hostUsers"] = false.into();
    let mounts = "procMount (containers \"i\", \"c\" must not set securityContext.procMount to \"Unmasked\")";
    check(&["baseline:v1.34", "restricted:latest"], patch.clone(), mounts);
    check(&["baseline:v1.35"], patch.clone(), "");
    let zero = "runAsUser=0 (containers \"i\", \"c\" must not set runAsUser=0)";
    check(&["restricted:v1.34"], patch, &format!("{mounts}, {zero}"));
}

#[test]
fn labels_make_policies() {
    let policy = |labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), (*v).to_owned())).collect();
        let (policy, errors) = Policy::of(&labels, &Policy::default());
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        (format!("{} {} {}", policy.enforce, policy.audit, policy.warn), errors.join("; "))
    };
    let ok = |text: &str| (text.to_owned(), String::new());
    assert_eq!(policy(&[]), ok("privileged:latest privileged:latest privileged:latest"));
    let enforced = policy(&[("enforce", "baseline"), ("enforce-version", "v1.20")]);
    assert_eq!(enforced, ok("baseline:v1.20 privileged:latest baseline:v1.20"), "warned, too");
    let quiet = policy(&[("enforce", "baseline"), ("warn", "privileged"), ("audit", "restricted")]);
    assert_eq!(quiet, ok("baseline:latest restricted:latest privileged:latest"));
    let (bad, errors) = policy(&[("enforce", "foo"), ("warn", "bar"), ("audit-version", "v1.01")]);
    assert_eq!(bad, "restricted:latest privileged:latest privileged:latest");
    assert_eq!(
        errors,
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"foo\": must be one of privileged, baseline, restricted; \
         metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"; \
         metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"bar\": must be one of privileged, baseline, restricted"
    );
}

#[test]
fn what_concerns_pods() {
    let made = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"hostPID": true}}}}}});
    assert_eq!(template("batch", "cronjobs", &made).unwrap().1["hostPID"], true);
    assert!(template("apps", "deployments", &Value::Object(Map::new())).is_none());
    assert!(template("", "configmaps", &made).is_none());
    let mut changed = good();
    changed["metadata"]["labels"] = json!({"a": "b"});
    assert!(!is_significant(&changed, &good()));
    changed["spec"]["containers"][0]["image"] = "other".into();
    assert!(is_significant(&changed, &good()));
    let debugged = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
    assert!(is_significant(&debugged, &json!({"spec": {}})) && !is_significant(&debugged, &debugged));
}
